"""The tables of the report, as data: the same rows give exactly the same tables; they hold no wall-clock times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from symphony_fl.experiment.columns import NOTHING, Rows, by_paradigm, cell, difference, ratio, text
from symphony_fl.experiment.paradigms import ALONE, BY_NAME, CENTRAL, GOSSIP
from symphony_fl.experiment.rows import Row
from symphony_fl.experiment.statistics import estimate, paired, spread
from symphony_fl.experiment.timing import FREE, LINKS
from symphony_fl.metrics.paper_metrics import collaboration
from symphony_fl.reports.tables import Table

TIMED_SHARE = 0.9
"""The share of the upper bound's gain that time is measured to."""


def all_tables(rows: Sequence[Row]) -> dict[str, Table]:
    """Key -> table, in the order of the report."""
    found = Rows(rows)
    build: tuple[Callable[[Rows], Table], ...] = (
        _paradigms, _broadcast, _generalisation, _specialisation, _similarity, _interaction, _bandwidth,
        _stability, _delay, _time,
    )  # fmt: skip
    tables = [make(found) for make in build]
    return {table.key: table for table in tables}


def _paradigms(rows: Rows) -> Table:
    table = by_paradigm(
        rows,
        {
            "before": lambda name: cell(rows, name, "accuracy/mean/before"),
            "after": lambda name: cell(rows, name, "accuracy/mean"),
            f"less {CENTRAL}": lambda name: difference(rows, name, CENTRAL),
            f"less {GOSSIP}": lambda name: difference(rows, name, GOSSIP),
            "kB sent per agent": lambda name: cell(rows, name, "kilobytes/sent", ",.1f"),
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
    table = by_paradigm(
        rows,
        {
            "kB sent per agent": lambda name: cell(rows, name, "kilobytes/sent", ",.1f"),
            "kB of parameters, all agents": lambda name: cell(rows, name, "kilobytes/parameters", ",.1f"),
            "of full weights'": lambda name: ratio(rows, name, "async2_full"),
            "of FedAvg's": lambda name: ratio(rows, name, "fedavg"),
            "staleness": lambda name: cell(rows, name, "staleness", ".2f"),
        },
    )
    return Table(
        "broadcast",
        "Bytes and freshness",
        *table,
        "Bytes as counted on the wire, headers and signatures included, over the whole run; what workers send are "
        "rollouts, so only what they receive counts as parameters; under FedAvg both ways do. The ratios are of "
        "parameters' bytes to those of `async2_full` and `fedavg`. Staleness: rounds (centralised: RL steps) "
        "between making and using an update or a rollout's weights.",
    )


def _generalisation(rows: Rows) -> Table:
    def gain(name: str, what: str) -> str:
        after, before = rows.values(name, f"accuracy/{what}"), rows.values(name, f"accuracy/{what}/before")
        return text(paired(after, before), "+.3f")

    table = by_paradigm(
        rows,
        {
            "held-out": lambda name: cell(rows, name, "accuracy/mean"),
            "lowest agent": lambda name: cell(rows, name, "accuracy/lowest"),
            "own skills": lambda name: cell(rows, name, "accuracy/own"),
            "harder": lambda name: cell(rows, name, "accuracy/harder"),
            "gained there": lambda name: gain(name, "harder"),
            "unseen skills": lambda name: cell(rows, name, "accuracy/unseen"),
            "gained there ": lambda name: gain(name, "unseen"),
        },
    )
    return Table(
        "generalisation",
        "Task accuracy and generalization",
        *table,
        "After training. Harder: longer questions than any that was trained. Unseen: skills that no agent trained "
        "on. The embedded model's warm start did show these, and with the slip that it also makes at the trained "
        "ones: what is gained there is that the slip is unlearnt, not that a skill is found. “Gained there” is "
        "after less before.",
    )


def _specialisation(rows: Rows) -> Table:
    table = by_paradigm(
        rows,
        {
            "specialisation": lambda name: cell(rows, name, "specialisation"),
            "diversity of expertise": lambda name: cell(rows, name, "diversity"),
            "mean distance from the agents’ mean": lambda name: cell(rows, name, "affinity/mean_abs"),
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
    table = by_paradigm(
        rows,
        {
            "smoothness": lambda name: cell(rows, name, "smoothness", "+.3f"),
            "between agents, last updates": lambda name: cell(rows, name, "similarity/updates", "+.3f"),
            "between agents, whole movement": lambda name: cell(rows, name, "similarity/movements", "+.3f"),
            "drift": lambda name: cell(rows, name, "drift"),
        },
    )
    return Table(
        "similarity",
        "Parameter similarity",
        *table,
        "Cosines. Smoothness: of an agent's successive local updates, which are of 8 steps each, in centralised "
        "paradigms of one: the shorter, the more of it is the optimizer's momentum. Between agents: mean over "
        "pairs, of the last local updates and of the movement since the start. Drift: distance to the neighbours "
        "(where changes travel: to what they know of one) over distance moved.",
    )


def _interaction(rows: Rows) -> Table:
    def quality(name: str) -> str:
        after, alone = rows.values(name, "accuracy/mean"), rows.values(ALONE, "accuracy/mean")
        both = sorted(after.keys() & alone.keys())
        return text(estimate(collaboration(after[seed], alone[seed]) for seed in both), "+.3f")

    table = by_paradigm(
        rows,
        {
            "first reward": lambda name: cell(rows, name, "reward/first"),
            "last reward": lambda name: cell(rows, name, "reward/last"),
            "rounds completed": lambda name: cell(rows, name, "completion/rounds", ".1%"),
            "updates merged": lambda name: cell(rows, name, "completion/updates", ".1%"),
            "mail refused": lambda name: cell(rows, name, "refused", ".1%"),
            "collaboration": quality,
        },
    )
    return Table(
        "interaction",
        "Interaction success",
        *table,
        "Reward: mean over the first and the last 15th of all samples, a round of `given_tasks`. Merged: of all "
        "updates meant for another agent, those it merged (what is under way at the end is missing); centralised: "
        "rollouts used of those dealt out. Collaboration: accuracy less that of `isolated` at equal samples, paired "
        "by seed.",
    )


def _bandwidth(rows: Rows) -> Table:
    table = by_paradigm(
        rows,
        {
            "kB of parameters, all agents": lambda name: cell(rows, name, "kilobytes/parameters", ",.1f"),
            "accuracy gain per MB": lambda name: cell(rows, name, "accuracy/per_kilobyte", ",.3f", 1000),
            "reward gain per MB": lambda name: cell(rows, name, "reward/per_kilobyte", ",.3f", 1000),
        },
    )
    return Table(
        "bandwidth",
        "Bandwidth efficiency",
        *table,
        "Gain since the start over the parameter updates synchronised, per agent (all agents' over their number); a "
        "thousandth of a figure is the paper's gain per kilobyte.",
    )


def _stability(rows: Rows) -> Table:
    def deviation(name: str) -> str:
        found = spread(rows.values(name, "accuracy/mean").values())
        return NOTHING if found is None else f"{found:.4f}"

    table = by_paradigm(
        rows,
        {
            "standard deviation over seeds": deviation,
            "samples to 95 % of the gain": lambda name: cell(rows, name, "converged", ",.0f"),
            "largest fall": lambda name: cell(rows, name, "worst_drop"),
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
            cells = (BY_NAME[name].title, f"`{name}`", f"`{sibling}`", cell(rows, name, "staleness", ".2f"))
            found.append((*cells, difference(rows, name, sibling)))
    return Table(
        "delay",
        "Sensitivity to delay",
        ("paradigm", "recipe", "without delay", "staleness", "difference in accuracy"),
        tuple(found),
        "Each asynchronous paradigm against its synchronous sibling, paired by seed: below 0 is what delay costs. "
        "`async_gossip` differs in more than delay: its devices have four speeds, so a slow one's skills are learnt in "
        "fewer rounds, and its graph is complete, its sibling's a ring.",
    )


def _time(rows: Rows) -> Table:
    """Time to a share of the best accuracy, so that all models have such a table."""
    best = CENTRAL if CENTRAL in rows.paradigms else rows.paradigms[0]
    base = estimate(rows.values(best, "accuracy/mean/before").values())
    final = estimate(rows.values(best, "accuracy/mean").values())
    assert base is not None and final is not None, "every row has accuracies"
    level = base.mean + TIMED_SHARE * (final.mean - base.mean)

    def minutes(name: str, link: str) -> str:
        curves = [row["curves"].get(f"accuracy/seconds/{link}", []) for row in rows.of(name)]
        reached = [_first(curve, level) for curve in curves if curve]
        found = [seconds / 60 for seconds in reached if seconds is not None]
        if not reached:
            return NOTHING
        missed = f" ({len(found)} of {len(reached)})" if len(found) < len(reached) else ""
        return (text(estimate(found), ",.1f") if found else "not reached") + missed

    columns = {f"{name} Mbit/s": partial(minutes, link=name) for name in LINKS}
    return Table(
        "time",
        "Simulated minutes to accuracy",
        *by_paradigm(rows, columns | {"free transfers": partial(minutes, link=FREE)}),
        f"Until the first evaluation with an accuracy of {level:.3f}, {TIMED_SHARE:.0%} of what `{best}` gains, on "
        "simulated devices (RTX 4090, RTX 3060, Jetson AGX Orin, Apple M2, one for each agent; the server of "
        f"`{CENTRAL}` is the first, alone) with links of that speed. `async_gossip` lived by its own clock, on these "
        "devices, with free transfers. In brackets: seeds that got there.",
    )


def _first(curve: Sequence[Sequence[float]], level: float) -> float | None:
    """Simulated seconds of the first evaluation at or above `level`."""
    return next((seconds for seconds, accuracy in curve if accuracy >= level), None)
