"""Tables against rows whose means and intervals are computed by hand; the same rows give the same text."""

from __future__ import annotations

from symphony_fl.experiment.columns import NOTHING
from symphony_fl.experiment.rows import Row
from symphony_fl.experiment.tables import all_tables
from symphony_fl.reports.tables import Table


def _cell(table: Table, recipe: str, column: str) -> str:
    (row,) = [row for row in table.rows if row[1] == f"`{recipe}`"]
    return row[table.head.index(column)]


def test_means_intervals_and_paired_differences(rows: list[Row]) -> None:
    table = all_tables(rows)["paradigms"]
    assert [row[1] for row in table.rows] == [
        "`sync_centralized`", "`given_tasks`", "`async_gossip`", "`isolated`",
    ]  # fmt: skip
    # Two seeds 0.02 apart: s / sqrt(2) = 0.01, times t(0.975, 1) = 12.706.
    assert _cell(table, "given_tasks", "after") == "0.790 ± 0.127"
    assert _cell(table, "given_tasks", "n") == "2"
    assert _cell(table, "given_tasks", "less sync_centralized") == "-0.020 ± 0.000"
    assert _cell(table, "isolated", "less given_tasks") == "-0.380 ± 0.000"
    assert _cell(table, "given_tasks", "less given_tasks") == NOTHING
    assert _cell(table, "given_tasks", "kB sent per agent") == "20.0 ± 0.0"


def test_one_seed_has_no_interval(rows: list[Row]) -> None:
    table = all_tables([row for row in rows if row["seed"] == 0])["paradigms"]
    assert _cell(table, "given_tasks", "after") == "0.780"


def test_collaboration_delay_and_time(rows: list[Row]) -> None:
    tables = all_tables(rows)
    assert _cell(tables["interaction"], "given_tasks", "collaboration") == "+0.380 ± 0.000"
    assert _cell(tables["interaction"], "given_tasks", "mail refused") == "25.0% ± 0.0%"
    assert [row[1:3] for row in tables["delay"].rows] == [("`async_gossip`", "`given_tasks`")]
    assert tables["delay"].rows[0][-1] == "-0.080 ± 0.000"
    time = tables["time"]
    assert _cell(time, "isolated", "1 Mbit/s") == "not reached (0 of 2)"
    assert _cell(time, "async_gossip", "1 Mbit/s") == NOTHING
    # 90 % of the upper bound's mean gain, 0.25 to 0.81, is 0.754: async_gossip ends at 0.70 and 0.72.
    assert "0.754" in time.note and _cell(time, "async_gossip", "free transfers") == "not reached (0 of 2)"
    assert _cell(time, "given_tasks", "free transfers") == "0.5 ± 0.0"


def test_the_same_rows_give_the_same_tables_in_whatever_order(rows: list[Row]) -> None:
    first = [table.markdown() for table in all_tables(rows).values()]
    assert first == [table.markdown() for table in all_tables(list(reversed(rows))).values()]


def test_markdown_has_as_many_cells_in_every_line(rows: list[Row]) -> None:
    for table in all_tables(rows).values():
        lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert len(lines) == len(table.rows) + 2
        assert {line.count("|") for line in lines} == {len(table.head) + 1}, table.key
