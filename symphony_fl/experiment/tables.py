"""The tables of the report, as data: the same rows give the same tables, to the letter; no wall-clock is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from symphony_fl.experiment.paradigms import ALONE, BY_NAME, CENTRAL, GOSSIP, PARADIGMS
from symphony_fl.experiment.rows import Row
from symphony_fl.experiment.statistics import Estimate, estimate, paired, spread
from symphony_fl.paper_metrics import collaboration

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table under one heading; cells are text. `note` says what the columns are."""

    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str

    def markdown(self) -> str:
        """As GitHub shows it, the note below."""
        lines = [f"**{self.title}**", "", f"| {' | '.join(self.head)} |", "|" + "---|" * len(self.head)]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, "", self.note])


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


def all_tables(rows: Sequence[Row]) -> dict[str, Table]:
    """Key -> table, in the order of the report."""
    found = Rows(rows)
    build: tuple[Callable[[Rows], Table], ...] = (
        _paradigms, _broadcast, _generalisation, _specialisation, _similarity, _interaction, _bandwidth,
        _stability, _delay,
    )  # fmt: skip
    tables = [make(found) for make in build]
    return {table.key: table for table in tables}


def _paradigms(rows: Rows) -> Table:
    table = _by_paradigm(
        rows,
        {
            "before": lambda name: _cell(rows, name, "accuracy/mean/before"),
            "after": lambda name: _cell(rows, name, "accuracy/mean"),
            f"less {CENTRAL}": lambda name: _difference(rows, name, CENTRAL),
            f"less {GOSSIP}": lambda name: _difference(rows, name, GOSSIP),
            "kB sent per agent": lambda name: _cell(rows, name, "kilobytes/sent", ",.1f"),
        },
    )
    return Table(
        "paradigms",
        "Accuracy of the training paradigms",
        *table,
        "Held-out accuracy, mean over skills and agents, before and after training; ± is the 95 % confidence interval "
        "over n seeds (Student's t). Differences are paired by seed: positive is better than the other.",
    )


def _broadcast(rows: Rows) -> Table:
    table = _by_paradigm(
        rows,
        {
            "kB sent per agent": lambda name: _cell(rows, name, "kilobytes/sent", ",.1f"),
            "kB received": lambda name: _cell(rows, name, "kilobytes/received", ",.1f"),
            "bytes of full weights": lambda name: _ratio(rows, name, "async2_full"),
            "bytes of FedAvg": lambda name: _ratio(rows, name, "fedavg"),
            "staleness": lambda name: _cell(rows, name, "staleness", ".2f"),
        },
    )
    return Table(
        "broadcast",
        "Bytes and freshness",
        *table,
        "Bytes as counted on the wire, headers and signatures included, over the whole run. The ratios are of bytes "
        "sent by all agents together to those of `async2_full` and `fedavg`. Staleness: rounds (centralised: RL "
        "steps) between making and using an update or a rollout's weights, as agents report it.",
    )


def _generalisation(rows: Rows) -> Table:
    def gain(name: str, what: str) -> str:
        after, before = rows.values(name, f"accuracy/{what}"), rows.values(name, f"accuracy/{what}/before")
        return _text(paired(after, before), "+.3f")

    table = _by_paradigm(
        rows,
        {
            "held-out": lambda name: _cell(rows, name, "accuracy/mean"),
            "lowest agent": lambda name: _cell(rows, name, "accuracy/lowest"),
            "own skills": lambda name: _cell(rows, name, "accuracy/own"),
            "harder": lambda name: _cell(rows, name, "accuracy/harder"),
            "gained there": lambda name: gain(name, "harder"),
            "unseen skills": lambda name: _cell(rows, name, "accuracy/unseen"),
            "gained there ": lambda name: gain(name, "unseen"),
        },
    )
    return Table(
        "generalisation",
        "Task accuracy and generalization",
        *table,
        "After training. Harder: longer questions than any that was trained. Unseen: skills nobody trained on. "
        "“Gained there” is after less before.",
    )


def _specialisation(rows: Rows) -> Table:
    table = _by_paradigm(
        rows,
        {
            "specialisation": lambda name: _cell(rows, name, "specialisation"),
            "diversity of expertise": lambda name: _cell(rows, name, "diversity"),
            "mean distance from the agents’ mean": lambda name: _cell(rows, name, "affinity/mean_abs"),
        },
    )
    return Table(
        "specialisation",
        "Skill specialization",
        *table,
        "Specialisation: 0 for an agent equally good at everything, 1 for one good at a single skill. Diversity: 0 "
        "when all have one profile, 1 when skills are disjoint. Affinity: an agent's accuracy at a skill less the "
        "mean over agents. One evaluated agent has no diversity.",
    )


