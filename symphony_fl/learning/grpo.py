"""GRPO on the adapter: the local learner of eq. 7, a small loop for many short rounds.

Shao et al., "DeepSeekMath", arXiv 2402.03300, section 4.1: for each prompt a group of samples, each sample's
advantage is its reward relative to its group, no value function, PPO's clipped ratio per token.

Departures from the paper, all but the last two by constructor arguments:
- Advantages are not divided by the group's standard deviation, and the loss is divided by a constant instead of
  each completion's length (``scale_rewards="none"``, ``normalization="dr_grpo"``): both divisions bias the gradient,
  towards questions nearly always or nearly never solved and towards long wrong answers. Liu et al., "Understanding
  R1-Zero-Like Training" (Dr. GRPO), arXiv 2503.20783. The paper's own are "group" and "sequence".
- The upper clip is wider than the lower one ("clip-higher"): a symmetric one holds down rare right answers. Yu et
  al., "DAPO", arXiv 2503.14476, section 3.1; ``normalization="token"`` is its section 3.3.
- No KL term unless ``kl`` > 0; then k3 against the base model, which is the adapter switched off (the paper renews
  its reference between iterations).
- The old policy of the ratio is the one that sampled, by the log-probabilities it sampled with.
- Groups whose samples all earned the same have no advantage and, without a KL term, no gradient: they are left out
  of the forward pass but count in every denominator, so the gradient is that of the whole batch.

Shapes: N prompts, G samples each, B = N G rows, P prompt and T completion tokens; adapter entries: size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel

from symphony_fl.learning.grpo_loss import NORMALIZATIONS, SCALES, group_advantages, grpo_loss, k3
from symphony_fl.learning.model import Policy
from symphony_fl.learning.optimizer_state import load_optimizer_arrays, optimizer_arrays
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.sampling import Rollout, generate
from symphony_fl.learning.shared_prompts import completion_logprobs
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.tasks import Sampler

__all__ = ["GRPO", "LearnReport", "group_advantages", "grpo_loss", "k3"]

_STREAM = 0x47  # separates the learner's random stream from others drawn from the same seed


class GRPO:
    """Trains the adapter that is in ``policy``, in place; its optimizer's state lasts, see `state`.

    ``rows_per_pass`` bounds the rows of one forward and backward pass (memory); it does not change the gradient.

    Raises:
        ValueError: a count below 1, fewer than 2 samples per prompt, a temperature of 0, an unknown name.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        *,
        prompts: int,
        samples: int,
        learning_rate: float,
        max_new_tokens: int,
        seed: int,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        kl: float = 0.0,
        normalization: str = "dr_grpo",
        scale_rewards: str = "none",
        max_grad_norm: float = 1.0,
        temperature: float = 1.0,
        inner_epochs: int = 1,
        rows_per_pass: int = 64,
    ) -> None:
        if min(prompts, max_new_tokens, inner_epochs, rows_per_pass) < 1 or samples < 2 or temperature <= 0:
            raise ValueError(
                f"at least 1 prompt, new token, inner epoch and row per pass, 2 samples, a temperature above 0: got "
                f"{prompts}, {max_new_tokens}, {inner_epochs}, {rows_per_pass}, {samples}, {temperature}"
            )
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization {normalization!r}: one of {', '.join(NORMALIZATIONS)}")
        if scale_rewards not in SCALES:
            raise ValueError(f"scale_rewards {scale_rewards!r}: one of {', '.join(SCALES)}")
        self.policy = policy
        self.sampler = sampler
        self.prompts = prompts
        self.samples = samples
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.kl = kl
        self.normalization = normalization
        self.scale_rewards = scale_rewards
        self.max_grad_norm = max_grad_norm
        self.temperature = temperature
        self.inner_epochs = inner_epochs
        self.rows_per_pass = rows_per_pass
        self.optimizer = torch.optim.AdamW(
            policy.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
        )

    def improve(self, round: int, steps: int) -> LearnReport:
        """``steps`` steps of eq. 7. On one machine deterministic in (adapter, optimizer state, seed, round, steps)."""
        meter = Meter()
        for step in range(steps):
            self._step(round, step, meter)
        return meter.report(steps)

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state: ``exp_avg``, ``exp_avg_sq`` float32 [size] in layout order, ``step`` float32 []."""
        return optimizer_arrays(self.optimizer, self.policy.parameters())

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave.

        Raises:
            ValueError: an array is missing or does not fit the adapter.
        """
        load_optimizer_arrays(self.optimizer, self.policy.parameters(), state)

    def _step(self, round: int, step: int, meter: Meter) -> None:
        tasks = self.sampler.sample(self.prompts, round, step)
        seeds = np.random.SeedSequence([self.seed, _STREAM, round, step]).generate_state(2)
        with meter.clock("generate"):
            rollout = self._sample(tasks, int(seeds[0]))
        with meter.clock("score"):
            rewards_NG = self._rewards(tasks, rollout.texts)
            advantages_NG = group_advantages(rewards_NG, self.scale_rewards)
            batch = self._batch(rollout, advantages_NG.reshape(-1))
        meter.sampled([task.skill for task in tasks], rewards_NG, advantages_NG, batch.all_tokens)
        if len(batch.advantages) > 0:
            self._update(batch, int(seeds[1]), meter)

    def _sample(self, tasks: Sequence[Task], seed: int) -> Rollout:
        """G completions of every task, rows grouped by task."""
        self.policy.model.eval()
        return generate(
            self.policy.model,
            self.policy.base.tokenizer,
            [task.prompt for task in tasks for _ in range(self.samples)],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=seed,
        )

    def _rewards(self, tasks: Sequence[Task], texts: Sequence[str]) -> torch.Tensor:
        """[N, G], in [0, 1]."""
        repeated = [task for task in tasks for _ in range(self.samples)]
        rewards = [get_skill(t.skill).verify(t, text) for t, text in zip(repeated, texts, strict=True)]
        return torch.tensor(rewards, dtype=torch.float32).reshape(len(tasks), self.samples)

    def _batch(self, rollout: Rollout, advantages_B: torch.Tensor) -> _Batch:
        """The rows that have a gradient: groups stay together, the longest first, so parts carry little padding."""
        mask = rollout.completion_mask
        advantages_B = advantages_B.to(mask.device)
        rows = (advantages_B != 0).nonzero().squeeze(1) if self.kl == 0 else torch.arange(len(mask))
        length_NG = (rollout.prompt_mask.sum(dim=1) + mask.sum(dim=1)).view(-1, self.samples)
        of_group_B = length_NG.amax(dim=1).repeat_interleave(self.samples)
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

    def _update(self, batch: _Batch, seed: int, meter: Meter) -> None:
        """One optimizer step per inner epoch over the whole batch, in passes of ``rows_per_pass`` rows."""
        self.policy.model.train()
        parameters = self.policy.parameters()
        with _own_chance(seed, parameters[0].device):  # dropout of the adapter, if it has any
            for epoch in range(self.inner_epochs):
                with meter.clock("backward"):
                    self.optimizer.zero_grad()
                    for part in batch.parts(self.rows_per_pass):
                        self._backward(part, meter if epoch == 0 else None)
                with meter.clock("optimizer"):
                    norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
                    self.optimizer.step()
                meter.add("grad_norm", float(norm))
        meter.counts["loss"] += 1

    def _backward(self, part: _Batch, meter: Meter | None) -> None:
        """Add this part's gradient of the whole batch's loss; rows left out count in its denominator."""
        reference = None
        if self.kl > 0:
            with torch.no_grad(), _adapter_off(self.policy.model):
                reference = self._logprobs(part)
        logprobs = self._logprobs(part)
        tokens = int(part.completion_mask.sum())
        by_tokens = self.normalization == "token"
        share = tokens / part.all_tokens if by_tokens else len(part.advantages) / part.all_rows
        loss = share * grpo_loss(
            logprobs,
            part.old_logprobs,
            part.advantages,
            part.completion_mask,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl=self.kl,
            ref_logprobs=reference,
            normalization=self.normalization,
            max_tokens=self.max_new_tokens,
        )
        loss.backward()  # type: ignore[no-untyped-call]
        if meter is not None:
            mask = part.completion_mask
            meter.sums["loss"] += float(loss.detach())
            meter.add("mismatch", float(((logprobs.detach() - part.old_logprobs) * mask).abs().sum()), tokens)
            if reference is not None:
                meter.add("kl", float((k3(logprobs.detach(), reference) * mask).sum()), tokens)

    def _logprobs(self, part: _Batch) -> torch.Tensor:
        return completion_logprobs(
            self.policy.model,
            part.prompt_ids,
            part.prompt_mask,
            part.completion_ids,
            part.completion_mask,
            temperature=self.temperature,
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
        """The batch in pieces of at most ``rows`` rows, without columns that are padding in all of a piece."""
        for start in range(0, len(self.advantages), rows):
            part = slice(start, start + rows)
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
