"""The examples of plug-ins in real runs: a skill, a rule and a dataset from outside the package, in one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from symphony_fl import api
from symphony_fl.launch.local_superlink import LaunchError

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


def test_a_run_in_which_every_round_fails_has_failed(symphony_home: Path, tmp_path: Path) -> None:
    text = (MINE.parent / "bounded.py").read_text().replace("bounded", "broken")
    bad = tmp_path / "broken.py"
    bad.write_text(
        text.replace("        moved = super()", '        raise ValueError("my bug")\n        moved = super()')
    )
    words = [f"plugins=[{bad}]", "exchange.rule=broken", "tracking.agents=false", "learner.steps=1"]
    with pytest.raises(
        LaunchError, match=r"no agent finished round 2; the first failure: agent \d: .*my bug"
    ):
        api.run("smoke", words, agents=2, rounds=2, in_process=True, progress=None)
