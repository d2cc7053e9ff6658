"""Options of how an agent learns: model, adapter, learner, tasks, memory, curriculum, self-play, reward."""

from __future__ import annotations

from typing import Literal

from symphony_fl import registry
from symphony_fl.config.option import ComponentOptions, Options, option


class ModelOptions(Options):
    """The base model: frozen, the same on every agent."""

    name: str = option("tiny", "tiny, smollm2, a Hugging Face causal LM, or a folder that holds one")
    quantization: Literal["none", "nf4"] = option(
        "none", "nf4 loads the base model in 4 bit through bitsandbytes"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = option("float32", "type of the frozen weights")
    device: str = option("cpu", "torch device of an agent: cpu, cuda, cuda:1, mps")


class AdapterOptions(Options):
    """What is trained beside the frozen weights."""

    kind: Literal["lora", "lora_fa", "lora_sb"] = option(
        "lora",
        "lora: both factors; lora_fa: B alone, A is drawn from the seed; lora_sb: an r x r core between frozen bases",
    )
    rank: int = option(8, "rank r of the adapter", low=1, high=1024)
    alpha: float = option(16.0, "LoRA alpha; the adapter is scaled by alpha / r", above=0)
    targets: list[str] = option(["all-linear"], "names of the adapted modules, or all-linear")


class LearnerOptions(ComponentOptions):
    """What both learners have in common."""

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
    normalization: Literal["dr_grpo", "token", "sequence"] = option(
        "dr_grpo", "how token losses are averaged"
    )
    scale_rewards: Literal["none", "group"] = option(
        "none", "divide advantages by the group's standard deviation, or not"
    )
    max_grad_norm: float = option(1.0, "gradient norm is clipped to this", above=0)
    max_new_tokens: int = option(16, "longest completion, in tokens", low=1, high=32768)
    temperature: float = option(1.0, "sampling temperature while learning", above=0, high=10)
    inner_epochs: int = option(1, "optimizer steps per batch of rollouts", low=1, high=100)


class GRPOOptions(LearnerOptions):
    """Our loop for many short rounds."""

    name: Literal["grpo"] = "grpo"
    ratio: Literal["clipped", "truncated", "none"] = option(
        "clipped",
        "how tokens of older weights count: clipped, as PPO does; truncated at ratio_cap; none, as if they were new",
    )
    ratio_cap: float = option(2.0, "most that a ratio weighs (ratio=truncated)", low=1, high=100)


class TRLOptions(LearnerOptions):
    """TRL's GRPOTrainer."""

    name: Literal["trl"] = "trl"


registry.add("learners", (GRPOOptions, TRLOptions))


class RowsOptions(Options):
    """A skill of your own rows, each with a prompt and an answer; its name goes into `tasks.skills`."""

    name: str = option("", "the skill's name")
    source: str = option("", "a .jsonl, .json or .parquet file, a folder, or a hub dataset owner/name")
    split: str = option("train", "split of a folder or hub dataset")
    metric: Literal["exact", "numeric", "f1", "contains", "math", "python"] = option(
        "exact", "how a completion is compared with the answer"
    )
    prompt: str = option("prompt", "field that holds the prompt")
    answer: str = option("answer", "field that holds the answer")
    max_new_tokens: int = option(16, "longest right answer, in tokens", low=1, high=32768)


class TaskOptions(Options):
    """What is asked."""

    skills: list[str] = option(
        ["reverse", "sort", "duplicate", "next", "swap", "rotate", "max", "min", "add", "subtract"],
        "skills of the run; every agent is evaluated on all of them",
    )
    sources: list[str] = option(
        [],
        "real data for skills of rows, as skill=folder-or-hub-name:split; without it they ask a few shipped rows",
    )
    rows: list[RowsOptions] = option([], "skills made of your own rows of prompts and answers")
    split: Literal["disjoint", "all"] = option(
        "disjoint",
        "disjoint: each agent trains on its own share of the skills only; all: every agent trains on all",
    )
    held_out: int = option(30, "held-out tasks per skill", low=1, high=500)
    held_out_seed: int = option(1234, "seed of the held-out tasks: the same in every recipe compared", low=0)
    evaluate_every: int = option(5, "rounds between two evaluations (first and last always)", low=1)
    unseen: list[str] = option(
        [], "skills that no agent trains on, asked before the first and after the last round (generalization)"
    )
    harder: list[str] = option(
        [], "the same of levels beyond the trained ones, as skill:difficulty, such as reverse_long:9"
    )


class NoMemoryOptions(ComponentOptions):
    """Attempts are forgotten."""

    name: Literal["none"] = "none"


class EpisodicOptions(ComponentOptions):
    """Attempts are kept in SQLite, in the agent's home."""

    name: Literal["episodic"] = "episodic"
    capacity: int = option(20000, "episodes an agent remembers", low=1)
    window: int = option(20, "rounds the curriculum looks back on", low=1)
    discount: float = option(0.7, "what a round's counts lose in weight per round of age", above=0, high=1)
    replay: float = option(0.0, "share of every batch taken out of memory (experience replay)", low=0, high=1)


registry.add("memories", (NoMemoryOptions, EpisodicOptions))


class UniformOptions(ComponentOptions):
    """Skills and difficulties evenly."""

    name: Literal["uniform"] = "uniform"


class LearnabilityOptions(ComponentOptions):
    """What the agent sometimes solves, by its memory."""

    name: Literal["learnability"] = "learnability"
    floor: float = option(0.1, "share of tasks drawn evenly all the same", low=0, high=1)
    mastery: float = option(0.8, "success rate that unlocks the next difficulty", above=0, high=0.99)
    by: Literal["skill", "cell"] = option(
        "skill",
        "skill: every skill as often, and a level opens once one of its tasks was solved, too; "
        "cell: all open levels of all skills compete",
    )


registry.add("curricula", (UniformOptions, LearnabilityOptions))


class NoSelfPlayOptions(ComponentOptions):
    """Tasks are given."""

    name: Literal["none"] = "none"


class SelfPlayOptions(ComponentOptions):
    """What both ways of self-play have in common."""

    bootstrap: int = option(
        100, "supervised steps that teach the form of a proposal, part of the common start", low=0
    )
    bootstrap_batch: int = option(32, "texts per step of it, half of them proposals", low=2, high=4096)
    bootstrap_rate: float = option(
        0.01, "AdamW's learning rate at its first step; falls to 0", above=0, high=1
    )
    group: int = option(4, "proposals per skill and difficulty drawn", low=2)
    weight: float = option(0.1, "of the proposer's loss beside the solver's", low=0, high=10)
    most: float = option(
        2.0,
        "proposals per step until its tasks are distinct, as a multiple of learner.prompts",
        low=1,
        high=8,
    )
    examples: int = option(0, "solved tasks out of memory shown to the proposer", low=0, high=16)


class CellsOptions(SelfPlayOptions):
    """The model writes tasks of the skill and difficulty that the curriculum draws."""

    name: Literal["cells"] = "cells"
    share: int = option(0, "of the round's own tasks, how many neighbours are shown", low=0, high=32)


class FreeOptions(SelfPlayOptions):
    """The model chooses skill and difficulty, too; collapses to few of them (shown for comparison)."""

    name: Literal["free"] = "free"


registry.add("proposers", (NoSelfPlayOptions, CellsOptions, FreeOptions))


class LocalRewardOptions(ComponentOptions):
    """An agent's own rewards alone."""

    name: Literal["local"] = "local"


class SharedRewardOptions(ComponentOptions):
    """The windowed, delayed average of all agents' rewards acts too (section 5.2 (4))."""

    name: Literal["shared"] = "shared"
    use: Literal["baseline", "proposer", "both"] = option(
        "baseline", "where it acts: baseline (of advantages), proposer (its learnability), both"
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


registry.add("rewards", (LocalRewardOptions, SharedRewardOptions))
