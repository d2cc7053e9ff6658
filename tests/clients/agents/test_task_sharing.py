"""Tasks shared between two agents on the real embedded model, without Flower, and what hostile ones cannot do."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clients.agents.agent import Agent
from clients.agents.task_sharing import INBOX, TaskSharing, compared, sort_mail, waiting
from clients.home.home import Home
from clients.home.state_file import State
from strategies.mailbox import Mailbox
from strategies.recorder import METRIC_NAME
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.exchange.messages.task_message import (
    SharedTask,
    is_task_message,
    open_task_message,
    seal_task_message,
)
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.learning.report import Attempt
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks.task_sampler import is_reserved
from symphony_fl.learning.tasks.task_sharing import Proposal

SHARING = (
    "agents=2",
    "rounds=4",
    "learner.prompts=8",
    "tasks.skills=[reverse,sort]",
    "memory=episodic",
    "memory=episodic",
    "memory.capacity=500",
    "curriculum=learnability",
    "selfplay=cells",
    "selfplay.bootstrap=150",
    "selfplay.share=4",
)
RUN, KEY = b"R" * 16, bytes([7]) * 32
SENDER = did_from_public_key(public_key_of(KEY))


def recipe_of(*overrides: str) -> Recipe:
    return check_recipe(load_recipe("smoke", [*SHARING, *overrides]))


def agent_of(folder: Path, number: int, recipe: Recipe) -> Agent:
    return Agent(Home(folder / str(number)), number, recipe, "a-run")


def questions(count: int, length: int = 6, reserved: bool = False) -> list[str]:
    """Distinct questions of `reverse` of that difficulty, kept for evaluation or not."""
    rng, found = np.random.default_rng(5), dict[str, None]()
    while len(found) < count:
        task = SYMBOLIC[0].generate(rng, length)
        if is_reserved(task.prompt) == reserved:
            found[SYMBOLIC[0].proposal_of(task)] = None
    return list(found)


def tasks_of(texts: Sequence[str], skill: str = "reverse", difficulty: int = 6) -> list[SharedTask]:
    return [SharedTask(skill, difficulty, text, 0.5, 4) for text in texts]


def opened(state: State, *letters: bytes, share: int = 4) -> dict[str, float]:
    counts = TaskSharing(bytes(32), RUN, recipe_of(f"selfplay.share={share}")).open(state, letters, [SENDER])
    assert all(METRIC_NAME.fullmatch(name) for name in counts)
    return counts


def fresh() -> State:
    return State(adapter=np.zeros(1, np.float32))


def test_one_agents_proposals_are_trained_on_by_the_other(tmp_path: Path) -> None:
    """Agent 1 plays `sort`; agent 0, whose skill is `reverse`, solves what agent 1 wrote, and remembers it."""
    recipe = recipe_of("learner.prompts=16", "selfplay.bootstrap=150")
    agents = [agent_of(tmp_path, number, recipe) for number in (0, 1)]
    roster = {agent.number: agent.did for agent in agents}
    sent = agents[1].train(1)
    assert set(sent.outbox) == {"0", "letter"}, "some task was solved sometimes, but not always"
    letter = open_task_message(sent.outbox["letter"], agents[1].exchange.session.run, [agents[1].did], {}, 4)
    assert 0 < len(letter.tasks) <= 4 and {task.skill for task in letter.tasks} == {"sort"}
    assert sent.metrics["letter_bytes"] == len(sent.outbox["letter"])
    assert agents[1].train(1).outbox == sent.outbox, "asked twice, answered twice the same"

    mailbox = Mailbox()
    mailbox.post(1, 1, [0], sent.outbox)
    mail = mailbox.mail(0)
    assert mailbox.confirm(0, list(mail)) == {1: sum(map(len, sent.outbox.values()))}, "counted as mail"
    agents[0].train(1)
    agents[0].merge(mail, roster)
    assert agents[0].metrics["merged"] == 1 and agents[0].metrics["tasks_taken"] == len(letter.tasks)
    agents[0].close()

    reopened = agent_of(tmp_path, 0, recipe)
    taken = waiting(reopened.state)
    assert len(taken) == len(letter.tasks) and all(
        task.answer == "".join(sorted(task.answer)) for task in taken
    )
    reopened.merge(mail, roster)
    assert reopened.metrics["letters_refused/replayed"] == 1 and len(waiting(reopened.state)) == len(taken)
    report = reopened.train(2)
    assert reopened.state.tasks == [] and report.metrics["received/tasks"] == len(taken)
    assert report.metrics["received/told"] == pytest.approx(np.mean([task.success for task in letter.tasks]))
    assert 0 <= report.metrics["received/own"] <= 1
    reopened.close()
    agents[1].close()
    with sqlite3.connect(tmp_path / "0" / "memory.sqlite") as database:
        remembered = {row[0] for row in database.execute("SELECT prompt FROM task WHERE origin = 'received'")}
    assert remembered == {task.prompt for task in taken}


def test_a_round_goes_on_whatever_comes(tmp_path: Path) -> None:
    recipe = recipe_of()
    agent, other = agent_of(tmp_path, 0, recipe), agent_of(tmp_path, 1, recipe)
    run, key = agent.exchange.session.run, other.exchange.key
    roster = {0: agent.did, 1: other.did}
    fine = seal_task_message(run, key, 1, tasks_of(questions(1)))
    mail = {
        "1/1/0": fine[:-1] + b"x",
        "1/1/1": seal_task_message(run, KEY, 1, tasks_of(questions(1))),
        "1/1/2": fine,
        "1/1/3": fine,
        "1/1/4": b"SFTL",
        "1/1/5": seal_task_message(run, key, 2, tasks_of(["abc=cba", "a" * 60])),
        "1/1/6": other.exchange.seal(other.state, 1).outbox["0"],
    }
    agent.merge(mail, roster)
    counted = {name: n for name, n in agent.metrics.items() if "refused" in name or name.startswith("tasks_")}
    assert counted == {
        "letters_refused/bad_signature": 1, "letters_refused/unknown_sender": 1, "letters_refused/replayed": 1,
        "letters_refused/truncated": 1, "tasks_refused/unparsable": 1, "tasks_refused/too_long": 1,
        "tasks_taken": 1,
    }  # fmt: skip
    assert agent.metrics["merged"] == 1
    before = agent.state.adapter.copy()
    report = agent.train(1)
    assert agent.state.round == 1 and not np.array_equal(agent.state.adapter, before)
    assert report.metrics["received/tasks"] <= 1
    agent.close()
    other.close()


def test_poison_is_refused_by_name_and_the_rest_is_taken() -> None:
    state = fresh()
    good, bad = questions(3), questions(1, reserved=True)
    tasks = [
        *tasks_of([good[0], good[0], "abc", "abc=cba", "abcdef\nA: x", *bad, "a" * 300]),
        *tasks_of(["abcdef"], skill="swap"),
        *tasks_of(["abcdef"], skill="no_such_skill"),
        *tasks_of(["abcdef"], difficulty=200),
        *tasks_of(good[1:]),
    ]
    counts = opened(state, seal_task_message(RUN, KEY, 1, tasks), share=11)
    assert counts == {
        "tasks_taken": 2, "tasks_refused/duplicate": 1, "tasks_refused/out_of_bounds": 1,
        "tasks_refused/unparsable": 1, "tasks_refused/too_long": 2, "tasks_refused/reserved": 1,
        "tasks_refused/unknown_skill": 2, "tasks_refused/wrong_difficulty": 1, "tasks_refused/too_many": 1,
    }  # fmt: skip
    assert [task.prompt for task in waiting(state)] == [f"<reverse>{text}=" for text in good[:2]]
    assert all(task.answer == task.prompt[9:-1][::-1] for task in waiting(state))


def test_a_flood_is_cut_off_at_every_gate() -> None:
    state = fresh()
    flood = seal_task_message(RUN, KEY, 1, tasks_of(questions(32)))
    assert opened(state, flood + bytes(1 << 20)) == {"letters_refused/oversized": 1}
    assert opened(state, flood) == {"tasks_taken": 4, "tasks_refused/too_many": 28}
    assert opened(state, flood) == {"letters_refused/replayed": 1}
    assert opened(state, seal_task_message(RUN, KEY, 5, [])) == {"letters_refused/from_the_future": 1}
    state.tasks = [{"prompt": str(number)} for number in range(INBOX - 1)]
    assert opened(state, seal_task_message(RUN, KEY, 2, tasks_of(questions(4)))) == {
        "tasks_taken": 1,
        "tasks_refused/inbox_full": 3,
    }


def test_nobody_who_shares_nothing_takes_anything() -> None:
    letter = seal_task_message(RUN, KEY, 1, tasks_of(questions(2)))
    state = fresh()
    assert opened(state, letter, share=0) == {"tasks_refused/too_many": 2} and state.tasks == []


def test_letters_take_turns() -> None:
    state, keys = fresh(), [bytes([n]) * 32 for n in (7, 8)]
    letters = TaskSharing(bytes(32), RUN, recipe_of())
    texts = questions(4)
    sealed = [
        seal_task_message(RUN, key, 1, tasks_of(texts[2 * n : 2 * n + 2])) for n, key in enumerate(keys)
    ]
    letters.open(state, sealed, [did_from_public_key(public_key_of(key)) for key in keys])
    assert [task.prompt[9:-1] for task in waiting(state)] == [texts[0], texts[2], texts[1], texts[3]]


def test_what_was_told_is_compared_with_what_was_found() -> None:
    state = fresh()
    texts = questions(3)
    told = [
        SharedTask("reverse", 6, text, rate, 4) for text, rate in zip(texts, (0.25, 0.75, 0.5), strict=True)
    ]
    opened(state, seal_task_message(RUN, KEY, 1, told))
    tried = waiting(state)[:2]
    attempts = [Attempt(task, "", reward, "00") for task in tried for reward in (1.0, 1.0, 0.0, 1.0)]
    assert compared(state, attempts) == {"received/tasks": 2, "received/own": 0.75, "received/told": 0.5}
    assert compared(state, []) == {}


def test_a_letter_is_sealed_only_where_there_is_something_to_tell() -> None:
    letters = TaskSharing(KEY, RUN, recipe_of())
    assert letters.seal(1, []) == {}
    sealed = letters.seal(
        1, [Proposal("reverse", 6, "abcdef", 0.5, 4), Proposal("reverse", 6, "x" * 600, 0.5, 4)]
    )
    assert len(open_task_message(sealed["letter"], RUN, [SENDER], {}, 4).tasks) == 1
    assert is_task_message(sealed["letter"]) and sort_mail({"a": b"\0\0", "b": sealed["letter"]}) == (
        {"a": b"\0\0"},
        [sealed["letter"]],
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["strategy=isolated"], "selfplay.share = 4: must be 0 for strategy 'isolated'"),
        (["selfplay=none"], "'none' has no option"),
        (
            ["tasks.skills=[openqa]", "selfplay.bootstrap=0", "learner.max_new_tokens=64"],
            "no receiver would take them",
        ),
        (["selfplay.share=33"], "selfplay.share"),
    ],
)
def test_sharing_that_cannot_work_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of(*overrides)
