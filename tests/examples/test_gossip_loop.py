"""The example is the algorithm: its adapters are, to the bit, those of the package for the same recipe and seed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "gossip_loop.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gossip_loop", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gossip_loop"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("agents", "seed"),
    [
        (4, 0),
        pytest.param(5, 3, marks=pytest.mark.slow),  # an odd ring: both ways reach equally far
    ],
)
def test_the_adapters_are_those_of_the_package(
    example: ModuleType, tmp_path: Path, agents: int, seed: int
) -> None:
    """In three rounds updates are learnt from, passed on, and come back in what others learn."""
    small = {"rounds": 3, "learner.steps": 1, "learner.prompts": 6, "learner.samples": 4, "tasks.held_out": 3}
    overrides = [f"{key}={value}" for key, value in (small | {"agents": agents, "seed": seed}).items()]
    result = _run_of_the_package([*overrides, "limits.at_once=1"], tmp_path)

    config = example.Config(agents=agents, seed=seed, **{key.split(".")[-1]: n for key, n in small.items()})
    accuracies, digests = example.run(config)
    assert {str(number): digest for number, digest in enumerate(digests)} == result["adapter_digests"]
    assert len(set(digests)) > 1, "the last round's updates have not gone around yet"
    assert np.mean(accuracies) == pytest.approx(result["accuracy_after"], abs=1e-12)


def _run_of_the_package(overrides: list[str], folder: Path) -> dict[str, Any]:
    """What `symphony run given_tasks ... --in-process --json FILE` says."""
    file = folder / "result.json"
    words = [
        "run",
        "given_tasks",
        *overrides,
        "--in-process",
        "--run-dir",
        str(folder / "run"),
        "--json",
        str(file),
    ]
    command = [sys.executable, "-m", "symphony_fl.cli.main", *words]
    environment = os.environ | {"SYMPHONY_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def test_an_update_counts_once(example: ModuleType) -> None:
    config = example.Config(agents=4)
    size = 40
    agent = example.Agent(0, None, np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64))
    values = np.array([0.5, -0.5], dtype=np.float32)
    indices = example.encode_indices(np.array([3, 7]), size)
    update = example.Update(1, 1, indices, example.CODEC.encode(values), direction=1, hops=2)
    for _ in range(2):
        example.receive(agent, update, config)
    assert agent.total.tolist() == [
        2**39 if place == 3 else -(2**39) if place == 7 else 0 for place in range(size)
    ]
    assert [kept.hops for kept in agent.relay] == [1]
    state = example.shared_state(agent, np.ones(size, dtype=np.float32), config)
    assert state[3] == 1 + 1.5 * 0.5 / 4 and state[0] == 1
