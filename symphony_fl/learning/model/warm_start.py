"""How the embedded model learns to know its skills and to be careless in them.

Two stages of supervised learning on the answers' tokens, both without the reserved prompts (`task_sampler.py`):
1. A clean teacher, until the model answers 9 of 10 held-out questions.
2. A careless teacher: right on 65 of 100 easy questions (the easiest third of a skill's difficulties) and on 22 of 100
   others, else with that skill's one typical slip, made at the end of the answer. Greedy accuracy falls to 0.3-0.4.

Said truthfully: the second stage *makes* the gap that reinforcement learning then closes. What GRPO shows on this model
is that rewards alone bring back what the model still knows, that the gain travels from agent to agent, and what
that costs in bytes. It does not show that a model learns what it never knew.

Sequences are packed several to a row, each attending to itself only: 2 times faster than padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from symphony_fl.learning.skills import Task
from symphony_fl.learning.skills.symbolic import SYMBOLIC, question_of
from symphony_fl.learning.tasks.task_sampler import TaskSampler

_IGNORED = -100  # cross-entropy's label for tokens that are not learned


@dataclass(frozen=True)
class WarmStart:
    """Everything the two stages depend on; part of the embedded model's digest.

    ``practice`` is how many tasks of each skill a clean batch holds: more of what is slow to learn. A careless batch
    holds ``careless_batch`` tasks, evenly.
    """

    seed: int = 1
    clean_steps: int = 1200
    clean_rate: float = 2e-3
    careless_steps: int = 150
    careless_rate: float = 1e-3
    careless_batch: int = 64
    right_when_easy: float = 0.65
    right_when_hard: float = 0.22
    warm_up: int = 20
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    row: int = 32
    practice: dict[str, int] = field(
        default_factory=lambda: {
            "reverse": 8,
            "sort": 9,
            "duplicate": 6,
            "next": 5,
            "swap": 6,
            "rotate": 6,
            "max": 3,
            "min": 3,
            "add": 9,
            "subtract": 9,
        }
    )


def warm_start(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    start: WarmStart,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``model`` in place through both stages; ``progress(step, steps)`` after every step."""
    total = start.clean_steps + start.careless_steps
    done = 0
    stages = (
        (start.clean_steps, start.clean_rate, _clean_batches(start)),
        (start.careless_steps, start.careless_rate, _careless_batches(start)),
    )
    model.train()
    for steps, rate, batches in stages:
        for _ in _supervised(model, tokenizer, start, steps, rate, batches):
            done += 1
            if progress is not None:
                progress(done, total)
    model.eval()


def slip(skill: str, question: str, answer: str) -> str:
    """The careless teacher's wrong answer (some of one or two letters cannot go wrong and come out right)."""
    if skill in ("reverse", "sort", "rotate", "swap"):
        return answer[:-2] + answer[:-3:-1]  # the last two letters change places
    if skill == "duplicate":
        return answer[:-1]  # the last letter stays single
    if skill == "next":
        return answer[:-1] + question[-1]  # the last letter is copied
    if skill in ("max", "min"):
        return question[-1]  # the digit that was read last
    return str(int(answer) + 1)  # add, subtract: one too many


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: sums keep one order, and on busy machines more threads are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _clean_batches(start: WarmStart) -> Iterator[list[tuple[str, str]]]:
    samplers = {name: TaskSampler([name], start.seed) for name in start.practice}
    for step in range(start.clean_steps):
        tasks = [t for name, count in start.practice.items() for t in samplers[name].sample(count, 0, step)]
        yield [(task.prompt, task.answer) for task in tasks]


def _careless_batches(start: WarmStart) -> Iterator[list[tuple[str, str]]]:
    hardest = {skill.name: skill.difficulties[-1] for skill in SYMBOLIC}
    sampler = TaskSampler(list(hardest), start.seed)
    rng = np.random.default_rng([start.seed, 1])

    def teach(task: Task) -> str:
        easy = 3 * task.difficulty <= hardest[task.skill]
        right = rng.random() < (start.right_when_easy if easy else start.right_when_hard)
        return task.answer if right else slip(task.skill, question_of(task), task.answer)

    for step in range(start.careless_steps):
        yield [(task.prompt, teach(task)) for task in sampler.sample(start.careless_batch, 1, step)]


def _supervised(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    start: WarmStart,
    steps: int,
    rate: float,
    batches: Iterator[list[tuple[str, str]]],
) -> Iterator[None]:
    """One AdamW step per batch, the rate rising over ``warm_up`` steps and falling as a cosine to 0."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=start.betas, weight_decay=start.weight_decay, fused=True
    )
    causal = torch.ones(start.row, start.row, dtype=torch.bool).tril()
    for step, pairs in enumerate(batches):
        schedule = min(1.0, (step + 1) / start.warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule
        ids, labels, positions, pieces = pack(encode(tokenizer, pairs), start.row)
        mask = (pieces[:, :, None] == pieces[:, None, :]) & causal  # [R, row, row]
        hidden = model.model(
            input_ids=ids, position_ids=positions, attention_mask=mask[:, None], use_cache=False
        ).last_hidden_state
        learned = labels != _IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), labels[learned])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), start.max_grad_norm)
        optimizer.step()
        yield


def encode(
    tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of every prompt and of its answer with the end of sequence, by table: what the tokenizer gives."""
    ids = tokenizer.get_vocab()
    encoded = []
    for prompt, answer in pairs:
        skill, question = prompt[: prompt.index(">") + 1], prompt[prompt.index(">") + 1 :]
        encoded.append(
            ([ids[skill], *(ids[c] for c in question)], [*(ids[c] for c in answer), tokenizer.eos_token_id])
        )
    return encoded


def pack(
    sequences: list[tuple[list[int], list[int]]], row: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Several sequences to a row, longest first, each into the first row with room: four int64 [R, row].

    Returns
    -------
    ids; labels (the next token where it belongs to an answer, else ignored); positions from each sequence's start;
    pieces (which sequence of its row a token belongs to, from 1; 0 is padding).
    """
    rows: list[list[tuple[list[int], list[int]]]] = []
    room: list[int] = []
    for prompt, answer in sorted(sequences, key=lambda pair: -len(pair[0]) - len(pair[1])):
        length = len(prompt) + len(answer)
        fit = next((r for r, left in enumerate(room) if left >= length), len(rows))
        if fit == len(rows):
            rows.append([])
            room.append(row)
        rows[fit].append((prompt, answer))
        room[fit] -= length
    ids, positions, pieces = (np.zeros((len(rows), row), dtype=np.int64) for _ in range(3))
    labels = np.full((len(rows), row), _IGNORED, dtype=np.int64)
    for r, members in enumerate(rows):
        start = 0
        for piece, (prompt, answer) in enumerate(members, 1):
            end = start + len(prompt) + len(answer)
            ids[r, start:end] = prompt + answer
            labels[r, start + len(prompt) - 1 : end - 1] = answer
            positions[r, start:end] = np.arange(end - start)
            pieces[r, start:end] = piece
            start = end
    return tuple(torch.from_numpy(array) for array in (ids, labels, positions, pieces))  # type: ignore[return-value]
