"""What tables are made of: rows by paradigm and seed, cells with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from symphony_fl.experiment.paradigms import BY_NAME, PARADIGMS
from symphony_fl.experiment.rows import Row
from symphony_fl.experiment.statistics import Estimate, estimate, paired

NOTHING = "–"


class Rows:
    """Rows by paradigm and seed, in the order in which paradigms are listed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = sorted(rows, key=lambda row: (_place(row["paradigm"]), row["seed"]))
        self.paradigms = list(dict.fromkeys(row["paradigm"] for row in self.rows))

    def of(self, paradigm: str) -> list[Row]:
        return [row for row in self.rows if row["paradigm"] == paradigm]

    def values(self, paradigm: str, name: str) -> dict[int, float]:
        """Seed -> a scalar, of the seeds that have it."""
        found = {row["seed"]: row["scalars"].get(name) for row in self.of(paradigm)}
        return {seed: value for seed, value in found.items() if value is not None}


def by_paradigm(
    rows: Rows, columns: Mapping[str, Callable[[str], str]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """(head, rows) of a table with one line per paradigm."""
    head = ("paradigm", "recipe", "n", *(name.strip() for name in columns))
    lines = [
        (
            BY_NAME[name].title,
            f"`{name}`",
            str(len(rows.of(name))),
            *(make(name) for make in columns.values()),
        )
        for name in rows.paradigms
    ]
    return head, tuple(lines)


def cell(rows: Rows, paradigm: str, name: str, form: str = ".3f", scale: float = 1.0) -> str:
    return text(estimate(value * scale for value in rows.values(paradigm, name).values()), form)


def difference(rows: Rows, paradigm: str, other: str) -> str:
    if paradigm == other:
        return NOTHING
    values = (rows.values(name, "accuracy/mean") for name in (paradigm, other))
    return text(paired(*values), "+.3f")


def ratio(rows: Rows, paradigm: str, other: str) -> str:
    """Bytes of parameters over those of another paradigm, all agents together."""
    own, base = (_total(rows, name) for name in (paradigm, other))
    return NOTHING if own is None or not base or paradigm == other or not own else f"1/{base / own:,.1f}"


def _total(rows: Rows, paradigm: str) -> float | None:
    found = estimate(rows.values(paradigm, "kilobytes/parameters").values())
    return None if found is None else found.mean


def text(found: Estimate | None, form: str) -> str:
    if found is None:
        return NOTHING
    half = "" if found.half is None else f" ± {found.half:{form.replace('+', '')}}"
    return f"{found.mean:{form}}{half}"


def _place(paradigm: str) -> int:
    return [item.name for item in PARADIGMS].index(paradigm)
