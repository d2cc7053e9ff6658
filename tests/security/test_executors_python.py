"""The executor of Python keeps its deadlines: programs that hang inside one C call, and batches of them.

The fast tests judge what is refused and why, for some of them; those marked slow take all of them, and the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from deadlines import MARGIN, in_time

from symphony_fl.learning.executors import python as executor
from symphony_fl.learning.executors.python import Call, PythonLimits, run_calls
from symphony_fl.learning.skills import ProposalError, ProposingSkill
from symphony_fl.learning.skills.programs.code import CODE

SECONDS = 0.4
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


def hung_and_honest(expression: str, seconds: float) -> None:
    """A program that hangs is stopped, and one beside it is answered."""
    program = f"import math, itertools, collections, re\ndef f(x): return {expression}"
    limits = PythonLimits(seconds=seconds)
    hung, honest = run_calls([Call(program, (8,)), Call("def f(x): return x", (1,))], limits)
    assert hung.error and hung.error != "unparsable" and honest.value == 1


@pytest.mark.parametrize("expression", HANGING[::5])
def test_a_c_call_of_python_ends(expression: str) -> None:
    hung_and_honest(expression, SECONDS / 2)


@pytest.mark.slow
@pytest.mark.parametrize("expression", HANGING)
def test_a_c_call_of_python_ends_at_its_deadline(expression: str) -> None:
    with in_time(SECONDS):
        hung_and_honest(expression, SECONDS)


SPIN = "def f(x):\n while x > 0: x = x + 1\n return x"


def test_a_batch_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over after two or three deadlines of one call each: most of the forty are never begun."""
    starts: list[object] = []

    def counted(*arguments: Any) -> Any:
        starts.append(arguments)
        return talk(*arguments)

    talk = executor._talk
    monkeypatch.setattr(executor, "_talk", counted)
    limits = PythonLimits(seconds=SECONDS / 2, batch_seconds=SECONDS)
    found = run_calls([Call(SPIN, (1,))] * 40, limits)
    assert {outcome.error for outcome in found} == {"time"} and len(found) == 40
    assert 2 <= len(starts) <= 4


@pytest.mark.slow
def test_a_batch_ends_at_its_deadline() -> None:
    with in_time(PythonLimits().batch_seconds + MARGIN):
        found = run_calls([Call(SPIN, (1,))] * 40, PythonLimits(seconds=SECONDS))
    assert {outcome.error for outcome in found} == {"time"} and len(found) == 40


INDUCTION = CODE[2]
ENDLESS_PROPOSAL = "def f(x):\n while x: x = x + 1\n return x  # " + ", ".join(f"f({n})" for n in range(1, 7))
ENDLESS_ANSWER = "def f(x):\n while True: x = 1"


def test_calls_that_hang_are_refused() -> None:
    assert isinstance(INDUCTION, ProposingSkill)
    with pytest.raises(ProposalError) as refused:
        INDUCTION.parse_proposal(ENDLESS_PROPOSAL, 1)
    assert refused.value.reason == "executor"
    assert INDUCTION.verify(INDUCTION.generate(np.random.default_rng(0), 1), ENDLESS_ANSWER) == 0.0


@pytest.mark.slow
def test_six_calls_that_hang_cost_one() -> None:
    """A proposal was run to the end of six deadlines, twice (14.8 s); a judged program of six."""
    assert isinstance(INDUCTION, ProposingSkill)
    with in_time(1.0), pytest.raises(ProposalError):
        INDUCTION.parse_proposal(ENDLESS_PROPOSAL, 1)
    task = INDUCTION.generate(np.random.default_rng(0), 1)
    with in_time(2.0):
        assert INDUCTION.verify(task, ENDLESS_ANSWER) == 0.0
