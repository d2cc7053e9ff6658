"""The step that GRPO takes once advantages are known: sample, and one clipped policy-gradient update of the adapter.

Who decides what a completion is worth (`grpo.py`: its reward relative to its group; `selfplay.py`: proposals too) calls
`sample`, scores the texts, and hands rollouts with advantages to `update`. Several rollouts can share one optimizer
step, each with a weight: Adam would undo a weight that had a step of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel

from symphony_fl.exchange.flat import digest
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.report import Meter
from symphony_fl.learning.rl.grpo_loss import grpo_loss, k3
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.optimizer_state import build_optimizer, load_optimizer_arrays, optimizer_arrays
from symphony_fl.learning.rl.sampling import Rollout, generate
from symphony_fl.learning.rl.shared_prompts import completion_logprobs, distinct_rows


@dataclass(frozen=True)
class Scored:
    """A rollout of B rows, ``samples`` to a group, with advantages float32 [B] and its weight in the step's loss.

    ``policy`` is the digest of the adapter that sampled.
    """

    rollout: Rollout
    policy: bytes
    advantages: torch.Tensor
    samples: int
    weight: float = 1.0


class PolicyMismatch(RuntimeError):
    """The adapter that is trained is not the one that generated."""


class PolicyGradient:
    """Samples from the adapter that is in ``policy`` and trains it, in place; the optimizer's state lasts."""

    def __init__(self, policy: Policy, settings: GRPOSettings) -> None:
        self.policy = policy
        self.settings = settings
        self.optimizer = build_optimizer(policy.parameters(), settings)

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state: ``exp_avg``, ``exp_avg_sq`` float32 [size] in layout order, ``step`` float32 []."""
        return optimizer_arrays(self.optimizer, self.policy.parameters())

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave.

        Raises
        ------
        ValueError
            An array is missing or does not fit the adapter.
        """
        load_optimizer_arrays(self.optimizer, self.policy.parameters(), state)

    def digest(self) -> bytes:
        """Of the adapter that is in the model now, 16 bytes."""
        return digest(self.policy.get())

    def sample(self, prompts: Sequence[str], samples: int, seed: int) -> Rollout:
        """``samples`` completions of every prompt, rows grouped by prompt."""
        return generate(
            self.policy.forward(train=False),
            self.policy.base.tokenizer,
            [prompt for prompt in prompts for _ in range(samples)],
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            seed=seed,
        )

    def imitate(self, pairs: Sequence[tuple[str, str]]) -> float:
        """One supervised step on (prompt, completion) texts; the mean loss per token.

        Cross-entropy on the completions' tokens and the end of sequence, through the same forward pass as `update`.
        """
        tokenizer, parameters = self.policy.base.tokenizer, self.policy.parameters()
        asked = tokenizer(
            [prompt for prompt, _ in pairs], padding=True, padding_side="left", return_tensors="pt"
        )
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for _, text in pairs]
        rows = [torch.tensor([*row, tokenizer.eos_token_id]) for row in ids]
        told = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        device = parameters[0].device
        batch = [part.to(device) for part in (asked["input_ids"], asked["attention_mask"], told, mask)]
        self.optimizer.zero_grad()
        forward = self.policy.forward(train=True)
        logprobs = completion_logprobs(forward, batch[0], batch[1], batch[2], batch[3])
        loss = -(logprobs * batch[3]).sum() / batch[3].sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        return float(loss.detach())

    def update(
        self, scored: Sequence[Scored], seed: int, meter: Meter, earlier: Collection[bytes] = ()
    ) -> None:
        """One optimizer step per inner epoch over all rollouts, in passes of ``rows_per_pass`` distinct rows.

        Nothing happens where no row has a gradient. `earlier` are digests of older adapters that may have sampled.

        Raises
        ------
        PolicyMismatch
            Another adapter sampled than the one in the model now, or one of `earlier`.
        """
        ours = self.digest()
        for one in scored:
            if one.policy != ours and one.policy not in earlier:
                raise PolicyMismatch(f"adapter {one.policy.hex()} generated, {ours.hex()} is to be trained")
        batches = [(self._batch(one), one.weight) for one in scored]
        if not any(len(batch.advantages) for batch, _ in batches):
            return
        parameters = self.policy.parameters()
        with _own_chance(seed, parameters[0].device):  # dropout of the adapter, if it has any
            for epoch in range(self.settings.inner_epochs):
                with meter.clock("backward"):
                    self.optimizer.zero_grad()
                    for batch, weight in batches:
                        for part in batch.parts(self.settings.rows_per_pass):
                            self._backward(part, weight, meter if epoch == 0 else None)
                with meter.clock("optimizer"):
                    norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
                    self.optimizer.step()
                meter.add("grad_norm", float(norm))
        meter.counts["loss"] += 1

    def _batch(self, scored: Scored) -> _Batch:
        """The rows that have a gradient: groups stay together, the longest first, so parts carry little padding."""
        rollout, mask = scored.rollout, scored.rollout.completion_mask
        advantages_B = scored.advantages.to(mask.device)
        rows = (advantages_B != 0).nonzero().squeeze(1) if self.settings.kl == 0 else torch.arange(len(mask))
        length_NG = (rollout.prompt_mask.sum(dim=1) + mask.sum(dim=1)).view(-1, scored.samples)
        of_group_B = length_NG.amax(dim=1).repeat_interleave(scored.samples)
        rows = rows[of_group_B[rows].argsort(descending=True, stable=True)]
        return _Batch(
            rollout.prompt_ids[rows],
            rollout.prompt_mask[rows],
            rollout.completion_ids[rows],
            mask[rows],
            rollout.logprobs[rows],
            advantages_B[rows],
            all_rows=len(mask),
            all_tokens=int(mask.sum()),
        )

    def _backward(self, part: _Batch, weight: float, meter: Meter | None) -> None:
        """Add this part's gradient of the whole batch's loss; rows left out count in its denominator."""
        reference = None
        if self.settings.kl > 0:
            with torch.no_grad(), _adapter_off(self.policy.model):
                reference = self._logprobs(part)
        logprobs = self._logprobs(part)
        tokens = int(part.completion_mask.sum())
        by_tokens = self.settings.normalization == "token"
        share = tokens / part.all_tokens if by_tokens else len(part.advantages) / part.all_rows
        loss = (
            weight
            * share
            * grpo_loss(
                logprobs,
                part.old_logprobs,
                part.advantages,
                part.completion_mask,
                clip_low=self.settings.clip_low,
                clip_high=self.settings.clip_high,
                kl=self.settings.kl,
                ref_logprobs=reference,
                normalization=self.settings.normalization,
                max_tokens=self.settings.max_new_tokens,
                ratio=self.settings.ratio,
                ratio_cap=self.settings.ratio_cap,
            )
        )
        loss.backward()  # type: ignore[no-untyped-call]
        if meter is not None:
            mask = part.completion_mask
            meter.sums["loss"] += float(loss.detach())
            apart = (logprobs.detach() - part.old_logprobs) * mask
            meter.add("mismatch", float(apart.abs().sum()), tokens)
            meter.add("clip_fraction", float(self._limited(apart).sum()), tokens)
            if reference is not None:
                meter.add("kl", float((k3(logprobs.detach(), reference) * mask).sum()), tokens)

    def _limited(self, log_ratios: torch.Tensor) -> torch.Tensor:
        """Where the ratio lies beyond what the settings let it weigh: bool [B, T]."""
        if self.settings.ratio == "truncated":
            return log_ratios > math.log(self.settings.ratio_cap)
        low, high = 1 - self.settings.clip_low, 1 + self.settings.clip_high
        return (log_ratios.exp() < low) | (log_ratios.exp() > high)

    def _logprobs(self, part: _Batch) -> torch.Tensor:
        return completion_logprobs(
            self.policy.forward(train=True),
            part.prompt_ids,
            part.prompt_mask,
            part.completion_ids,
            part.completion_mask,
            temperature=self.settings.temperature,
        )


