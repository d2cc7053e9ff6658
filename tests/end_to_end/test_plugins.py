"""The examples of plug-ins in real runs: a skill, a rule and a dataset from outside the package, in one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from symphony_fl import api

ROOT = Path(__file__).resolve().parents[2]
MINE = ROOT / "examples" / "plugins" / "mine.yaml"


def test_examples_are_short() -> None:
    for file in (*MINE.parent.glob("*.py"), MINE):
        assert len(file.read_text().splitlines()) <= 40, file


def test_a_run_in_process(symphony_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", str(ROOT))
    result = api.run(MINE, ["tracking.agents=false"], agents=2, rounds=1, in_process=True, progress=None)
    assert result.figures["status"] == "completed"
    assert [entry.rpartition("/")[2].partition("#")[0] for entry in result.recipe.plugins] == [
        "vowels.py", "bounded.py",
    ]  # fmt: skip
    history = result.history()
    asked = history[history.kind == "evaluate"]
    assert {"accuracy/vowels", "accuracy/mirror", "accuracy/reverse"} <= set(asked.columns)
    assert set(history.kind) == {"train", "evaluate", "bytes", "server"} and len(asked) == 4
    assert len(result.plot().axes) == 2


@pytest.mark.slow
def test_through_flower_it_is_the_same(symphony_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", str(ROOT))
    here = api.run(MINE, in_process=True, progress=None)
    through = api.run(MINE, progress=None)
    assert through.figures["adapter_digests"] == here.figures["adapter_digests"]
