"""The frontier's arithmetic on rows made by hand; the command itself runs in tests/end_to_end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from symphony_fl.config.recipe import RecipeError
from symphony_fl.experiment.frontier import (
    POINTS,
    figures,
    finished,
    frontier_table,
    plot_frontier,
    point_recipe,
    still_to_run,
    wanted,
)


def row(point: str, seed: int, accuracy: float, sent: float, status: str = "completed") -> dict[str, Any]:
    found = {"point": point, "recipe_digest": point_recipe(point, seed).digest, "status": status}
    return found | {
        "accuracy_after": accuracy,
        "bytes_sent_per_agent": sent,
        "bytes_received_per_agent": sent,
    }


ROWS = [
    row("fedavg", 0, 0.90, 3_000_000),
    row("fedavg", 1, 0.92, 3_000_000),
    row("epidemic", 0, 0.91, 30_000),
    row("choco", 0, 0.85, 60_000),
    row("isolated", 0, 0.54, 0),
    row("isolated", 1, 0.0, 0, "failed"),
]

COMPLETED = [item for item in ROWS if item["status"] == "completed"]


def test_means_ratios_and_who_is_beaten() -> None:
    found = {item.point: item for item in figures(COMPLETED)}
    assert list(found) == ["isolated", "epidemic", "choco", "fedavg"]
    assert found["fedavg"].accuracy == pytest.approx(0.91) and found["fedavg"].ratio == 1
    assert found["fedavg"].spread == pytest.approx(0.0141421, rel=1e-4)
    assert found["epidemic"].ratio == pytest.approx(100) and found["epidemic"].kilobytes == 60
    assert found["isolated"].ratio is None and found["isolated"].seeds == 1
    # The same mean accuracy at a hundredth of the bytes does not beat FedAvg: more of both would.
    assert [name for name, item in found.items() if item.best] == ["isolated", "epidemic", "fedavg"]


def test_what_is_done_is_not_run_again_and_what_failed_is() -> None:
    asked = wanted(["fedavg", "isolated"], [0, 1, 2])
    todo = still_to_run(asked, ROWS)
    assert [(point, recipe.seed) for point, recipe in todo] == [
        ("isolated", 1),
        ("fedavg", 2),
        ("isolated", 2),
    ]
    again = [*ROWS, row("isolated", 1, 0.5, 0)]
    assert len(finished(asked, again)) == 4 and len(still_to_run(asked, again)) == 2
    stale = [item | {"recipe_digest": "0" * 16} for item in ROWS]
    assert finished(asked, stale) == [] and len(still_to_run(asked, stale)) == 6


def test_table_and_plot_hold_every_point(tmp_path: Path) -> None:
    table = frontier_table(figures(COMPLETED))
    assert "| * | `epidemic` | 1 | 0.910 ± 0.000 | 60.0 | 100.0x |" in table
    assert plot_frontier(figures(COMPLETED), tmp_path / "frontier.png").stat().st_size > 10_000


def test_agents_that_all_learn_alone_have_a_plot_too(tmp_path: Path) -> None:
    alone = figures([row("isolated", seed, 0.5, 0.0) for seed in (0, 1)])
    assert plot_frontier(alone, tmp_path / "frontier.png").stat().st_size > 5_000


def test_every_point_of_the_grid_is_a_recipe() -> None:
    assert len({point_recipe(point, 0).digest for point in POINTS}) == len(POINTS)
    with pytest.raises(RecipeError, match="densty"):
        point_recipe("epidemic exchange.densty=1", 0)
