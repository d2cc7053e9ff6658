"""Every key of a recipe: type, default, meaning and the values it admits. Read and checked by `recipe.py`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from symphony_fl.config.option import option
from symphony_fl.config.options_async import AsyncGossipOptions, ClockOptions
from symphony_fl.config.options_centralized import CentralizedOptions

EXPERIMENT = "symphony-fl"


@dataclass
class ModelOptions:
    name: str = option("tiny", "tiny, smollm2, a Hugging Face causal LM, or a folder that holds one")
    quantization: str = option(
        "none", "nf4 loads the base model in 4 bit through bitsandbytes", choices=("none", "nf4")
    )
    dtype: str = option("float32", "type of the frozen weights", choices=("float32", "bfloat16", "float16"))
    device: str = option("cpu", "torch device of an agent: cpu, cuda, cuda:1, mps")


@dataclass
class AdapterOptions:
    kind: str = option(
        "lora", "what is trained beside the frozen weights", choices=("lora", "lora_fa", "lora_sb")
    )
    rank: int = option(8, "rank r of the adapter", low=1, high=1024)
    alpha: float = option(16.0, "LoRA alpha; the adapter is scaled by alpha / r", above=0)
    targets: list[str] = option(["all-linear"], "names of the adapted modules, or all-linear")


@dataclass
class LearnerOptions:
    name: str = option(
        "grpo", "grpo: our loop for many short rounds; trl: TRL's GRPOTrainer", choices=("grpo", "trl")
    )
    steps: int = option(4, "GRPO steps per round", low=0)
    prompts: int = option(16, "tasks per step", low=1)
    samples: int = option(8, "completions per task (the group, G)", low=2)
    learning_rate: float = option(3e-3, "AdamW's learning rate", above=0, high=1)
    beta1: float = option(0.9, "AdamW's first-moment decay", low=0, high=0.9999)
    beta2: float = option(0.95, "AdamW's second-moment decay", low=0, high=0.99999)
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay", low=0, high=1)
    clip_low: float = option(0.2, "the ratio is clipped to at least 1 - clip_low", above=0, high=1)
    clip_high: float = option(0.28, "the ratio is clipped to at most 1 + clip_high", above=0, high=10)
    kl: float = option(0.0, "weight of the KL divergence to the base model", low=0, high=10)
    normalization: str = option(
        "dr_grpo", "how token losses are averaged", choices=("dr_grpo", "token", "sequence")
    )
    scale_rewards: str = option(
        "none", "divide advantages by the group's standard deviation, or not", choices=("none", "group")
    )
    max_grad_norm: float = option(1.0, "gradient norm is clipped to this", above=0)
    max_new_tokens: int = option(16, "longest completion, in tokens", low=1, high=32768)
    temperature: float = option(1.0, "sampling temperature while learning", above=0, high=10)
    inner_epochs: int = option(1, "optimizer steps per batch of rollouts", low=1, high=100)
    ratio: str = option(
        "clipped",
        "how tokens of older weights count: clipped, as PPO does; truncated at ratio_cap; none, as if they were new",
        choices=("clipped", "truncated", "none"),
    )
    ratio_cap: float = option(2.0, "most that a ratio weighs (truncated)", low=1, high=100)


@dataclass
class TaskOptions:
    skills: list[str] = option(
        ["reverse", "sort", "duplicate", "next", "swap", "rotate", "max", "min", "add", "subtract"],
        "skills of the run; every agent is evaluated on all of them",
    )
    sources: list[str] = option(
        [],
        "real data for skills of rows, as skill=folder-or-hub-name:split; without it they ask a few shipped rows",
    )
    split: str = option(
        "disjoint",
        "disjoint: each agent trains on its own share of the skills only; all: every agent trains on all",
        choices=("disjoint", "all"),
    )
    held_out: int = option(30, "held-out tasks per skill", low=1, high=500)
    held_out_seed: int = option(1234, "seed of the held-out tasks: the same in every recipe compared", low=0)
    evaluate_every: int = option(5, "rounds between two evaluations (first and last always)", low=1)
    unseen: list[str] = option(
        [], "skills nobody trains on, asked before the first and after the last round (generalisation)"
    )
    harder: list[str] = option(
        [], "the same of levels beyond the trained ones, as skill:difficulty, such as reverse_long:9"
    )


@dataclass
class MemoryOptions:
    capacity: int = option(0, "episodes an agent remembers; 0: no memory", low=0)
    window: int = option(20, "rounds the curriculum looks back on", low=1)
    discount: float = option(0.7, "what a round's counts lose in weight per round of age", above=0, high=1)
    replay: float = option(0.0, "share of every batch taken out of memory (experience replay)", low=0, high=1)


@dataclass
class CurriculumOptions:
    name: str = option(
        "uniform",
        "uniform: skills and difficulties evenly; learnability: what the agent sometimes solves, by memory",
        choices=("uniform", "learnability"),
    )
    floor: float = option(0.1, "share of tasks drawn evenly all the same (learnability)", low=0, high=1)
    mastery: float = option(
        0.8, "success rate that unlocks the next difficulty (learnability)", above=0, high=0.99
    )


@dataclass
class SelfPlayOptions:
    enabled: bool = option(False, "the agent's own model writes the tasks it trains on")
    bootstrap: int = option(100, "supervised steps that teach the form of a proposal, before round 1", low=0)
    group: int = option(4, "proposals per skill and difficulty drawn", low=2)
    weight: float = option(0.1, "of the proposer's loss beside the solver's", low=0, high=10)
    examples: int = option(0, "solved tasks out of memory shown to the proposer", low=0, high=16)
    share: int = option(0, "of the round's own tasks, how many neighbours are shown", low=0, high=32)
    proposer: str = option(
        "cells",
        "who chooses skill and difficulty: cells, the curriculum; free, the model, which collapses",
        choices=("cells", "free"),
    )


@dataclass
class RewardOptions:
    shared: str = option(
        "off",
        "where the shared windowed reward acts: off, baseline (advantages), proposer (learnability), both",
        choices=("off", "baseline", "proposer", "both"),
    )
    weight: float = option(0.2, "of the shared reward where it acts", low=0, high=1)
    window: int = option(5, "rounds averaged over", low=1)
    delay: int = option(1, "rounds before the current one at which the window ends", low=1)
    trim: float = option(
        0.25,
        "share of the agents cut at each end of the average, since rewards are self-reported",
        above=0,
        high=0.49,
    )


@dataclass
class TopologyOptions:
    name: str = option("ring", "the graph G = (A, E) of who sends to whom")
    degree: int = option(3, "neighbours per agent (k_regular, small_world)", low=1)
    probability: float = option(0.2, "rewiring probability (small_world)", low=0, high=1)
    edges: list[list[int]] = option([], "explicit edge list (edges), pairs of agent numbers")


@dataclass
class ExchangeOptions:
    rule: str = option("average", "how received updates change an adapter (eq. 4)")
    selection: str = option("cyclic", "which entries travel (S of eq. 3)")
    density: float = option(1.0, "share of the entries that travels per round", above=0, high=1)
    schedule: str = option(
        "constant",
        "how the density changes: constant, linear or exponential decay, budget of bytes, adaptive to the drift",
        choices=("constant", "linear", "exponential", "budget", "adaptive"),
    )
    density_floor: float = option(
        0.01, "what the density falls to (linear, exponential), or at least is (adaptive)", above=0, high=1
    )
    density_decay: float = option(
        0.9, "factor per round (exponential); exponent of drift / target (adaptive)", above=0, high=1
    )
    budget: int = option(8192, "bytes of an envelope, all included (budget)", low=1)
    drift_target: float = option(0.3, "the drift at which the density stays as it is (adaptive)", above=0)
    per_layer: bool = option(False, "rank entries within each layer (topk, threshold)")
    threshold: float = option(
        2.0, "multiple of the root mean square above which an entry travels (threshold)", above=0
    )
    coding: str = option("int8", "how a value travels: float32, bfloat16, float16, int8, int4, int2, sign")
    block: int = option(1024, "entries that share one scale (int8 and below)", low=1)
    encryption: str = option(
        "none",
        "edge: what an agent gives a neighbour is encrypted for it, so that whoever runs the SuperLink reads nothing",
        choices=("none", "edge"),
    )
    transport: str = option(
        "superlink",
        "superlink: envelopes go through the server's mailbox; iroh: agents hand them to each other over QUIC, and the "
        "mailbox carries what could not be (devices only)",
        choices=("superlink", "iroh"),
    )
    robust: str = option("none", "what limits hostile updates: none, clip, median, trimmed")
    clip: float = option(
        1.0,
        "norms are clipped to this multiple of one's own, or of the round's median (robust: clip)",
        above=0,
    )
    agreement: float = option(
        -3.0,
        "least agreement of an update's signs with the others', in standard deviations of a fair coin "
        "(epidemic, robust: clip); 2 where all agents learn the same",
    )
    trim: float = option(
        0.25, "share of the updates dropped at each end (robust: trimmed)", above=0, high=0.5
    )
    alpha: float = option(1.0, "mixing factor of eq. 4 (average, delta)", above=0, high=1)
    scaling: str = option(
        "mixing", "weights of the deltas: mixing keeps eq. 4 stable, sum is eq. 4 as written (delta)"
    )
    momentum: float = option(
        0.0, "momentum of section 6.3 (delta), of the outer step (noloco)", low=0, high=0.999
    )
    gamma: float = option(0.5, "consensus step size (choco)", above=0, high=1)
    combine: str = option(
        "agents", "how updates are averaged: over all agents, or those who sent an entry: senders (epidemic)"
    )
    eta: float = option(1.0, "outer step size (epidemic)", above=0, high=100)
    keep: bool = option(False, "start rounds from the shared state plus one's own unsent residual (epidemic)")
    window: int = option(32, "rounds for which an update may be late (epidemic)", low=1)
    hops: int = option(32, "rounds for which an update is passed on (epidemic)", low=1)
    forwarding: str = option(
        "tree",
        "tree: an agent gets an update once; flood: from every neighbour, which survives lost agents (epidemic)",
        choices=("tree", "flood"),
    )
    step: float = option(0.7, "outer learning rate (noloco)", above=0)
    pull: float = option(0.9, "pull towards the partner (noloco)", low=0)


@dataclass
class AdversaryOptions:
    agents: list[int] = option([], "numbers of the agents that send harmful updates")
    attack: str = option("none", "what they send: none, sign_flip, scale, random, collude")
    strength: float = option(100.0, "length of it, in honest lengths (scale, random, collude)", above=0)


@dataclass
class TrackingOptions:
    uri: str = option("", "MLflow tracking URI; empty: a SQLite file under the Symphony folder")
    experiment: str = option(EXPERIMENT, "MLflow experiment")
    agents: bool = option(True, "a child run and the adapter of every agent; false: the network only")
    trace: bool = option(
        False, "agents keep their updates of evaluated rounds in their homes, and report how smooth those are"
    )


@dataclass
class LimitOptions:
    wait_for_nodes: float = option(
        180.0, "seconds to wait for agents of which none is at work on its greeting", above=0
    )
    round_timeout: float = option(3600.0, "seconds after which a round goes on without the missing", above=0)
    at_once: int = option(
        0,
        "simulated agents that work at the same time, each in a process with a base model of its own; "
        "0: one per processor",
        low=0,
        high=4096,
    )


@dataclass
class Recipe:
    """Everything of an experiment. Seeds of all randomness derive from (seed, agent, round)."""

    name: str = option("default", "name of the recipe in results")
    description: str = option("", "one line for people")
    strategy: str = option(
        "gossip",
        "gossip, async_gossip (no rounds in step), fedavg (Flower's own, the baseline), isolated, or centralized "
        "(agent 0 trains, the others generate)",
        choices=("gossip", "async_gossip", "fedavg", "isolated", "centralized"),
    )
    agents: int = option(4, "number of agents, N; 1: a trainer alone (centralized)", low=1, high=100000)
    agents_per_node: int = option(
        1, "agents behind one SuperNode; many more than 100 agents on one machine want it", low=1, high=4096
    )
    rounds: int = option(30, "number of rounds; async_gossip: mean over the agents", low=1)
    seed: int = option(0, "seed of the run", low=0, high=2**31 - 1)
    model: ModelOptions = field(default_factory=ModelOptions)
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    learner: LearnerOptions = field(default_factory=LearnerOptions)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    curriculum: CurriculumOptions = field(default_factory=CurriculumOptions)
    selfplay: SelfPlayOptions = field(default_factory=SelfPlayOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    topology: TopologyOptions = field(default_factory=TopologyOptions)
    exchange: ExchangeOptions = field(default_factory=ExchangeOptions)
    adversary: AdversaryOptions = field(default_factory=AdversaryOptions)
    async_gossip: AsyncGossipOptions = field(default_factory=AsyncGossipOptions)
    clock: ClockOptions = field(default_factory=ClockOptions)
    centralized: CentralizedOptions = field(default_factory=CentralizedOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    limits: LimitOptions = field(default_factory=LimitOptions)

    @property
    def asynchronous(self) -> bool:
        """True where agents have no round barrier."""
        return self.strategy == "async_gossip"

    def to_json(self) -> str:
        """Canonical text: the same recipe gives the same bytes on every machine."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
