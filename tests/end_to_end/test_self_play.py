"""The main job learns, from tasks that its agents wrote themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

import symphony_fl as sf


@pytest.mark.slow
def test_the_main_job_learns_from_its_own_tasks(tmp_path: Path) -> None:
    """Three of its 15 rounds."""
    figures = sf.run(
        "default",
        {"tracking.agents": False, "tasks.held_out": 20},
        rounds=3,
        in_process=True,
        folder=tmp_path / "run",
        progress=None,
    ).figures
    assert figures["accuracy_before"] < 0.42, (
        "of the common start: it taught the form of tasks, and no answers"
    )
    assert figures["accuracy_after"] > 0.5
    assert figures["parts"]["self-play"]["valid"] > 0.85
    assert figures["bytes_sent_per_agent"] < 12_500
