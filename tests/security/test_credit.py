"""A neighbour's letter may take so many seconds of this agent's executors, and a repeated offender's none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from deadlines import in_time

from clients.agents import executor_credit as credit
from clients.agents.agent import Agent
from clients.agents.task_sharing import TaskSharing, waiting
from clients.home.home import Home
from clients.home.state_file import State
from strategies.recorder import METRIC_NAME
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.messages.task_message import SharedTask, seal_task_message
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.learning.executors.allowance import Allowance
from symphony_fl.learning.skills import SKILLS
from symphony_fl.learning.tasks.task_sharing import Proposal, TaskRefused, accept, can_be_shared

RUN, KEYS = b"R" * 16, [bytes([n]) * 32 for n in (7, 8)]
SENDERS = [did_from_public_key(public_key_of(key)) for key in KEYS]
SKILL = "code_induction"
CALLS = ", ".join(f"f({n})" for n in range(1, 7))
OVERHEAD = 6.0  # of starting processes, on a busy machine


@cache
def recipe_of(share: int = 32) -> Recipe:
    return check_recipe(
        load_recipe(
            "smoke",
            [
                "agents=2",
                "rounds=40",
                "learner.prompts=8",
                f"tasks.skills=[{SKILL},code_deduction,reverse]",
                "memory=episodic",
                "curriculum=learnability",
                "memory.capacity=500",
                "selfplay=cells",
                "selfplay.bootstrap=0",
                f"selfplay.share={share}",
                "learner.max_new_tokens=160",
            ],
        )
    )


def hanging(count: int) -> list[SharedTask]:
    programs = (f"def f(x):\n while x > 0: x = x + {n}\n return x  # {CALLS}" for n in range(1, count + 1))
    return [SharedTask(SKILL, 2, program, 0.5, 4) for program in programs]


def honest(count: int) -> list[SharedTask]:
    programs = (f"def f(x): return (x + {n}) * 3  # {CALLS}" for n in range(1, count + 1))
    return [SharedTask(SKILL, 1, program, 0.5, 4) for program in programs]


def slow_programs(count: int) -> list[SharedTask]:
    slow = f"sum([y % 7 for y in range({4 * 10**6})]) + x"
    programs = (f"def f(x): return {slow} + {n}  # {CALLS}" for n in range(count))
    return [SharedTask(SKILL, 3, program, 0.5, 4) for program in programs]


def opened(state: State, round: int, tasks: Sequence[SharedTask], sender: int = 0) -> dict[str, float]:
    """The counts of a letter."""
    letter = seal_task_message(RUN, KEYS[sender], round, tasks)
    counts = TaskSharing(bytes(32), RUN, recipe_of()).open(state, [letter], SENDERS)
    assert all(METRIC_NAME.fullmatch(name) for name in counts)
    return counts


def test_a_letter_of_hanging_programs_costs_two_seconds_and_its_author_the_credit() -> None:
    state = State(adapter=np.zeros(1, np.float32))
    counts = opened(state, 1, hanging(32))
    assert counts.pop("tasks_refused/executor") in (2, 3) and counts["tasks_refused/out_of_time"] >= 29
    assert set(counts) == {"tasks_refused/out_of_time"}
    assert opened(state, 1, honest(2), sender=1) == {"tasks_taken": 2}, "nobody else pays"

    for round in range(8):  # nothing runs, not even what is honest
        state.round = round
        assert opened(state, 2 + round, hanging(31) + honest(1)) == {"tasks_refused/out_of_time": 32}
    state.round = 9
    assert opened(state, 12, hanging(32))["tasks_refused/out_of_time"] >= 30
    state.round = 10
    assert opened(state, 13, honest(1)) == {"tasks_refused/out_of_time": 1}
    state.round = 40
    assert opened(state, 14, honest(2)) == {"tasks_refused/duplicate": 2}
    assert opened(state, 15, honest(4)[2:]) == {"tasks_taken": 2}


def test_many_letters_at_once_are_no_way_around_it() -> None:
    state = State(adapter=np.zeros(1, np.float32))
    letters = [seal_task_message(RUN, KEYS[0], round, hanging(1)) for round in range(1, 30)]
    counts = TaskSharing(bytes(32), RUN, recipe_of()).open(state, letters, SENDERS)
    assert counts["tasks_refused/executor"] <= 3 and counts["tasks_refused/out_of_time"] >= 26


def test_programs_that_stay_below_their_deadline_are_charged_as_well() -> None:
    state = State(adapter=np.zeros(1, np.float32))
    counts = opened(state, 1, slow_programs(32))
    assert counts["tasks_refused/out_of_time"] >= 16, "most are never run"
    assert credit.allowance_of(state, SENDERS[0]).left == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hanging", "slow"])
def test_a_letter_takes_no_more_seconds_than_its_sender_has(kind: str) -> None:
    state = State(adapter=np.zeros(1, np.float32))
    tasks = {"hanging": hanging, "slow": slow_programs}[kind](32)
    for round, seconds in ((1, credit.SECONDS), (2, 0.0)):
        with in_time(seconds, OVERHEAD if seconds else 1.0):
            opened(state, round, tasks)
    letters = [seal_task_message(RUN, KEYS[1], round, tasks[:1]) for round in range(1, 30)]
    with in_time(credit.SECONDS, OVERHEAD):
        TaskSharing(bytes(32), RUN, recipe_of()).open(state, letters, SENDERS)


def test_an_honest_letter_takes_a_small_part_of_what_a_round_gives_back() -> None:
    state = State(adapter=np.zeros(1, np.float32))
    assert opened(state, 1, honest(8)) == {"tasks_taken": 8}
    assert credit.SECONDS - credit.allowance_of(state, SENDERS[0]).left < credit.REGAINED


def test_debts_survive_in_the_home_and_fall_with_its_rounds(tmp_path: Path) -> None:
    home, state = Home(tmp_path), State(adapter=np.zeros(1, np.float32), round=3)
    credit.charge(state, SENDERS[0], 0.5, overdrawn=False)
    credit.charge(state, SENDERS[1], 0.1, overdrawn=True)
    home.commit(state)
    loaded = home.load()
    assert loaded is not None and loaded.debts == {SENDERS[0]: [3, 0.5], SENDERS[1]: [3, 4.0]}
    left = []
    for loaded.round in (3, 4, 5, 11, 12, 19, 99):
        left.append(tuple(credit.allowance_of(loaded, sender).left for sender in SENDERS))
    assert left == [(1.5, 0), (1.75, 0), (2, 0), (2, 0), (2, 0.25), (2, 2), (2, 2)]
    for _ in range(9):
        credit.charge(loaded, SENDERS[0], 1e9, overdrawn=False)
    assert loaded.debts[SENDERS[0]] == [99, credit.OVERDRAWN], "bounded"


def test_a_round_goes_on_after_such_a_letter(tmp_path: Path) -> None:
    """Two agents of one run: the letter is signed by a neighbour's own key, and travels as mail does."""
    recipe = recipe_of()
    agent, other = (Agent(Home(tmp_path / str(number)), number, recipe, "a-run") for number in (0, 1))
    roster = {0: agent.did, 1: other.did}
    mail = {
        "1/1/0": other.exchange.seal(other.state, 1).outbox["0"],
        "1/1/1": seal_task_message(
            agent.exchange.session.run, other.exchange.key, 1, honest(1) + hanging(31)
        ),
    }
    agent.merge(mail, roster)
    assert agent.metrics["merged"] == 1 and agent.metrics["tasks_taken"] == 1
    assert agent.metrics["tasks_refused/out_of_time"] >= 28
    agent.close()
    reopened = Agent(Home(tmp_path / "0"), 0, recipe, "a-run")
    assert len(waiting(reopened.state)) == 1 and reopened.state.debts == {other.did: [0, credit.OVERDRAWN]}
    reopened.close()
    other.close()


def hold_up(skill: str) -> None:
    """Offer texts that would, of every level."""
    texts = ("9**9**9**9", "9" * 500, "(" * 250 + ")" * 250, "a" * 512, "-" * 511 + "1",
             "7*" * 255 + "7", "1" + "0" * 400 + "!", "{" * 99)  # fmt: skip
    allowance = Allowance(1.0)  # of the executors, for all of them
    for text in texts:
        for level in SKILLS[skill].difficulties:
            try:
                accept(Proposal(skill, level, text, 0.5, 1), [skill], (), allowance)
            except TaskRefused:
                pass
    assert allowance.left > 0, "they took little of what executors may"


SHARED = [name for name in SKILLS if can_be_shared(name)]


@pytest.mark.parametrize("skill", SHARED)
def test_no_shared_text_holds_a_skill_up(skill: str) -> None:
    """Every skill that takes strangers' tasks, also those that run no program; one that hangs would hang here."""
    hold_up(skill)


@pytest.mark.slow
@pytest.mark.parametrize("skill", SHARED)
def test_no_shared_text_takes_a_skill_long(skill: str) -> None:
    with in_time(5.0, 0.0):
        hold_up(skill)
