"""The main job through real `flwr run`: results, books, determinism, and refusals before any work."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from symphony_fl.cli.main import main
from symphony_fl.launch.local_superlink import LaunchError

Result = dict[str, Any]
Run = Callable[..., Result]
KEYS = {
    "recipe", "seed", "status", "accuracy_before", "accuracy_after", "accuracy_min_agent", "bytes_sent_per_agent",
    "bytes_received_per_agent", "rounds", "seconds", "adapter_digests",
}  # fmt: skip


@pytest.fixture(scope="module")
def twice(symphony_home: Path) -> list[Result]:
    """Results of the same recipe and seed, run twice by `symphony compare`."""
    file = symphony_home / "results" / "compare.json"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["compare", "smoke", "smoke", "--seeds", "0", "--json", str(file)]) == 0
    assert "accuracy after" in output.getvalue()
    results: list[Result] = json.loads(file.read_text())["runs"]
    return results


def test_the_same_recipe_and_seed_give_the_same_adapters(twice: list[Result]) -> None:
    first, second = twice
    assert KEYS <= first.keys() and first["recipe"] == "smoke"
    assert first["adapter_digests"] == second["adapter_digests"]
    assert first["accuracy_after"] == second["accuracy_after"]
    assert first["folder"] != second["folder"]


def test_gossip_books_add_up(twice: list[Result]) -> None:
    result = twice[0]
    assert (result["status"], result["rounds"], result["refused"]) == ("completed", 2, {})
    assert set(result["adapter_digests"]) == {"0", "1", "2"}

    folder = Path(result["folder"])
    events = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    edges = [
        (name.removeprefix("bytes/edge/").split("-"), size)
        for event in events
        if event["kind"] == "bytes"
        for name, size in event["metrics"].items()
        if name.startswith("bytes/edge/")
    ]
    assert len(edges) == 2 * 3 * 2, "two rounds, three agents, two neighbours each"
    for agent in "012":
        sent = sum(size for (sender, _), size in edges if sender == agent)
        received = sum(size for (_, recipient), size in edges if recipient == agent)
        assert sent > 0 and received > 0
    assert (
        sum(size for _, size in edges) / 3
        == result["bytes_sent_per_agent"]
        == result["bytes_received_per_agent"]
    )

    client = MlflowClient(tracking_uri=result["mlflow_uri"])
    parent = client.get_run(result["mlflow_run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.params["exchange.codec.name"] == "int8"
    assert parent.data.metrics["accuracy/mean"] == pytest.approx(result["accuracy_after"])
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert len(children) == 3
    for child in children:
        assert {
            "accuracy/mean",
            "reward/local",
            "bytes/sent",
            "bytes/flower",
            "drift",
            "affinity/sort",
            "specialisation",
        } <= child.data.metrics.keys()
        assert child.data.tags["did"].startswith("did:key:z6Mk")
    plots = {item.path for item in client.list_artifacts(parent.info.run_id, "plots")}
    assert {
        "plots/accuracy_by_round.png",
        "plots/accuracy_by_bytes.png",
        "plots/drift.png",
        "plots/skills.png",
        "plots/expertise.png",
        "plots/diversity.png",
    } <= plots
    assert {"diversity", "specialisation", "affinity/mean_abs"} <= parent.data.metrics.keys()
    assert "capabilities.json" in {item.path for item in client.list_artifacts(parent.info.run_id)}
    capabilities = json.loads((folder / "capabilities.json").read_text())
    for child in children:
        vector = capabilities.pop(child.data.tags["did"])
        assert len(vector) == 10
        for skill, capability in vector.items():
            assert capability["score"] == pytest.approx(child.data.metrics[f"accuracy/{skill}"])
            assert capability["low"] <= capability["score"] <= capability["high"]
            assert capability["attempts"] == 4
    assert not capabilities, "nobody else has any"
    assert client.list_artifacts(parent.info.run_id, "adapters/0000")


def test_fedavg_is_flowers_own_and_ends_in_one_adapter(run: Run) -> None:
    result = run("smoke", "strategy=fedavg")
    assert len(set(result["adapter_digests"].values())) == 1
    array = result["bytes_sent_per_agent"] / 2
    assert 4 * 26112 <= array <= 4 * 26112 + 300, "two rounds of the float32 adapter and numpy's header"
    assert result["bytes_received_per_agent"] == result["bytes_sent_per_agent"]


def test_a_run_that_cannot_work_is_reported_as_failed(run: Run) -> None:
    with pytest.raises(LaunchError, match="failed"):
        run("smoke", "model.device=cuda:77", "limits.wait_for_nodes=60")


@pytest.mark.parametrize(
    "override",
    ["exchange.densty=1", "rounds=x", "exchange.selection.density=0", "topology=star", "topology.degree=2",
     "agents=1", "model.name=/no/such/folder"],
)  # fmt: skip
def test_the_command_refuses_in_one_line_before_any_work(override: str, symphony_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "symphony_fl.cli.main", "run", "smoke", override],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert override.split("=")[0].split(".")[-1] in done.stderr
