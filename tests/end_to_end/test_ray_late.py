"""Ray that does not start in time, once: the run is started once more and completes; twice: it fails, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import copy_checkout

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.failure_causes import RAY_LATE
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import LaunchError, private_superlink

PATIENT = "START_SECONDS = 180.0"
IMPATIENT = """
_tries = Path({tries!r})
_tries.write_text(str(int(_tries.read_text()) + 1))
START_SECONDS = 0.0 if int(_tries.read_text()) <= {late} else 180.0
def _away(*_: Any) -> Any:
    raise RuntimeError("not there yet")
"""
ASKS = "partial(_await_node, services.get_node)"
ASKS_IN_VAIN = "partial(_await_node, services.get_node if START_SECONDS else _away)"


def _app(folder: Path, late: int) -> tuple[Path, Path]:
    """A checkout whose Ray is late for so many runs, and the file that counts runs."""
    tries = folder / "tries"
    tries.write_text("0")
    app = copy_checkout(folder / "app")
    file = app / "clients" / "flower_patches" / "ray_security.py"
    text = file.read_text()
    assert PATIENT in text and ASKS in text
    text = text.replace(PATIENT, IMPATIENT.format(tries=str(tries), late=late).strip())
    file.write_text(text.replace(ASKS, ASKS_IN_VAIN))
    return app, tries


@pytest.mark.slow
@pytest.mark.parametrize("late", [1, 2])
def test_ray_that_is_late_is_started_once_more(symphony_home: Path, tmp_path: Path, late: int) -> None:
    app, tries = _app(tmp_path, late)
    recipe = check_recipe(load_recipe("smoke", ["rounds=1"]))
    lines: list[str] = []
    with private_superlink(app) as link:
        if late == 1:
            result = run_recipe(link, recipe, tmp_path / "run", lines.append, app)
            assert result["status"] == "completed"
        else:
            with pytest.raises(LaunchError, match=f"{RAY_LATE}.*flower.log") as error:
                run_recipe(link, recipe, tmp_path / "run", lines.append, app)
            assert "\n" not in str(error.value)
    assert tries.read_text() == "2"
    assert sum("starting the run once more" in line for line in lines) == 1