def _similarity(rows: Rows) -> Table:
    table = _by_paradigm(
        rows,
        {
            "smoothness": lambda name: _cell(rows, name, "smoothness", "+.3f"),
            "between agents, last updates": lambda name: _cell(rows, name, "similarity/updates", "+.3f"),
            "between agents, whole movement": lambda name: _cell(rows, name, "similarity/movements", "+.3f"),
            "drift": lambda name: _cell(rows, name, "drift"),
        },
    )
    return Table(
        "similarity",
        "Parameter similarity",
        *table,
        "Cosines. Smoothness: of an agent's successive local updates. Between agents: mean over pairs, of the last "
        "local updates and of the movement since the start. Drift: distance to the neighbours (where changes travel: "
        "to what they know of one) over distance moved.",
    )


def _interaction(rows: Rows) -> Table:
    def quality(name: str) -> str:
        after, alone = rows.values(name, "accuracy/mean"), rows.values(ALONE, "accuracy/mean")
        both = sorted(after.keys() & alone.keys())
        return _text(estimate(collaboration(after[seed], alone[seed]) for seed in both), "+.3f")

    table = _by_paradigm(
        rows,
        {
            "first reward": lambda name: _cell(rows, name, "reward/first"),
            "last reward": lambda name: _cell(rows, name, "reward/last"),
            "rounds completed": lambda name: _cell(rows, name, "completion/rounds", ".1%"),
            "updates merged": lambda name: _cell(rows, name, "completion/updates", ".1%"),
            "mail refused": lambda name: _cell(rows, name, "refused", ".1%"),
            "collaboration": quality,
        },
    )
    return Table(
        "interaction",
        "Interaction success",
        *table,
        "Reward of the first and last round's rollouts. Merged: of all updates meant for another agent, those it "
        "merged (what is under way when the run ends is missing). Collaboration: accuracy less that of `isolated` at "
        "equal samples, paired by seed.",
    )


def _bandwidth(rows: Rows) -> Table:
    table = _by_paradigm(
        rows,
        {
            "kB sent per agent": lambda name: _cell(rows, name, "kilobytes/sent", ",.1f"),
            "accuracy gain per MB": lambda name: _cell(rows, name, "accuracy/per_kilobyte", ",.3f", 1000),
            "reward gain per MB": lambda name: _cell(rows, name, "reward/per_kilobyte", ",.3f", 1000),
        },
    )
    return Table(
        "bandwidth",
        "Bandwidth efficiency",
        *table,
        "Gain since the start over what an agent sent; a thousandth of a figure is the paper's gain per kilobyte.",
    )


def _stability(rows: Rows) -> Table:
    def deviation(name: str) -> str:
        found = spread(rows.values(name, "accuracy/mean").values())
        return NOTHING if found is None else f"{found:.4f}"

    table = _by_paradigm(
        rows,
        {
            "standard deviation over seeds": deviation,
            "samples to 95 % of the gain": lambda name: _cell(rows, name, "converged", ",.0f"),
            "largest fall": lambda name: _cell(rows, name, "worst_drop"),
        },
    )
    return Table(
        "stability",
        "Stability",
        *table,
        "Standard deviation of the final accuracy; convergence, by straight lines between evaluations; largest fall of "
        "the accuracy below an earlier evaluation.",
    )


def _delay(rows: Rows) -> Table:
    found = []
    for name in rows.paradigms:
        sibling = BY_NAME[name].sibling
        if sibling in rows.paradigms:
            cells = (BY_NAME[name].title, f"`{name}`", f"`{sibling}`", _cell(rows, name, "staleness", ".2f"))
            found.append((*cells, _difference(rows, name, sibling)))
    return Table(
        "delay",
        "Sensitivity to delay",
        ("paradigm", "recipe", "without delay", "staleness", "difference in accuracy"),
        tuple(found),
        "Each asynchronous paradigm against its synchronous sibling, paired by seed: below 0 is what delay costs. "
        "`async_gossip` has a complete graph, its sibling a ring.",
    )


def _by_paradigm(
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


def _cell(rows: Rows, paradigm: str, name: str, form: str = ".3f", scale: float = 1.0) -> str:
    return _text(estimate(value * scale for value in rows.values(paradigm, name).values()), form)


def _difference(rows: Rows, paradigm: str, other: str) -> str:
    if paradigm == other:
        return NOTHING
    values = (rows.values(name, "accuracy/mean") for name in (paradigm, other))
    return _text(paired(*values), "+.3f")


def _ratio(rows: Rows, paradigm: str, other: str) -> str:
    """Bytes sent over those of another paradigm, all agents together."""
    own, base = (_total(rows, name) for name in (paradigm, other))
    return NOTHING if own is None or not base or paradigm == other or not own else f"1/{base / own:,.1f}"


def _total(rows: Rows, paradigm: str) -> float | None:
    found = estimate(rows.values(paradigm, "kilobytes/total").values())
    return None if found is None else found.mean


def _text(found: Estimate | None, form: str) -> str:
    if found is None:
        return NOTHING
    half = "" if found.half is None else f" ± {found.half:{form.replace('+', '')}}"
    return f"{found.mean:{form}}{half}"


def _place(paradigm: str) -> int:
    return [item.name for item in PARADIGMS].index(paradigm)