@dataclass(frozen=True)
class _Batch:
    """Rows to learn from; tensors as in `Rollout`. ``all_rows`` and ``all_tokens`` also count rows left out."""

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    old_logprobs: torch.Tensor
    advantages: torch.Tensor
    all_rows: int
    all_tokens: int

    def parts(self, rows: int) -> Iterator[_Batch]:
        """The batch in pieces of at most ``rows`` distinct rows, without columns that are padding in all of a piece."""
        columns = (self.prompt_ids, self.prompt_mask, self.completion_ids, self.completion_mask)
        kinds = distinct_rows(*columns)[1].tolist()
        for part in _pieces(kinds, rows):
            first = self.prompt_mask.shape[1] - int(self.prompt_mask[part].sum(dim=1).max())
            last = int(self.completion_mask[part].sum(dim=1).max())
            yield _Batch(
                self.prompt_ids[part, first:],
                self.prompt_mask[part, first:],
                self.completion_ids[part, :last],
                self.completion_mask[part, :last],
                self.old_logprobs[part, :last],
                self.advantages[part],
                self.all_rows,
                self.all_tokens,
            )


def _pieces(kinds: Sequence[int], most: int) -> Iterator[slice]:
    """Consecutive pieces of rows of these kinds, as long as possible with at most ``most`` kinds in each."""
    start = 0
    held: set[int] = set()
    for row, kind in enumerate(kinds):
        if kind not in held and len(held) == most:
            yield slice(start, row)
            start, held = row, set()
        held.add(kind)
    if kinds:
        yield slice(start, len(kinds))


@contextmanager
def _own_chance(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators hold a state of our own inside, and theirs again afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _adapter_off(model: PeftModel) -> Iterator[None]:
    """The base model alone. peft marks every factor as trained on the way out: frozen ones are frozen again."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    with model.disable_adapter():
        yield
    for parameter in frozen:
        parameter.requires_grad_(False)
