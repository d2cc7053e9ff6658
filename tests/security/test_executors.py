"""Executors keep their deadlines: queries and programs that hang inside one C call, flood or take all memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from symphony_fl.learning.executors.python import Call, PythonLimits, run_calls
from symphony_fl.learning.executors.sql import Database
from symphony_fl.learning.executors.sql_guard import SqlError, SqlLimits
from symphony_fl.learning.skills import SKILLS, ProposalError, ProposingSkill
from symphony_fl.learning.skills.programs.code import CODE

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 0.4
MARGIN = 2.5  # the grace of a clean refusal, a new worker's start, and a busy machine
SCRIPT = "CREATE TABLE t (id INTEGER, name TEXT); INSERT INTO t VALUES " + ", ".join(
    f"({n}, 'name {n}')" for n in range(40)
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="layers of Linux")

# x: 96,000 times a, of a query that is short
LONG = "WITH w(x) AS (SELECT replace(replace('{0}', 'a', '{0}'), 'a', '{1}')) ".format("a" * 80, "a" * 15)
PAIRS = "t a, t b, t c, t d, t e"
MATCHES = "x || a.id LIKE '%{0}b%' OR x || b.id LIKE '%{0}c%' OR x || c.id LIKE '%{0}d%'"
ONE_INSTRUCTION = {
    "ltrim": LONG + "SELECT length(ltrim(replace(x, 'a', 'b'), substr(x, 1, 8200) || 'b')) FROM w",
    "rtrim": LONG + "SELECT length(rtrim(replace(x, 'a', 'b'), substr(x, 1, 8200) || 'b')) FROM w",
    "trim": LONG + "SELECT length(trim(replace(x, 'a', 'b'), substr(x, 1, 8200) || 'b')) FROM w",
    "trim of each row": LONG + f"SELECT count(*) FROM w, {PAIRS} WHERE ltrim(x, a.id + b.id + c.id) = 'b'",
}
BY_AND_BY = {
    "like": LONG + f"SELECT count(*) FROM w, {PAIRS} WHERE {MATCHES.format('a' * 90)}",
    "like with underscores": LONG + f"SELECT count(*) FROM w, {PAIRS} WHERE {MATCHES.format('_' * 90)}",
    "like of columns": LONG + f"SELECT count(*) FROM w, {PAIRS} WHERE x LIKE '%' || a.name || '%' || b.name",
    "replace": LONG + f"SELECT sum(length(replace(x, substr(x, 1, 40000) || a.id, ''))) FROM w, {PAIRS}",
    "instr": LONG + f"SELECT sum(instr(x, substr(x, 1, 48000) || a.id)) FROM w, {PAIRS}",
    "upper": LONG + f"SELECT sum(length(upper(x))) FROM w, {PAIRS}",
    "group_concat": f"SELECT length(group_concat(a.name || b.name, '')) FROM {PAIRS} GROUP BY a.id, c.id, e.id",
    "cross join": f"SELECT count(*) FROM {PAIRS}, t f, t g",
    "recursion": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
    "window": f"SELECT sum(s) FROM (SELECT sum(a.id) OVER (ORDER BY b.id ROWS BETWEEN UNBOUNDED PRECEDING "
              f"AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW) s FROM {PAIRS})",
    "ranks": f"SELECT max(r) FROM (SELECT rank() OVER (ORDER BY a.name || b.name || c.name) r FROM {PAIRS})",
    "sort": f"SELECT a.name FROM {PAIRS} ORDER BY b.name || c.name DESC, a.name || d.name LIMIT 1",
    "distinct": f"SELECT count(DISTINCT a.name || b.name || c.name || d.name || e.name) FROM {PAIRS}",
    "subqueries": f"SELECT count(*) FROM t a WHERE (SELECT count(*) FROM {PAIRS} WHERE d.id <> a.id) > 0",
}  # fmt: skip
LARGE = {
    "rows": f"SELECT a.id FROM {PAIRS}",
    "cells": LONG + "SELECT x FROM w, t",
    "wide": "SELECT " + ", ".join("a.*" for _ in range(99)) + f" FROM {PAIRS}",
    "empty cells": "SELECT " + ", ".join("''" for _ in range(199)) + f" FROM {PAIRS}",
    "a sort of long texts": LONG +
    f"SELECT length(max(y)) FROM (SELECT x || a.id || b.id y FROM w, {PAIRS} ORDER BY y)",
    "distinct long texts": LONG + f"SELECT count(*) FROM (SELECT DISTINCT x || a.id || b.id || c.id FROM w, {PAIRS})",
    "doubling": "WITH RECURSIVE n(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM n) SELECT length(x) FROM n",
    "a set that grows": "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n) SELECT x FROM n ORDER BY x DESC",
}  # fmt: skip
FORBIDDEN = (
    "EXPLAIN SELECT * FROM t",
    "EXPLAIN QUERY PLAN SELECT * FROM t",
    " ; /* c */ -- d\n eXpLaIn query plan SELECT 1",
    "\ufeffEXPLAIN SELECT 1",
    "EXPLAIN SELECT count(*) FROM t, t, t",
    "PRAGMA database_list",
    "PRAGMA mmap_size = 1000000",
    "SELECT * FROM pragma_function_list",
    "ATTACH '/etc/passwd' AS p",
    "DETACH main",
    "VACUUM INTO '/tmp/stolen'",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT * FROM dbstat",
    "SELECT hex(zeroblob(49000))",
    "SELECT printf('%099999d', 1)",
    "SELECT format('%99999s', 1)",
    "SELECT json_array(1)",
    "SELECT json_group_array(id) FROM t",
    "SELECT 'a' GLOB '*****a'",
    "SELECT * FROM json_each('[1]')",
    "SELECT randomblob(1000000)",
    "SAVEPOINT s",
)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.from_script(SCRIPT) as opened:
        assert opened.query("SELECT count(*) FROM t") == [(40,)]
        yield opened


def refusal(database: Database, query: str) -> str:
    """The reason why a query was refused in time, after which an honest one is answered."""
    start = time.monotonic()
    with pytest.raises(SqlError) as refused:
        database.query(query, SqlLimits(seconds=SECONDS))
    assert time.monotonic() - start < SECONDS + MARGIN
    assert database.query("SELECT max(id) FROM t WHERE name LIKE 'name%'") == [(39,)]
    return refused.value.reason


@pytest.mark.parametrize("name", ONE_INSTRUCTION)
def test_one_instruction_that_takes_long_is_killed(database: Database, name: str) -> None:
    assert refusal(database, ONE_INSTRUCTION[name]) == "time"


@pytest.mark.parametrize("name", BY_AND_BY)
def test_a_query_that_takes_long_by_and_by_is_stopped(database: Database, name: str) -> None:
    assert refusal(database, BY_AND_BY[name]) in ("time", "memory", "too_large")


@pytest.mark.parametrize("name", LARGE)
def test_a_query_that_grows_is_refused(database: Database, name: str) -> None:
    assert refusal(database, LARGE[name]) in ("too_large", "memory", "time", "invalid")


@pytest.mark.parametrize("query", FORBIDDEN)
def test_what_is_no_select_is_forbidden(database: Database, query: str) -> None:
    assert refusal(database, query) in ("forbidden", "invalid")
    assert "EXPLAIN" not in query.upper() or refusal(database, query) == "forbidden"


def test_a_judged_completion_is_cut_off() -> None:
    """Through the skill: the reward is 0, soon, and the right answer still earns 1."""
    task = SKILLS["text2sql"].generate(np.random.default_rng(0), 1)
    start = time.monotonic()
    assert SKILLS["text2sql"].verify(task, ONE_INSTRUCTION["ltrim"]) == 0.0
    assert time.monotonic() - start < 1 + MARGIN
    assert SKILLS["text2sql"].verify(task, task.answer) == 1.0


def worker(database: Database) -> psutil.Process:
    """The process in which this one's queries run."""
    database.query("SELECT 1")
    (found,) = (
        child
        for child in psutil.Process().children()
        if any("sql_worker" in part for part in child.cmdline())
    )
    return found


