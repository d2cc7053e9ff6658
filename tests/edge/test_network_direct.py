"""Real devices on loopback that hand each other their mail, and real devices out of step: TLS, node authentication."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_processes import Behind, Loopback

from symphony_fl.edge.device import health

pytest.importorskip("iroh")
pytestmark = pytest.mark.slow
AGENTS = 3
FEW = (f"agents={AGENTS}", "rounds=4", "tasks.evaluate_every=2", "learner.prompts=8", "learner.samples=8")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    network = Behind(tmp_path_factory.mktemp("edge"))
    try:
        network.start_network()
        for number in range(AGENTS):
            network.start_device(number)
        yield network
    finally:
        network.close()


def _begin(loopback: Loopback, folder: Path, *overrides: str) -> Path:
    """A run of `smoke` under its folder's name; where its result will be."""
    result = folder / "result.json"
    loopback.symphony(
        folder.name, "run", "smoke", *overrides, "--run-dir", str(folder), "--json", str(result),
        "--network", str(loopback.network),
    )  # fmt: skip
    return result


def _end(loopback: Loopback, result: Path) -> dict[str, Any]:
    assert loopback.commands[result.parent.name].wait(timeout=900) == 0, loopback.said()
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.parametrize("encryption", ["none", "edge"])
def test_no_parameter_goes_through_the_superlink_and_the_numbers_are_the_same(
    loopback: Loopback, tmp_path: Path, encryption: str
) -> None:
    mailed, direct = (
        _end(
            loopback,
            _begin(
                loopback, tmp_path / f"{transport}-{encryption}", *FEW,
                f"exchange.transport={transport}", f"exchange.encryption={encryption}",
            ),
        )
        for transport in ("superlink", "iroh")
    )  # fmt: skip
    for found in (mailed, direct):
        print({key: value for key, value in found.items() if "bytes" in key or "accuracy" in key})
    assert direct["adapter_digests"] == mailed["adapter_digests"] and len(direct["adapter_digests"]) == AGENTS
    assert direct["accuracy_after"] == mailed["accuracy_after"]
    assert direct["bytes_superlink_per_agent"] == 0 < mailed["bytes_superlink_per_agent"]
    assert direct["bytes_sent_per_agent"] == mailed["bytes_sent_per_agent"]
    assert direct["refused"] == mailed["refused"] == direct["fallback"] == {}


def _own(run: Path, agent: int) -> int:
    """The agent's newest round that the server has booked."""
    history = run / "history.jsonl"
    if not history.exists():
        return 0
    events = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    return max((e["own"] for e in events if e["kind"] == "train" and e["agent"] == agent), default=0)


@pytest.mark.parametrize("transport", ["superlink", "iroh"])
def test_out_of_step_one_killed_one_away_for_a_minute_and_all_are_there_at_the_end(
    loopback: Loopback, tmp_path: Path, transport: str
) -> None:
    run, rounds = tmp_path / f"async-{transport}", 24
    result = _begin(
        loopback, run, f"agents={AGENTS}", f"rounds={rounds}", f"tasks.evaluate_every={rounds}",
        "strategy=async_gossip", "clock=wall", "exchange.encryption=edge", f"exchange.transport={transport}",
        "strategy.deadline_floor=15",
    )  # fmt: skip
    loopback.wait(lambda: min(_own(run, agent) for agent in range(AGENTS)) >= 2, 300)
    loopback.kill("d1", "clients.service.agent_process")
    ahead = health(loopback.device(0)) or {}
    stopped = loopback.commands["d2"]
    stopped.terminate()
    assert stopped.wait(timeout=60) == 0
    done = [_own(run, agent) for agent in range(AGENTS)]
    began = time.monotonic()
    loopback.wait(lambda: time.monotonic() - began > 60 and _own(run, 0) >= done[0] + 2, 300)
    assert _own(run, 2) <= done[2] + 1, "it is away, and the others go on"
    loopback.up(2)
    found = _end(loopback, result)
    own = found["own_rounds"]
    print(own, ahead, found["fallback"])
    assert sum(own.values()) == AGENTS * rounds and found["refused"] == {}
    assert own["1"] > done[1] + 1 and own["2"] > done[2] + 1, (own, done)
    assert len(found["adapter_digests"]) == AGENTS, "all were evaluated at the end"
    assert int(str(ahead["rounds_ahead"])) > 0, "between messages agents work ahead"
    assert "agent ended (signal 9)" in (loopback.folder / "d1.txt").read_text()


def test_a_reply_cut_off_in_the_middle_holds_up_no_other_agent(loopback: Behind, tmp_path: Path) -> None:
    """Flower's server waits three minutes for the rest of it, and for nothing else meanwhile."""
    run, rounds = tmp_path / "cut", 24
    result = _begin(
        loopback, run, f"agents={AGENTS}", f"rounds={rounds}", f"tasks.evaluate_every={rounds}",
        "strategy=async_gossip", "clock=wall", "strategy.deadline_floor=15", "exchange.codec=float32",
    )  # fmt: skip
    loopback.wait(lambda: min(_own(run, agent) for agent in range(AGENTS)) >= 2, 300)
    loopback.forwarder.hold_after(30_000)  # within a reply of 100 kB, beside which the node sends little
    loopback.wait(lambda: loopback.forwarder.holding, 120)
    began, done = time.monotonic(), [_own(run, agent) for agent in range(AGENTS)]
    loopback.wait(lambda: all(_own(run, agent) >= done[agent] + 4 for agent in (0, 2)), 120)
    print(f"two agents did four rounds in {time.monotonic() - began:.0f} s beside a reply that did not end")
    assert _own(run, 1) <= done[1] + 1
    loopback.forwarder.open()
    found = _end(loopback, result)
    assert found["own_rounds"]["1"] > done[1] + 1 and sum(found["own_rounds"].values()) == AGENTS * rounds
    assert found["refused"] == {} and len(found["adapter_digests"]) == AGENTS
