"""Options of what travels between agents: rule, selection, codec, defence (sections 5.1, 6.3)."""

from __future__ import annotations

from typing import Annotated, Literal

from symphony_fl import registry
from symphony_fl.config.option import Chosen, ComponentOptions, Options, option


class AverageOptions(ComponentOptions):
    """Eq. 4 on the values of adapters."""

    name: Literal["average"] = "average"
    alpha: float = option(1.0, "mixing factor of eq. 4", above=0, high=1)


class DeltaOptions(ComponentOptions):
    """Eq. 4 on the changes of a round."""

    name: Literal["delta"] = "delta"
    alpha: float = option(1.0, "mixing factor of eq. 4", above=0, high=1)
    scaling: Literal["mixing", "sum"] = option(
        "mixing", "weights of the changes: mixing keeps eq. 4 stable, sum is eq. 4 as written"
    )
    momentum: float = option(0.0, "momentum of section 6.3", low=0, high=0.999)


class ChocoOptions(ComponentOptions):
    """CHOCO-SGD: differences to public copies."""

    name: Literal["choco"] = "choco"
    gamma: float = option(0.5, "consensus step size", above=0, high=1)


class EpidemicOptions(ComponentOptions):
    """A state that all agents rebuild from updates passed on along the graph."""

    name: Literal["epidemic"] = "epidemic"
    combine: Literal["agents", "senders"] = option(
        "agents", "average over all agents, or over those who sent an entry: senders"
    )
    eta: float = option(1.0, "outer step size", above=0, high=100)
    keep: bool = option(False, "start rounds from the shared state plus one's own unsent residual")
    window: int = option(32, "rounds for which an update may be late", low=1)
    hops: int = option(32, "rounds for which an update is passed on", low=1)
    forwarding: Literal["tree", "flood"] = option(
        "tree",
        "tree: an agent gets an update once; flood: from every neighbour, which survives lost agents",
    )


class NoLoCoOptions(ComponentOptions):
    """NoLoCo: a random partner a round and an outer optimizer."""

    name: Literal["noloco"] = "noloco"
    momentum: float = option(0.0, "momentum of the outer step", low=0, high=0.999)
    step: float = option(0.7, "outer learning rate", above=0)
    pull: float = option(0.9, "pull towards the partner", low=0)


registry.add("rules", (AverageOptions, DeltaOptions, ChocoOptions, EpidemicOptions, NoLoCoOptions))


class ConstantOptions(ComponentOptions):
    """The same density in every round."""

    name: Literal["constant"] = "constant"


class LinearOptions(ComponentOptions):
    """Falls evenly to the floor in the last round."""

    name: Literal["linear"] = "linear"
    floor: float = option(0.01, "density of the last round", above=0, high=1)


class ExponentialDecayOptions(ComponentOptions):
    """Falls by a factor every round."""

    name: Literal["exponential"] = "exponential"
    floor: float = option(0.01, "least density", above=0, high=1)
    decay: float = option(0.9, "factor per round", above=0, high=1)


class BudgetOptions(ComponentOptions):
    """As many entries as fit into so many bytes."""

    name: Literal["budget"] = "budget"
    bytes: int = option(8192, "of an envelope, all included", low=1)


class AdaptiveOptions(ComponentOptions):
    """More where the adapters drift apart."""

    name: Literal["adaptive"] = "adaptive"
    floor: float = option(0.01, "least density", above=0, high=1)
    gain: float = option(0.9, "exponent of drift / target", above=0, high=1)
    target: float = option(0.3, "the drift at which the density stays as it is", above=0)


registry.add(
    "schedules", (ConstantOptions, LinearOptions, ExponentialDecayOptions, BudgetOptions, AdaptiveOptions)
)
Schedule = Annotated[ComponentOptions, Chosen("schedules")]
_DENSITY = "share of the entries that travels per round"


class DenseOptions(ComponentOptions):
    """Every entry, every round."""

    name: Literal["dense"] = "dense"


class SparseOptions(ComponentOptions):
    """What selections of a share of the entries have in common."""

    density: float = option(1.0, _DENSITY, above=0, high=1)
    schedule: Schedule = option(ConstantOptions(), "how the density changes over the rounds")


