"""Tables as text, Markdown or HTML; and two of them: the summary of a run and the comparison of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from symphony_fl.reports.pages import render


@dataclass(frozen=True)
class Table:
    """Rows of text cells under a head.

    Parameters
    ----------
    key : short name, unique in a page
    title : above the table; "" for none
    head, rows : cells
    note : says what the columns are, below the table
    """

    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def text(self) -> str:
        """For a terminal: columns aligned, indented by two spaces, without title and note."""
        lines = (self.head, *self.rows) if any(self.head) else self.rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n" + "\n".join(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """As GitHub shows it: title, table, note."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        table = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts = (f"**{self.title}**" if self.title else "", "\n".join(table), self.note)
        return "\n\n".join(filter(None, parts))

    def html(self) -> str:
        """As an element of a page; backticks become <code>."""
        return render("table.html", {"table": self})


_PARTS = {
    "self-play": "{valid:.0%} of the proposals valid, {duplicate:.0%} of these duplicates; {distinct:,.0f} distinct "
    "tasks, mean difficulty {difficulty:.1f}  (last round)",
    "memory": "{episodes:,.0f} attempts at {tasks:,.0f} tasks per agent",
    "shared reward": "{mean:.2f}, mean over skills in the last round; weight {weight:g} ({use})",
    "exchange": "{rule} over {topology}, {density:.1%} of the entries as {codec}; {envelope_bytes:,.0f} bytes an "
    "envelope, {merged:.0f} merged  (last round)",
}
"""What came of a run's parts, one line each."""


def summary_table(result: Mapping[str, Any]) -> str:
    """What a run came to, for a terminal."""
    rows = [
        ("status", result["status"]),
        ("accuracy before", _number(result["accuracy_before"], ".3f")),
        (
            "accuracy after",
            f"{_number(result['accuracy_after'], '.3f')}  (all skills, mean of {_evaluated(result)} agents)",
        ),
        ("lowest agent", _number(result["accuracy_min_agent"], ".3f")),
        ("bytes sent", f"{result['bytes_sent_per_agent']:,.0f} per agent"),
        ("bytes received", f"{result['bytes_received_per_agent']:,.0f} per agent"),
        *((part, _PARTS[part].format(**figures)) for part, figures in result.get("parts", {}).items()),
        ("refused", ", ".join(f"{name} {count}" for name, count in result["refused"].items()) or "nothing"),
        ("rounds", str(result["rounds"])),
        ("seconds", f"{result['seconds']:.0f}"),
        ("run", ways([result])),
        ("folder", result["folder"]),
        ("plots", f"{result['folder']}/plots"),
        ("MLflow", "symphony dashboard  (or: make dashboard), then http://127.0.0.1:5000"),
    ]
    return Table("summary", "", ("", ""), tuple(rows)).text()


def comparison_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """`comparison` for a terminal."""
    return comparison(runs).text()


def comparison(runs: Sequence[Mapping[str, Any]]) -> Table:
    """One row per recipe: mean and standard deviation over seeds."""
    head = (
        "recipe",
        "seeds",
        "accuracy before",
        "accuracy after",
        "lowest agent",
        "kB sent",
        "kB received",
        "s",
    )
    lines: list[tuple[str, ...]] = []
    for name in dict.fromkeys(item["recipe"] for item in runs):
        done = [item for item in runs if item["recipe"] == name and item["status"] == "completed"]
        failed = sum(item["recipe"] == name for item in runs) - len(done)
        if not done:
            lines.append((name, f"0 ({failed} failed)", "-", "-", "-", "-", "-", "-"))
            continue
        lines.append(
            (
                name,
                f"{len(done)}" + (f" ({failed} failed)" if failed else ""),
                _spread([item["accuracy_before"] for item in done]),
                _spread([item["accuracy_after"] for item in done]),
                f"{min(item['accuracy_min_agent'] for item in done):.3f}",
                f"{mean(item['bytes_sent_per_agent'] for item in done) / 1000:,.1f}",
                f"{mean(item['bytes_received_per_agent'] for item in done) / 1000:,.1f}",
                f"{mean(item['seconds'] for item in done):.0f}",
            )
        )
    return Table("comparison", "", head, tuple(lines))


def ways(results: Iterable[Mapping[str, Any]]) -> str:
    """Which way runs went, for people; of several ways, how many each. Results of earlier versions do not say it: there
    was one way."""
    counts = Counter(str(result.get("runtime", "flower")) for result in results)
    words = {"flower": "through Flower", "in-process": "in-process"}
    if len(counts) == 1:
        return words[next(iter(counts))]
    return ", ".join(f"{count} {words[name]}" for name, count in sorted(counts.items()))


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _evaluated(result: Mapping[str, Any]) -> int:
    """How many agents were evaluated: where one trains for all, one."""
    return len(result.get("adapter_digests") or ()) or int(result["agents"])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