@linux
def test_the_worker_is_confined(database: Database) -> None:
    process = worker(database)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "Seccomp:\t2" in status and ("Uid:\t65534" in status) == (os.geteuid() == 0)
    limits = {line[:26].strip(): line[26:].split()[:2] for line in Path(f"/proc/{process.pid}/limits").open()}
    for limit in ("Max open files", "Max processes", "Max file size", "Max core file size"):
        assert limits[limit] == ["0", "0"], limit
    assert int(limits["Max address space"][1]) <= 512 * 2**20


def test_a_worker_that_is_killed_is_replaced(database: Database) -> None:
    before = worker(database)
    before.kill()
    assert database.query("SELECT count(*) FROM t") == [(40,)]
    assert worker(database) != before and len(worker(database).parent().children()) >= 1


def test_threads_take_turns(database: Database) -> None:
    found: list[object] = []

    def ask(number: int) -> None:
        query = ONE_INSTRUCTION["ltrim"] if number == 2 else f"SELECT id FROM t WHERE id = {number}"
        try:
            found.append((number, database.query(query, SqlLimits(seconds=SECONDS))))
        except SqlError as error:
            found.append((number, error.reason))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    expected = [(n, "time" if n == 2 else [(n,)]) for n in range(6)]
    assert sorted(found, key=str) == sorted(expected, key=str)


