"""Results as text: means and spreads over seeds, failures beside them."""

from __future__ import annotations

from typing import Any

from symphony_fl.reports.tables import comparison_table, summary_table, ways


def _result(recipe: str, seed: int, after: float, status: str = "completed") -> dict[str, Any]:
    return {
        "recipe": recipe, "seed": seed, "status": status, "accuracy_before": 0.4, "accuracy_after": after,
        "accuracy_min_agent": after - 0.05, "bytes_sent_per_agent": 1500.0, "bytes_received_per_agent": 2500.0,
        "seconds": 10.0, "rounds": 3, "agents": 4, "refused": {"replayed": 2}, "folder": "/runs/x",
    }  # fmt: skip


def test_a_comparison_has_a_row_per_recipe_and_counts_failures() -> None:
    failed = {"recipe": "gossip", "seed": 2, "status": "failed", "error": "x", "folder": "f"}
    runs = [_result("gossip", 0, 0.8), _result("gossip", 1, 0.9), failed, failed | {"recipe": "fedavg"}]
    lines = comparison_table(runs).strip().splitlines()
    assert len(lines) == 3
    assert "2 (1 failed)" in lines[1] and "0.850 ± 0.071" in lines[1] and "0.750" in lines[1]
    assert "0 (1 failed)" in lines[2]


def test_a_summary_names_what_was_refused() -> None:
    text = summary_table(_result("gossip", 0, 0.8))
    assert "replayed 2" in text and "1,500 per agent" in text and "0.800" in text


def test_a_summary_says_what_came_of_each_part() -> None:
    parts = {
        "self-play": {"valid": 0.914, "duplicate": 0.03, "distinct": 1234.0, "difficulty": 4.44},
        "memory": {"episodes": 20000.0, "tasks": 2345.0},
        "shared reward": {"use": "both", "weight": 0.2, "mean": 0.625},
        "exchange": {"rule": "epidemic", "topology": "ring", "codec": "sign", "density": 0.05, "envelope_bytes": 1237.0,
                     "merged": 3.0},
    }  # fmt: skip
    lines = summary_table(_result("default", 0, 0.8) | {"parts": parts}).splitlines()
    assert [line.split("  ")[1] for line in lines if line.strip().startswith(tuple(parts))] == list(parts)
    text = "\n".join(lines)
    assert (
        "91% of the proposals valid, 3% of these duplicates; 1,234 distinct tasks, mean difficulty 4.4"
        in text
    )
    assert "20,000 attempts at 2,345 tasks" in text and "0.62, mean over skills" in text
    assert "epidemic over ring, 5.0% of the entries as sign; 1,237 bytes an envelope, 3 merged" in text


def test_tables_say_which_way_runs_went() -> None:
    flower, here = {"runtime": "flower"}, {"runtime": "in-process"}
    assert ways([here, here]) == "in-process" and ways([flower, {}]) == "through Flower"
    assert ways([flower, here, here]) == "1 through Flower, 2 in-process"
    assert ["run", "in-process"] in [
        line.split() for line in summary_table(_result("gossip", 0, 0.8) | here).splitlines()
    ]
