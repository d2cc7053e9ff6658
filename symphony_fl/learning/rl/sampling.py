"""Asking a causal LM: completions with the log-probabilities of the policy that sampled them; greedy accuracy.

A hand-written loop over a key-value cache. Prompts are padded on the left. Rows with the same prompt and the same
tokens so far are in one state, and a state is read once: the samples of a GRPO group share their prompt, and while the
model is sure of itself much of their answers (on the embedded model 60 rows are in 14 states on average). Rows that
have ended are in no state.

Chance comes from one uniform number per row and position, drawn before the first token from an own generator: the
same seed gives the same samples however rows share states, and no global generator is touched.

Shapes: B rows, U distinct prompts, S states, P prompt tokens, T completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from symphony_fl.learning.model.forward import Cache, Forward, forward_of
from symphony_fl.learning.skills import Task, get_skill


@dataclass
class Rollout:
    """Completions of B prompts.

    Attributes
    ----------
    prompt_ids : int64 [B, P], padded on the left.
    prompt_mask : int64 [B, P], 1 on the prompt.
    completion_ids : int64 [B, T], padded on the right; T is the longest completion's length.
    completion_mask : int64 [B, T], 1 up to and including the end of sequence.
    logprobs : float32 [B, T], of the sampled token under the sampling policy at its temperature (of a greedy token:
        at temperature 1); 0 where masked.
    texts : the completions without special tokens.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    logprobs: torch.Tensor
    texts: list[str]


def generate(
    model: torch.nn.Module | Forward,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int | None,
) -> Rollout:
    """Complete each prompt until the end of sequence or ``max_new_tokens``.

    ``temperature`` 0 is greedy and needs no seed. The model is used in the mode (train or eval) it is in.

    Raises
    ------
    ValueError
        No prompts, fewer than 1 token asked for, a negative temperature, or sampling without a seed.
    """
    if not prompts or max_new_tokens < 1 or temperature < 0:
        raise ValueError(
            f"cannot generate: {len(prompts)} prompts, max_new_tokens {max_new_tokens}, temperature {temperature}"
        )
    with torch.no_grad():
        forward = forward_of(model)
        uniforms_BT = uniforms(len(prompts), max_new_tokens, temperature, seed).to(forward.device)
        prompt_ids, prompt_mask, source_B = encode_prompts(tokenizer, prompts, forward.device)
        ids, mask, logprobs = _decode(
            forward, tokenizer, prompt_ids, prompt_mask, source_B, uniforms_BT, temperature
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
    model: torch.nn.Module | Forward,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> list[float]:
    """The reward of the greedy answer to each task, in their order."""
    rewards = [0.0] * len(tasks)
    places = sorted(range(len(tasks)), key=lambda place: len(tasks[place].prompt))  # little padding
    if isinstance(model, torch.nn.Module):
        model.eval()
    forward = forward_of(model)
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        prompts = [tasks[place].prompt for place in batch]
        rollout = generate(
            forward, tokenizer, prompts, max_new_tokens=max_new_tokens, temperature=0.0, seed=None
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
    forward: Forward,
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
    cache = forward.new_cache()
    seen = prompt_mask  # [S, P + t]: what attention may look at
    logits = _next(forward, prompt_ids, seen, _positions(seen), cache)  # [S, V]
    rows = torch.arange(len(source_B), device=ids.device)  # those that still write
    state = source_B  # of each of them
    for t in range(ids.shape[1]):
        token, logprob = _choose(logits[state], temperature, uniforms_BT[rows, t])
        ids[rows, t], logprobs[rows, t], mask[rows, t] = token, logprob, 1
        writing = (token != tokenizer.eos_token_id).nonzero().squeeze(1)
        if len(writing) == 0 or t + 1 == ids.shape[1]:
            break
        rows = rows[writing]
        before, token, state = _states(state[writing], token[writing], logits.shape[1])
        if not torch.equal(before, torch.arange(len(seen), device=ids.device)):
            cache.batch_select_indices(before)
            seen = seen[before]
        position = seen.sum(1, keepdim=True)
        seen = torch.cat([seen, torch.ones_like(position)], dim=1)
        logits = _next(forward, token.unsqueeze(1), seen, position, cache)
    return ids[:, : t + 1], mask[:, : t + 1], logprobs[:, : t + 1]


def _states(
    state: torch.Tensor, token: torch.Tensor, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows in these states [rows] go on by these tokens [rows]: (state before [S], token [S], state of each row)."""
    found, state = torch.unique(state * vocabulary + token, return_inverse=True)
    return found // vocabulary, found % vocabulary, state


def _next(
    forward: Forward,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache,
) -> torch.Tensor:
    """The next token's logits, float32 [rows, V]; the cache grows by ``ids`` [rows, n]."""
    return forward.logits(ids, mask, positions, cache, last_only=True)[:, -1]


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
