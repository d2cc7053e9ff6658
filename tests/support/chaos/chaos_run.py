"""A chaos run: a calm run on a loopback network of real devices, then runs in a storm of faults, and what is left."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos_ledger import Watch, balance, merged_once
from chaos_world import World
from faults import faults
from storm import Storm

from clients.home.founding import HomeError
from clients.home.home import Home
from symphony_fl.edge.device import health
from symphony_fl.identity.key_file import KEY_FILE

TICK = 0.25  # seconds
AFTER = 2  # rounds of the run that shows that all agents are there when all is over
TAIL = 4  # rounds at the end of every run in which nothing is done
POINTS = 0.03  # of accuracy that a run may be below the calm one
RUN_SECONDS = 3600.0  # a run that takes longer has failed
ALIVE_SECONDS = 180.0  # for every agent process to answer when all is over


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes
    ----------
    minutes : of faults, at least; a run that has begun is finished
    seed : of the storm
    recipe, overrides : of all runs
    rounds : of each
    pause : mean seconds from one fault to the next
    """

    minutes: float
    seed: int
    recipe: str = "given_tasks"
    overrides: Sequence[str] = ()
    rounds: int = 24
    agents: int = 4
    pause: float = 14.0


@dataclass
class Outcome:
    """What came of it; `broken` says which invariants do not hold, and is empty when all do."""

    plan: dict[str, Any]
    minutes: float = 0.0
    calm_accuracy: float = 0.0
    runs: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    restored: int = 0
    broken: list[str] = field(default_factory=list)