class RandomOptions(SparseOptions):
    """A mask that both ends derive from (run seed, round): SPARTA's."""

    name: Literal["random"] = "random"


class CyclicOptions(SparseOptions):
    """Chunks of a seeded permutation in turn."""

    name: Literal["cyclic"] = "cyclic"


class TopKOptions(SparseOptions):
    """The entries of largest magnitude."""

    name: Literal["topk"] = "topk"
    per_layer: bool = option(False, "rank entries within each layer")


class ThresholdOptions(SparseOptions):
    """Entries whose magnitude is out of proportion."""

    name: Literal["threshold"] = "threshold"
    per_layer: bool = option(False, "measure the proportion within each layer")
    factor: float = option(
        2.0, "multiple of the root mean square from which an entry travels; at most density of them", above=0
    )


registry.add("selections", (DenseOptions, RandomOptions, CyclicOptions, TopKOptions, ThresholdOptions))


class Float32Options(ComponentOptions):
    """32 bits, exact."""

    name: Literal["float32"] = "float32"


class BFloat16Options(ComponentOptions):
    """16 bits, the range of float32."""

    name: Literal["bfloat16"] = "bfloat16"


class Float16Options(ComponentOptions):
    """16 bits, more precise and of smaller range."""

    name: Literal["float16"] = "float16"


class ScaledOptions(ComponentOptions):
    """What codecs with a scale per block have in common."""

    block: int = option(1024, "entries that share one scale", low=1)


class Int8Options(ScaledOptions):
    """8 bits and a scale per block."""

    name: Literal["int8"] = "int8"


class Int4Options(ScaledOptions):
    """4 bits and a scale per block."""

    name: Literal["int4"] = "int4"


class Int2Options(ScaledOptions):
    """2 bits and a scale per block."""

    name: Literal["int2"] = "int2"


class SignOptions(ScaledOptions):
    """1 bit, and the mean magnitude per block."""

    name: Literal["sign"] = "sign"


registry.add(
    "codecs",
    (Float32Options, BFloat16Options, Float16Options, Int8Options, Int4Options, Int2Options, SignOptions),
)


class NoDefenceOptions(ComponentOptions):
    """Updates count as they come."""

    name: Literal["none"] = "none"


class ClipOptions(ComponentOptions):
    """Norms are bounded; epidemic may also test signs."""

    name: Literal["clip"] = "clip"
    factor: float = option(
        1.0, "norms are clipped to this multiple of one's own, or of the round's median", above=0
    )
    agreement: float = option(
        -3.0,
        "least agreement of an update's signs with the others', in standard deviations of a fair coin (epidemic); 2 "
        "where all agents learn the same",
    )


class MedianOptions(ComponentOptions):
    """The median of each entry."""

    name: Literal["median"] = "median"


class TrimmedOptions(ComponentOptions):
    """The mean of each entry without the extremes."""

    name: Literal["trimmed"] = "trimmed"
    trim: float = option(0.25, "share of the updates dropped at each end", above=0, high=0.5)


registry.add("defences", (NoDefenceOptions, ClipOptions, MedianOptions, TrimmedOptions))


class ExchangeOptions(Options):
    """What an agent shares after a round, and what it makes of its neighbours' updates."""

    rule: Annotated[ComponentOptions, Chosen("rules")] = option(
        AverageOptions(), "how received updates change an adapter (eq. 4)"
    )
    selection: Annotated[ComponentOptions, Chosen("selections")] = option(
        CyclicOptions(), "which entries travel (S of eq. 3)"
    )
    codec: Annotated[ComponentOptions, Chosen("codecs")] = option(Int8Options(), "how a value travels")
    robust: Annotated[ComponentOptions, Chosen("defences")] = option(
        NoDefenceOptions(), "what limits hostile updates"
    )
    encryption: Literal["none", "edge"] = option(
        "none",
        "edge: mail is encrypted for the neighbour it is for, so that the SuperLink's operator reads nothing",
    )
    transport: Literal["superlink", "iroh"] = option(
        "superlink",
        "superlink: envelopes go through the server's mailbox; iroh: agents deliver them to each other over QUIC, and "
        "the mailbox carries what could not be delivered (devices only)",
    )
