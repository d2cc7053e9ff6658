"""An agent's task messages: the tasks it shows its neighbours after a round, and those it takes (section 5.1).

A task message travels beside the envelope, to direct neighbours only, and its bytes are counted like an envelope's.
Accepted tasks, read and checked, wait in the home for the next round. Each refusal is counted by name, and the round
goes on: `letters_refused/<name>` (`symphony_fl/refusals.py`) and `tasks_refused/<reason>`
(`learning/tasks/task_sharing.py`), with these reasons of this module:

    too_many      more tasks in one message than the run's agents share
    inbox_full    the home holds as many tasks as it may
    out_of_time   the message's tasks took as much executor time as their sender has left (`executor_credit.py`)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from clients.agents.executor_credit import allowance_of, charge
from clients.home.state_file import State
from clients.protocol.addressing import LETTER
from symphony_fl.build.asynchrony import last_round
from symphony_fl.config.learning import CellsOptions
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.messages.task_message import (
    SharedTask,
    TaskMessage,
    fitting,
    is_task_message,
    open_task_message,
    seal_task_message,
)
from symphony_fl.learning.skills import Task
from symphony_fl.learning.tasks.task_sharing import Proposal, TaskRefused, accept
from symphony_fl.refusals import Refusal

if TYPE_CHECKING:
    from symphony_fl.learning.report import Attempt

INBOX = 256  # tasks that wait in a home, at most


class TaskSharing:
    """Seals an agent's task messages and opens its neighbours'.

    Parameters
    ----------
    key : the agent's Ed25519 private key, 32 raw bytes
    run : 16-byte digest of the run
    recipe : of the run
    """

    def __init__(self, key: bytes, run: bytes, recipe: Recipe) -> None:
        self.key = key
        self.run = run
        self.most = recipe.selfplay.share if isinstance(recipe.selfplay, CellsOptions) else 0
        self.skills = tuple(recipe.tasks.skills)
        self.last_round = last_round(recipe)

    def seal(self, round: int, proposals: Sequence[Proposal]) -> dict[str, bytes]:
        """Label -> task message with those proposals that fit; empty where there are none."""
        tasks = fitting([SharedTask(*astuple(proposal)) for proposal in proposals])
        return {LETTER: seal_task_message(self.run, self.key, round, tasks)} if tasks else {}

    def open(self, state: State, letters: Sequence[bytes], senders: Collection[str]) -> dict[str, float]:
        """Take what can be taken into `state.tasks`, note each sender's newest round, and count.

        Parameters
        ----------
        senders : did:keys from which task messages are accepted
        """
        counts: Counter[str] = Counter()
        for data in letters:
            try:
                letter = open_task_message(data, self.run, senders, state.letters, self.last_round)
            except Refusal as error:
                counts[f"letters_refused/{error.name}"] += 1
                continue
            state.letters[letter.sender] = letter.round
            self._take(state, letter, counts)
        return {name: float(count) for name, count in counts.items()}

    def _take(self, state: State, letter: TaskMessage, counts: Counter[str]) -> None:
        extra = len(letter.tasks) - self.most
        if extra > 0:
            counts["tasks_refused/too_many"] += extra
        allowance = allowance_of(state, letter.sender)
        before = allowance.left
        for place, shared in enumerate(letter.tasks[: self.most]):
            if not allowance.left:
                counts["tasks_refused/out_of_time"] += 1
                continue
            if len(state.tasks) >= INBOX:  # before any executor runs
                counts["tasks_refused/inbox_full"] += 1
                continue
            known = {task["prompt"] for task in state.tasks}
            try:
                task = accept(Proposal(*astuple(shared)), self.skills, known, allowance)
            except TaskRefused as error:
                counts[f"tasks_refused/{error.reason}"] += 1
                continue
            counts["tasks_taken"] += 1
            state.tasks.append(_entry(task, shared, place))
        if allowance.left < before:
            charge(state, letter.sender, before - allowance.left, overdrawn=not allowance.left)


def sort_mail(mail: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[bytes]]:
    """Envelopes by label, and task messages. The first bytes tell them apart; the server's labels do not."""
    envelopes = {label: data for label, data in mail.items() if not is_task_message(data)}
    return envelopes, [data for data in mail.values() if is_task_message(data)]


def waiting(state: State) -> list[Task]:
    """The tasks taken for the next round: the first of every sender, then the second of every sender, so that no
    sender is left out."""
    entries = sorted(state.tasks, key=lambda entry: entry["place"])
    return [
        Task(entry["skill"], entry["prompt"], entry["answer"], entry["difficulty"], "received")
        for entry in entries
    ]


def compared(state: State, attempts: Sequence[Attempt]) -> dict[str, float]:
    """Cooperative benchmarking: how this agent fared with the tasks it was shown, and how their senders said they did.

    received/tasks: how many of them were tried; received/own, received/told: mean success over them, here and there.
    """
    rewards: dict[str, list[float]] = {}
    for attempt in attempts:
        if attempt.task.origin == "received":
            rewards.setdefault(attempt.task.prompt, []).append(attempt.reward)
    if not rewards:
        return {}
    told = [entry["success"] for entry in state.tasks if entry["prompt"] in rewards]
    own = [sum(earned) / len(earned) for earned in rewards.values()]
    return {
        "received/tasks": float(len(own)),
        "received/own": sum(own) / len(own),
        "received/told": sum(told) / len(told),
    }


def _entry(task: Task, shared: SharedTask, place: int) -> dict[str, Any]:
    """What the home keeps of a task: JSON."""
    return {
        "skill": task.skill,
        "prompt": task.prompt,
        "answer": task.answer,
        "difficulty": task.difficulty,
        "success": shared.success,
        "attempts": shared.attempts,
        "place": place,
    }
