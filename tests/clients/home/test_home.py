"""The agent's home: what is committed comes back to the bit, and a kill at any instant leaves a whole round."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.home.founding import HomeError
from clients.home.home import COPY, MAIL, MAIL_COPY, STATE, Home
from clients.home.state_file import State
from examples import THOROUGH, examples
from symphony_fl.identity.key_file import KeyFileError


def _state(round: int, entries: int = 50) -> State:
    rng = np.random.default_rng(round)
    return State(
        adapter=rng.standard_normal(entries).astype(np.float32),
        arrays={"optimizer/step": np.array([round], np.int64), "rule/residual": rng.standard_normal(entries)},
        outbox={round - 1: {"0": b"older"}, round: {"0": b"newest", "1>2,3": b""}},
        relay={"1>2": b"of another"},
        round=round,
        last_seen={"did:key:z1": round},
        roster={"0": "did:key:z1"},
        reports={round: {"averaged": {"reward": 0.5}, "metrics": {}, "adapter": "ab"}},
        tasks=[{"skill": "reverse", "prompt": "<reverse>ab=", "answer": "ba"}],
        letters={"did:key:z2": round},
    )


def test_a_new_home_is_empty(tmp_path: Path) -> None:
    assert Home(tmp_path / "home").load() is None


def test_commit_and_load_give_back_every_bit(tmp_path: Path) -> None:
    state = _state(3)
    Home(tmp_path).commit(state)
    loaded = Home(tmp_path).load()
    assert loaded is not None
    assert np.array_equal(loaded.adapter, state.adapter)
    assert loaded.arrays.keys() == state.arrays.keys()
    for name, array in state.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert np.array_equal(loaded.arrays[name], array)
    assert (loaded.outbox, loaded.round, loaded.last_seen) == (state.outbox, 3, {"did:key:z1": 3})
    assert (loaded.tasks, loaded.letters) == (state.tasks, {"did:key:z2": 3})
    assert (loaded.relay, loaded.roster, loaded.reports) == (state.relay, state.roster, state.reports)


@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
    shift=st.integers(0, 63),
    rows=st.booleans(),
)
@examples(100)
def test_whole_numbers_come_back_whatever_their_size(numbers: list[int], shift: int, rows: bool) -> None:
    array = np.array(numbers, np.int64) >> shift
    if rows:
        array = np.stack([array, -array])
    with tempfile.TemporaryDirectory() as folder:
        Home(Path(folder)).commit(State(np.ones(3, np.float32), {"rule/total": array, "rule/other": array}))
        state = Home(Path(folder)).load()
    assert state is not None
    for name in ("rule/total", "rule/other"):
        found = state.arrays[name]
        assert found.dtype == np.int64 and found.shape == array.shape and np.array_equal(found, array)


def test_what_is_there_twice_is_stored_once_and_comes_back_apart(tmp_path: Path) -> None:
    adapter = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    grid = (adapter * 2.0**30).astype(np.int64)
    Home(tmp_path).commit(State(adapter, {"rule/start": adapter.copy(), "rule/residual": grid}))
    assert (tmp_path / STATE).stat().st_size < (4 + 5) * 10_000 + 2000
    state = Home(tmp_path).load()
    assert state is not None and np.array_equal(state.arrays["rule/residual"], grid)
    state.arrays["rule/start"][:] = 0
    assert np.array_equal(state.adapter, adapter)


def test_octets_are_not_taken_for_the_numbers_they_could_be(tmp_path: Path) -> None:
    octets = np.array([[1], [2]], np.uint8)
    Home(tmp_path).commit(State(np.ones(3, np.float32), {"a": octets, "b": np.array([1, 2], np.int64)}))
    state = Home(tmp_path).load()
    assert state is not None and state.arrays["a"].dtype == np.uint8
    assert np.array_equal(state.arrays["a"], octets) and state.arrays["b"].tolist() == [1, 2]


def _keeping(folder: Path) -> Home:
    home = Home(folder)
    home.commit(_state(1))
    home.keep_mail({"1/1/0": b"an envelope", "2/1/0": b""})
    return home


def _kept(folder: Path) -> tuple[dict[str, bytes], str]:
    home = Home(folder)
    home.open()
    return home.kept_mail()


def test_mail_is_kept_until_a_commit_holds_it(tmp_path: Path) -> None:
    home = _keeping(tmp_path)
    assert _kept(tmp_path) == ({"1/1/0": b"an envelope", "2/1/0": b""}, "")
    old = (tmp_path / MAIL).read_bytes()
    home.commit(_state(2))
    assert _kept(tmp_path) == ({}, "")
    (tmp_path / MAIL).write_bytes(old)  # as after a kill before it was removed
    assert _kept(tmp_path) == ({}, "")


@pytest.mark.parametrize("name", [MAIL, MAIL_COPY])
@pytest.mark.parametrize("damage", ["truncate", "empty", "gone"])
def test_a_damaged_file_of_kept_mail_is_replaced_by_the_other(tmp_path: Path, name: str, damage: str) -> None:
    _keeping(tmp_path)
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        _harm(tmp_path / name, damage)
    mail, said = _kept(tmp_path)
    assert mail == {"1/1/0": b"an envelope", "2/1/0": b""}
    assert (f"{name}: damaged" in said) == ((name, damage) != (MAIL_COPY, "gone"))
    assert (tmp_path / MAIL).read_bytes() == (tmp_path / MAIL_COPY).read_bytes()


def test_kept_mail_of_which_no_file_is_whole_is_refused(tmp_path: Path) -> None:
    _keeping(tmp_path)
    for name in (MAIL, MAIL_COPY):
        _harm(tmp_path / name, "truncate")
    with pytest.raises(HomeError, match="mail.safetensors: damaged.*mail.copy.safetensors: damaged"):
        _kept(tmp_path)


def test_only_the_last_rounds_are_kept(tmp_path: Path) -> None:
    state = _state(5)
    state.outbox = {number: {"0": b"x"} for number in range(6)}
    state.reports = {number: {"adapter": str(number)} for number in range(6)}
    Home(tmp_path).commit(state)
    loaded = Home(tmp_path).load()
    assert loaded is not None
    assert sorted(loaded.outbox) == sorted(loaded.reports) == [4, 5]


def test_a_device_keeps_one_key_beside_its_homes(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    key = Home(tmp_path / "a", tmp_path).key()
    assert Home(tmp_path / "b", tmp_path).key() == key
    assert not (tmp_path / "a" / "key").exists()


def test_a_home_held_is_not_shared_until_released(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire()
    with pytest.raises(HomeError, match="another process"), Home(tmp_path).locked(timeout=0.05):
        pass
    home.release()
    with Home(tmp_path).locked(timeout=0.05):
        pass


def test_the_key_is_private_and_lasting(tmp_path: Path) -> None:
    key = Home(tmp_path).key()
    assert len(key) == 32 and Home(tmp_path).key() == key
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(KeyFileError, match="must be a key of 32"):
        Home(tmp_path).key()


def test_a_home_belongs_to_one_run_and_recipe(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.found("run-a", "{}")
    home.found("run-a", "{}")
    with pytest.raises(HomeError, match="belongs to run 'run-a'"):
        home.found("run-b", "{}")
    with pytest.raises(HomeError, match="another recipe"):
        home.found("run-a", '{"seed": 1}')


def _harm(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    header = int.from_bytes(data[:8], "little") + 8
    if damage == "truncate":
        data = data[:-5]
    elif damage == "flip":
        data[header + 1] ^= 0x40  # the adapter comes first or the arrays do: flip both ends
        data[header + 4 * 50 + 8 + 1] ^= 0x40
    elif damage == "type":
        data[:header] = data[:header].replace(b'"dtype":"F32"', b'"dtype":"I32"')
    else:
        data = bytearray()
    path.write_bytes(data)


DAMAGES = ["truncate", "flip", "type", "empty"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_both_files_is_noticed(tmp_path: Path, damage: str) -> None:
    home = Home(tmp_path)
    home.commit(_state(1))
    for name in (STATE, COPY):
        _harm(tmp_path / name, damage)
    for use in (home.load, home.open):
        with pytest.raises(HomeError, match="state.safetensors: damaged.*state.copy.safetensors: damaged"):
            use()


@pytest.mark.parametrize("name", [STATE, COPY])
@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_a_damaged_file_is_replaced_by_the_other(tmp_path: Path, name: str, damage: str) -> None:
    home = Home(tmp_path)
    home.commit(_state(4))
    whole = (tmp_path / STATE).read_bytes()
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        _harm(tmp_path / name, damage)
    before = (tmp_path / STATE).exists() and (tmp_path / STATE).read_bytes()
    loaded = home.load()
    assert loaded is not None and loaded.round == 4
    assert ((tmp_path / STATE).exists() and (tmp_path / STATE).read_bytes()) == before, "load changes nothing"
    state, said = home.open()
    assert state is not None and state.round == 4
    assert said == "" if (name, damage) == (COPY, "gone") else f"{name}: damaged" in said
    assert (tmp_path / STATE).read_bytes() == (tmp_path / COPY).read_bytes() == whole


@given(where=st.integers(0, 1 << 30), mask=st.integers(1, 255), both=st.booleans())
@examples(150)
def test_no_flipped_byte_is_taken_for_the_state(where: int, mask: int, both: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.commit(_state(2))
        whole = (Path(folder) / STATE).read_bytes()
        for name in (STATE, COPY) if both else (STATE,):
            data = bytearray(whole)
            data[where % len(data)] ^= mask
            (Path(folder) / name).write_bytes(data)
        if both:
            with contextlib.suppress(HomeError):  # or the flip changed nothing that counts, such as a space
                found = home.open()[0]
                assert (
                    found is not None
                    and found.round == 2
                    and np.array_equal(found.adapter, _state(2).adapter)
                )
            return
        found, _ = home.open()
        assert found is not None and np.array_equal(found.adapter, _state(2).adapter)
        assert found.outbox == _state(2).outbox


def test_killed_between_the_two_files_it_is_the_newer_commit_that_both_hold_before_anything_is_said(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.commit(_state(1))
    older = (tmp_path / COPY).read_bytes()
    home.commit(_state(2))
    (tmp_path / COPY).write_bytes(older)  # as after a kill
    state, said = home.open()
    assert state is not None and state.round == 2 and said == ""
    _harm(tmp_path / STATE, "flip")
    state, said = home.open()
    assert state is not None and state.round == 2 and "damaged" in said


def test_a_home_of_another_version_is_no_damaged_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.commit(_state(1))
    for name in (STATE, COPY):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data.replace(b"symphony-home-5", b"symphony-home-3"))
    with pytest.raises(HomeError, match="format 'symphony-home-3'"):
        home.open()


def test_a_home_in_use_is_not_shared(tmp_path: Path) -> None:
    with Home(tmp_path).locked(), pytest.raises(HomeError, match="another process"):
        with Home(tmp_path).locked(timeout=0.05):
            pass


COMMITTER = """
import sys
import numpy as np
from clients.home.home import Home, State
home = Home(__import__("pathlib").Path(sys.argv[1]))
state = home.load()
first = 0 if state is None else state.round
print("ready", flush=True)
for round in range(first + 1, 100000):
    vector = np.full(20000, round, np.float32)
    home.commit(State(vector, {"optimizer/m": vector * 2}, {round: {"0": str(round).encode()}}, {}, round))
"""


def test_kill_9_at_any_instant_leaves_a_whole_round(tmp_path: Path) -> None:
    delays = np.random.default_rng(0).uniform(0.0, 0.12, size=10 if THOROUGH else 4)
    before = -1
    for delay in delays:
        process = subprocess.Popen([sys.executable, "-c", COMMITTER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        state = Home(tmp_path).load()
        number = 0 if state is None else state.round
        assert number >= before, "a committed round is never lost"
        if state is not None:
            assert np.all(state.adapter == number) and np.all(state.arrays["optimizer/m"] == 2 * number)
            assert state.outbox[number] == {"0": str(number).encode()}
        before = number
    assert before > 0, "nothing was ever committed: the test tested nothing"
