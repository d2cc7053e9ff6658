"""Asking a causal LM: completions with the log-probabilities of the policy that sampled them; greedy accuracy.

A hand-written loop over a key-value cache. Prompts are padded on the left; a prompt that occurs several times (a
GRPO group) is read once and its cache copied to all its rows; rows that have ended leave the batch.

Chance comes from one uniform number per row and position, drawn before the first token from an own generator: the
same seed gives the same samples whichever rows have left, and no global generator is touched.

Shapes: B rows, U distinct prompts, P prompt tokens, T completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from symphony_fl.learning.skills import Task, get_skill

# Ended rows leave once fewer than this share of the batch still writes, since leaving copies the cache.
_SHRINK_BELOW = 0.8


@dataclass
class Rollout:
    """Completions of B prompts.

    Attributes:
        prompt_ids: int64 [B, P], padded on the left.
        prompt_mask: int64 [B, P], 1 on the prompt.
        completion_ids: int64 [B, T], padded on the right; T is the longest completion's length.
        completion_mask: int64 [B, T], 1 up to and including the end of sequence.
        logprobs: float32 [B, T], of the sampled token under the sampling policy at its temperature (of a greedy
            token: at temperature 1); 0 where masked.
        texts: the completions without special tokens.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    logprobs: torch.Tensor
    texts: list[str]


def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int | None,
) -> Rollout:
    """Complete each prompt until the end of sequence or ``max_new_tokens``.

    ``temperature`` 0 is greedy and needs no seed. The model is used in the mode (train or eval) it is in.

    Raises:
        ValueError: no prompts, fewer than 1 token asked for, a negative temperature, or sampling without a seed.
    """
    if not prompts or max_new_tokens < 1 or temperature < 0:
        raise ValueError(
            f"cannot generate: {len(prompts)} prompts, max_new_tokens {max_new_tokens}, temperature {temperature}"
        )
    device = next(model.parameters()).device
    uniforms_BT = uniforms(len(prompts), max_new_tokens, temperature, seed).to(device)
    prompt_ids, prompt_mask, source_B = encode_prompts(tokenizer, prompts, device)
    with torch.no_grad():
        ids, mask, logprobs = _decode(
            model, tokenizer, prompt_ids, prompt_mask, source_B, uniforms_BT, temperature
        )
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return Rollout(prompt_ids[source_B], prompt_mask[source_B], ids, mask, logprobs, texts)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids int64 [U, P], padded on the left, their mask, the distinct prompt of each row int64 [B])."""
    unique = list(dict.fromkeys(prompts))
    place = {prompt: row for row, prompt in enumerate(unique)}
    source_B = torch.tensor([place[prompt] for prompt in prompts], device=device)
    encoded = tokenizer(unique, padding=True, padding_side="left", return_tensors="pt")
    return encoded["input_ids"].to(device), encoded["attention_mask"].to(device), source_B


def greedy_rewards(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> list[float]:
    """The reward of the greedy answer to each task, in their order."""
    rewards = [0.0] * len(tasks)
    places = sorted(range(len(tasks)), key=lambda place: len(tasks[place].prompt))  # little padding
    model.eval()
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        prompts = [tasks[place].prompt for place in batch]
        rollout = generate(
            model, tokenizer, prompts, max_new_tokens=max_new_tokens, temperature=0.0, seed=None
        )
        for place, text in zip(batch, rollout.texts, strict=True):
            rewards[place] = get_skill(tasks[place].skill).verify(tasks[place], text)
    return rewards


def mean_by_skill(tasks: Sequence[Task], rewards: Sequence[float]) -> dict[str, float]:
    """The mean reward per skill, in the order in which the skills first occur in ``tasks``."""
    found: dict[str, list[float]] = {task.skill: [] for task in tasks}
    for task, reward in zip(tasks, rewards, strict=True):
        found[task.skill].append(reward)
    return {skill: sum(values) / len(values) for skill, values in found.items()}


def _decode(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    source_B: torch.Tensor,
    uniforms_BT: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, mask, logprobs) of `Rollout`, from U prompts [U, P] and the prompt of each row [B]."""
    ids = torch.full(uniforms_BT.shape, tokenizer.pad_token_id, dtype=torch.int64, device=prompt_ids.device)
    mask = torch.zeros_like(ids)
    logprobs = torch.zeros(uniforms_BT.shape, dtype=torch.float32, device=prompt_ids.device)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, prompt_ids, prompt_mask, _positions(prompt_mask), cache)[source_B]
    cache.batch_select_indices(source_B)
    seen = prompt_mask[source_B]  # [rows, P + t]: what attention may look at
    rows = torch.arange(len(source_B), device=ids.device)  # which rows of the rollout are in the batch
    writing = torch.ones_like(rows, dtype=torch.bool)
    for t in range(ids.shape[1]):
        token, logprob = _choose(logits, temperature, uniforms_BT[rows, t])
        token = token.masked_fill(~writing, tokenizer.pad_token_id)
        ids[rows, t] = token
        mask[rows, t] = writing.long()
        logprobs[rows, t] = logprob.masked_fill(~writing, 0.0)
        writing = writing & (token != tokenizer.eos_token_id)
        left = int(writing.sum())
        if left == 0 or t + 1 == ids.shape[1]:
            break
        if left < _SHRINK_BELOW * len(rows):
            cache.batch_select_indices(writing.nonzero().squeeze(1))
            seen, rows, token, writing = seen[writing], rows[writing], token[writing], writing[writing]
        position = seen.sum(1, keepdim=True)
        seen = torch.cat([seen, torch.ones_like(position)], dim=1)
        logits = _forward(model, token.unsqueeze(1), seen, position, cache)
    return ids[:, : t + 1], mask[:, : t + 1], logprobs[:, : t + 1]


def _forward(
    model: torch.nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:
    """The next token's logits, float32 [rows, V]; the cache grows by ``ids`` [rows, n]."""
    logits: torch.Tensor = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return logits[:, -1].float()


def _choose(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(token [rows], its log-probability [rows]). Sampling inverts the cumulative distribution at ``uniform``."""
    logprobs = torch.log_softmax(logits / temperature if temperature > 0 else logits, dim=1)
    if temperature == 0:
        token = logits.argmax(dim=1)
    else:
        cumulative = logprobs.double().exp().cumsum(dim=1)  # double: 50,000 float32 terms would not reach 1
        point = uniform.unsqueeze(1) * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, point, right=True).squeeze(1)
    return token, logprobs.gather(1, token.unsqueeze(1)).squeeze(1)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids [B, n] that count from each row's first real token."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def uniforms(rows: int, length: int, temperature: float, seed: int | None) -> torch.Tensor:
    """One number in [0, 1) per row and position, float64 [rows, length]; zeros when nothing is sampled."""
    if temperature == 0:
        return torch.zeros(rows, length, dtype=torch.float64)
    if seed is None:
        raise ValueError("sampling at a temperature needs a seed")
    return torch.rand(rows, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