class Chaos:
    """One chaos run in a folder of its own."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.world = World(folder, plan.agents)
        self.outcome = Outcome(asdict(plan))
        self._names: list[str] = []

    def carry_out(self) -> Outcome:
        """Everything; the network is stopped at the end."""
        try:
            self.world.start()
            keys = self._keys()
            self.outcome.calm_accuracy = self._run("calm", None)["accuracy"]
            kinds, self.outcome.left_out = faults(self.world)
            storm = Storm(self.world, kinds, self.plan.seed, self.plan.pause)
            started = time.time()
            while self._minutes(started) < self.plan.minutes:
                self.outcome.runs.append(self._run(f"storm{len(self.outcome.runs)}", storm, started))
            self.outcome.minutes = self._minutes(started)
            self.outcome.faults = storm.table()
            self._check_alive()
            self._check_homes(keys)
            self._check_restored(storm)
        finally:
            self.world.close()
        return self.outcome

    def _minutes(self, since: float) -> float:
        return (time.time() - since) / 60

    def _run(
        self, name: str, storm: Storm | None, started: float = 0.0, rounds: int | None = None
    ) -> dict[str, Any]:
        """One run on the network, to its end, and its invariants."""
        self._names.append(name)
        self.world.run = name
        folder, result = self.folder / name, self.folder / f"{name}.json"
        done = self.world.symphony(
            name, "run", self.plan.recipe, f"agents={self.plan.agents}", f"rounds={rounds or self.plan.rounds}",
            *self.plan.overrides, "--run-dir", str(folder), "--json", str(result),
            "--network", str(self.world.network),
        )  # fmt: skip
        watch = Watch({n: self.world.device(n) / "homes" / name for n in range(self.plan.agents)})
        begun = time.time()
        for reached in self._follow(done, folder / "history.jsonl", watch, storm):
            if storm is not None:
                near = sum(reached.values()) > (self.plan.rounds - TAIL) * self.plan.agents
                storm.turn(calm=near or self._minutes(started) >= self.plan.minutes)
            if time.time() - begun > RUN_SECONDS:
                done.kill()
        watch.look()
        if done.returncode:
            self.outcome.broken.append(f"{name}: ended with status {done.returncode}")
            return {"run": name, "accuracy": 0.0}
        return self._judge(name, json.loads(result.read_text()), watch, storm is not None)

    def _follow(
        self, done: subprocess.Popen[bytes], history: Path, watch: Watch, storm: Storm | None
    ) -> Iterator[Counter[int]]:
        """Until the run ends: envelopes and reports are taken in; gives agent -> newest round."""
        read, rounds = 0, Counter(dict.fromkeys(range(self.plan.agents), 0))
        while done.poll() is None:
            watch.look()
            lines = history.read_text().splitlines(keepends=True)[read:] if history.exists() else []
            for line in lines:
                if not line.endswith("\n"):
                    break
                read += 1
                event = json.loads(line)
                if event["kind"] in ("train", "evaluate"):
                    agent = event["agent"]
                    rounds[agent] = max(rounds[agent], event["own"] or event["round"])
                    if storm is not None:
                        storm.report(agent, event["at"])
            yield rounds
            time.sleep(TICK)

    def _judge(self, name: str, result: dict[str, Any], watch: Watch, stormy: bool) -> dict[str, Any]:
        """A run's figures; invariants that do not hold go into the outcome."""
        broken = []
        books = balance(watch)
        merged = merged_once(self.folder / name / "history.jsonl", watch)
        if watch.changed:
            broken.append(f"made anew under the same number: {watch.changed}")
        for agent, book in books.items():
            if not book.exact:
                broken.append(f"agent {agent}: its state is not the sum of the updates it has had, each once")
            if merged[agent][0] > merged[agent][1]:
                broken.append(f"agent {agent}: merged {merged[agent][0]} of {merged[agent][1]} updates")
        accuracy = result["accuracy_after"]
        if stormy and accuracy < self.outcome.calm_accuracy - POINTS:
            broken.append(f"accuracy {accuracy:.3f}, in the calm run {self.outcome.calm_accuracy:.3f}")
        self.outcome.broken += [f"{name}: {line}" for line in broken]
        return {
            "run": name,
            "accuracy": accuracy,
            "seconds": result["seconds"],
            "updates": len(watch.envelopes),
            "of": self.plan.agents * self.plan.rounds,
            "not_had": {agent: book.lost for agent, book in books.items()},
            "rounds": {agent: book.round for agent, book in books.items()},
            "refused": result["refused"],
        }

    def _check_alive(self) -> None:
        deadline = time.time() + ALIVE_SECONDS
        waiting = set(range(self.plan.agents))
        while waiting and time.time() < deadline:
            waiting = {number for number in waiting if health(self.world.device(number)) is None}
            time.sleep(TICK)
        self.outcome.broken += [f"agent {number}: is not alive" for number in sorted(waiting)]
        after = self._run("after", None, rounds=AFTER)
        if min(after.get("rounds", {-1: 0}).values()) < AFTER:  # more: of agents that work ahead
            self.outcome.broken.append(f"not all agents took part in a run afterwards: {after}")

    def _check_homes(self, keys: list[bytes]) -> None:
        """Of every run every home opens, and every device has the key it had."""
        if self._keys() != keys:
            self.outcome.broken.append("a device's key has changed")
        for name in self._names:
            for number in range(self.plan.agents):
                try:
                    state = Home(self.world.device(number) / "homes" / name).load()
                except HomeError as error:
                    self.outcome.broken.append(f"{name}, agent {number}: home lost: {error}")
                    continue
                if state is None:
                    self.outcome.broken.append(f"{name}, agent {number}: home lost: it is empty")

    def _keys(self) -> list[bytes]:
        return [(self.world.device(number) / KEY_FILE).read_bytes() for number in range(self.plan.agents)]

    def _check_restored(self, storm: Storm) -> None:
        """Every home that was harmed was noticed, by name, and restored."""
        harmed = Counter(one.agent for one in storm.done if "corrupted" in one.fault.name)
        for number in range(self.plan.agents):
            log = self.world.device(number) / "logs" / "agent.log"
            said = log.read_text(errors="replace").count("damaged")
            self.outcome.restored += said
            if said < harmed[number]:
                self.outcome.broken.append(f"agent {number}: {harmed[number]} homes harmed, {said} noticed")


def markdown(outcome: Outcome) -> str:
    """The outcome for people."""
    lines = ["| fault | done | agents back in the run | median s | longest s |", "|---|---|---|---|---|"]
    for row in outcome.faults:
        back = [row["median_s"], row["longest_s"]]
        lines.append(f"| {row['fault']} | {row['done']} | {row['back_in_run']} | {back[0]} | {back[1]} |")
    lines += [f"left out: {reason}" for reason in outcome.left_out]
    lines += ["", f"calm run: accuracy {outcome.calm_accuracy:.3f}"]
    for run in outcome.runs:
        lines.append(" ".join(f"{name} {value}" for name, value in run.items()))
    lines.append(f"{outcome.minutes:.1f} minutes of faults; homes restored: {outcome.restored}")
    lines += [f"BROKEN: {line}" for line in outcome.broken] or ["every invariant holds"]
    return "\n".join(lines)