@linux
def test_the_worker_dies_with_its_parent_even_while_it_hangs() -> None:
    code = (
        "import sys, threading; from symphony_fl.learning.executors.sql import Database, SqlLimits\n"
        "import psutil\n"
        "database = Database.from_script('CREATE TABLE t (id)'); database.query('SELECT 1')\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "database.query(sys.argv[1], SqlLimits(seconds=60))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, ONE_INSTRUCTION["ltrim"]], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert child.cpu_times().user > 0.2, "it hangs in ltrim"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs([child], timeout=5)[1]


@pytest.mark.parametrize("hang", [False, True])
def test_a_fork_starts_a_worker_of_its_own(database: Database, hang: bool) -> None:
    before = worker(database)
    child = os.fork()
    if child == 0:
        try:
            if hang:
                refusal(database, ONE_INSTRUCTION["rtrim"])
            right = database.query("SELECT count(*) FROM t") == [(40,)] and worker(database) != before
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker(database) == before


@pytest.mark.parametrize(
    "said",
    [
        "b'\\xff' * 10**9",
        "b'\\0\\0\\0\\5hello'",
        "b'\\0\\0\\0\\0'",
        "b'\\0\\0\\0\\x0e{\"rows\": [[]]}x'",
        "b'\\0\\0\\0\\x15{\"rows\": [[[1, 2, 3]]]}'",
        "b'\\0\\0\\0\\x11{\"rows\": [[true]]}'",
        'b\'\\0\\0\\0\\x14{"error": "anything"}\'',
        "(100000).to_bytes(4, 'big') + b'[' * 100000",
        "b'\\0\\0\\1'",
        "b''",
    ],
)
def test_a_worker_that_was_taken_over_is_not_believed(
    database: Database, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    from symphony_fl.learning.executors import sql_process

    said_then = (
        "import os, sys, time; os.write(1, (14).to_bytes(4, 'big') + b'{\"layers\": []}'); "
        "sys.stdin.buffer.read(4 + int.from_bytes(sys.stdin.buffer.peek()[:4], 'big')); sys.stdin.buffer.peek(); "
        f"sys.stdout.buffer.write({said}); sys.stdout.flush(); time.sleep(60)"
    )
    sql_process.PROCESS.close()
    with monkeypatch.context() as patched:
        patched.setattr(sql_process, "_MAIN", said_then)
        start = time.monotonic()
        with pytest.raises(SqlError) as refused:
            database.query("SELECT 1", SqlLimits(seconds=SECONDS))
        assert refused.value.reason in ("died", "time") and time.monotonic() - start < SECONDS + MARGIN
    assert database.query("SELECT count(*) FROM t") == [(40,)]


HANGING = (
    "10 ** 10 ** x", "'a' * 10 ** (x + 1)", "pow(7, 10 ** x)", "sorted(range(10 ** x))", "str(10 ** 10 ** 6 * x)",
    "sum(range(10 ** (x + 3)))", "max(range(10 ** (x + 3)))", "[0] * 10 ** (x + 1)", "list(range(10 ** (x + 1)))",
    "5.5 in range(10 ** (x + 2))", "1 << 10 ** (x + 2)",
    "math.factorial(10 ** x)", "math.comb(10 ** x, 10 ** x // 2)", "math.perm(10 ** x)", "math.prod(range(1, 10 ** x))",
    "math.isqrt(10 ** 10 ** 7)", "math.gcd(3 ** 10 ** x, 7)", "math.lcm(*range(1, 10 ** x))",
    "all(itertools.count(1))", "list(itertools.product(range(x), repeat=30))", "5 in itertools.repeat(x)",
    "sum(itertools.combinations(range(99), 30), ())", "collections.deque(itertools.count(), 1)",
    "collections.Counter(itertools.cycle('ab'))", "re.match('(a+)+b', 'a' * 64)", "re.sub('(a|a)*c', '', 'a' * 64)",
    "''.join(itertools.repeat('a'))", "('a' * 10 ** 6).replace('a', 'b' * 10 ** 5)", "('ab' * 10 ** 7).split('a')",
    "f'{x:1000000000}'", "'%1000000000d' % x", "bytes(10 ** (x + 2))", "dict.fromkeys(range(10 ** x))",
    "frozenset(range(10 ** x))", "reversed(sorted('ab' * 10 ** x))", "divmod(10 ** 10 ** x, 3)",
    "int('1' * 4000) ** 10 ** x",
)  # fmt: skip


@pytest.mark.parametrize("expression", HANGING)
def test_a_c_call_of_python_ends_at_its_deadline(expression: str) -> None:
    program = f"import math, itertools, collections, re\ndef f(x): return {expression}"
    limits = PythonLimits(seconds=SECONDS)
    start = time.monotonic()
    hung, honest = run_calls([Call(program, (8,)), Call("def f(x): return x", (1,))], limits)
    assert hung.error and hung.error != "unparsable" and honest.value == 1
    assert time.monotonic() - start < SECONDS + MARGIN


SPIN = "def f(x):\n while x > 0: x = x + 1\n return x"
SLOW = "def f(x): return sum([y % 7 for y in range({})]) + x"


def test_a_batch_has_a_deadline_of_its_own() -> None:
    start = time.monotonic()
    found = run_calls([Call(SPIN, (1,))] * 40, PythonLimits(seconds=SECONDS))
    assert {outcome.error for outcome in found} == {"time"} and len(found) == 40
    assert time.monotonic() - start < PythonLimits().batch_seconds + 2 * MARGIN


def test_six_calls_that_hang_cost_one() -> None:
    """A proposal was run to the end of six deadlines, twice (14.8 s); a judged program of six."""
    induction = CODE[2]
    assert isinstance(induction, ProposingSkill)
    calls = ", ".join(f"f({n})" for n in range(1, 7))
    start = time.monotonic()
    with pytest.raises(ProposalError) as refused:
        induction.parse_proposal(f"def f(x):\n while x: x = x + 1\n return x  # {calls}", 1)
    assert refused.value.reason == "executor" and time.monotonic() - start < 1 + MARGIN
    task = induction.generate(np.random.default_rng(0), 1)
    start = time.monotonic()
    assert induction.verify(task, "def f(x):\n while True: x = 1") == 0.0
    assert time.monotonic() - start < 2 + MARGIN
