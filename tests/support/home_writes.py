"""What an agent writes to its disk: `python tests/support/home_writes.py [--rounds 6] [--entries P] [--json FILE]`.

Agents of recipe `default`, with a short round of learning, answered in this process as in a simulation: a home is
opened for each message. One object, over the last `evaluate_every` rounds, their evaluation included:

    rounds, agents, entries         rounds counted; N; P
    bytes_per_agent_round           of all files that were flushed
    fsyncs_per_agent_round          calls of fsync, of files and of folders
    bytes_per_entry                 bytes_per_agent_round / P
    files                           by name, bytes per agent and round
    commit_cpu_seconds              per agent and round, in the home's commits
    other_cpu_seconds               all else of a round but learning and evaluating: opening, merging, sealing
    commit_share                    of commits in the CPU time of such a round without learning

With --entries, instead, one commit of an adapter of that size, both files, after two rounds of the exchange:

    entries, commit_bytes, bytes_per_entry, commit_cpu_seconds
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from device import greeting, order

from clients.agents.agent import Agent
from clients.agents.exchange import Exchange
from clients.home.home import Home
from clients.home.state_file import State
from clients.protocol.messages import CONFIG, OUTBOX, unpack_envelopes
from clients.service.service import Service
from strategies.mailbox import Mailbox
from symphony_fl.build.components import recipe_topology
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import Layout

SHORT = ("learner.steps=1", "learner.prompts=4", "tasks.held_out=1")
EVERY = 3  # rounds between two evaluations, as in `default`


class Books:
    """Bytes and calls of fsync, and CPU seconds of named functions, since `clear`."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.fsyncs = 0
        self._fsync = os.fsync
        os.fsync = self._counted

    def clear(self) -> None:
        self.bytes, self.seconds, self.fsyncs = Counter(), Counter(), 0

    def close(self) -> None:
        os.fsync = self._fsync

    def timed(self, owner: Any, function: str, name: str) -> None:
        """Count the CPU seconds of a method under that name."""
        call: Callable[..., Any] = getattr(owner, function)

        def one(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds[name] += time.process_time() - start

        setattr(owner, function, one)

    def _counted(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        self.fsyncs += 1
        if stat.S_ISREG(facts.st_mode):
            name = os.readlink(f"/proc/self/fd/{descriptor}").rsplit("/", 1)[-1]
            self.bytes[name.removeprefix(".").removesuffix(".new")] += facts.st_size
        self._fsync(descriptor)


def rounds(folder: Path, number: int) -> dict[str, Any]:
    """The figures of the last `EVERY` of so many rounds."""
    recipe = load_recipe("given_tasks", SHORT)
    books = Books()
    for function in ("commit", "keep_mail"):
        if hasattr(Home, function):
            books.timed(Home, function, "commit")
    books.timed(Agent, "_improve", "learn")
    books.timed(Agent, "evaluate", "learn")
    books.timed(Service, "answer", "all")
    network = _Network(recipe, folder)
    for round in range(1, number + 1):
        if round == number - EVERY + 1:
            books.clear()
        network.round(round)
    books.close()
    count, found = EVERY * recipe.agents, sum(books.bytes.values())
    commit, other = books.seconds["commit"], books.seconds["all"] - books.seconds["learn"]
    return {
        "rounds": EVERY,
        "agents": recipe.agents,
        "entries": network.entries,
        "bytes_per_agent_round": found / count,
        "fsyncs_per_agent_round": books.fsyncs / count,
        "bytes_per_entry": found / count / network.entries,
        "files": {name: size / count for name, size in sorted(books.bytes.items())},
        "commit_cpu_seconds": commit / count,
        "other_cpu_seconds": (other - commit) / count,
        "commit_share": commit / other,
    }


class _Network:
    """Agents, and the mailbox between them."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.topology = recipe_topology(recipe)
        self.mailbox = Mailbox()
        self.services = [
            Service(n, lambda run, n=n: Home(folder / str(n)), lasting=False) for n in range(recipe.agents)
        ]
        answers = [service.answer("hello", greeting(recipe)) for service in self.services]
        self.roster = {n: str(answer.config_records[CONFIG]["did"]) for n, answer in enumerate(answers)}
        state = Home(folder / "0").load()
        assert state is not None
        self.entries = state.adapter.size

    def round(self, number: int) -> None:
        outboxes = [unpack_envelopes(reply, OUTBOX) for reply in self._ask("train", number)]
        for sender, outbox in enumerate(outboxes):
            self.mailbox.post(sender, number, self.topology.neighbours(sender, number), outbox)
        if number % EVERY == 0:
            self._ask("evaluate", number)

    def _ask(self, kind: str, round: int) -> list[Any]:
        replies = []
        for number, service in enumerate(self.services):
            mail: Mapping[str, bytes] = self.mailbox.mail(number)
            replies.append(service.answer(kind, order(self.recipe, round, mail, self.roster)))
            self.mailbox.confirm(number, list(mail))
        return replies


def size(folder: Path, entries: int) -> dict[str, Any]:
    """The figures of one commit of so many entries."""
    recipe = load_recipe("given_tasks", ("agents=2",))
    rng = np.random.default_rng(0)
    initial = rng.standard_normal(entries, dtype=np.float32) * np.float32(0.02)
    layout = Layout(("a",), ((entries,),))
    exchange = Exchange(bytes(range(32)), 0, recipe, "a-run", bytes(16), layout, initial, {})
    state = State(adapter=initial)
    for round in (1, 2):
        start = exchange.start(state.adapter)
        state.adapter = start + rng.standard_normal(entries, dtype=np.float32) * np.float32(0.002)
        sealed = exchange.seal(state, round)
        state.adapter, state.round, state.outbox[round] = sealed.adapter, round, sealed.outbox
    for name in ("exp_avg", "exp_avg_sq"):
        state.arrays[f"optimizer/{name}"] = rng.standard_normal(entries, dtype=np.float32) ** 2
    state.arrays |= exchange.arrays()
    books = Books()
    start_seconds = time.process_time()
    Home(folder).commit(state)
    seconds = time.process_time() - start_seconds
    books.close()
    found = sum(books.bytes.values())
    return {
        "entries": entries,
        "commit_bytes": found,
        "bytes_per_entry": found / entries,
        "commit_cpu_seconds": seconds,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2 * EVERY, help=f"a multiple of {EVERY}")
    parser.add_argument("--entries", type=int, help="the size of one commit of so many entries instead")
    parser.add_argument("--json", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="symphony-home-") as name:
        figures = size(Path(name), options.entries) if options.entries else rounds(Path(name), options.rounds)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
