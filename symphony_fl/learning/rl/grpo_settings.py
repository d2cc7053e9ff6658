"""The settings of GRPO, the same for our learner (`grpo.py`) and TRL's (`trl_grpo.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from symphony_fl.learning.rl.grpo_loss import NORMALIZATIONS, RATIOS, SCALES


@dataclass(frozen=True)
class GRPOSettings:
    """What a step of eq. 7 is; what each choice means is told in `grpo.py`.

    ``rows_per_pass`` bounds the distinct rows of one forward and backward pass (memory), not the gradient.
    ``ratio`` and ``ratio_cap`` matter where an older policy sampled, or with several inner epochs: see `grpo_loss.py`.

    Raises
    ------
    ValueError
        A count below 1, fewer than 2 samples per prompt, a temperature of 0, an unknown name.
    """

    prompts: int
    samples: int
    learning_rate: float
    max_new_tokens: int
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    normalization: str = "dr_grpo"
    scale_rewards: str = "none"
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    inner_epochs: int = 1
    rows_per_pass: int = 64
    ratio: str = "clipped"
    ratio_cap: float = 2.0

    def __post_init__(self) -> None:
        for name in ("prompts", "max_new_tokens", "inner_epochs", "rows_per_pass"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.samples < 2:
            raise ValueError(f"samples {self.samples}: must be at least 2")
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature}: must be above 0")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization {self.normalization!r}: one of {', '.join(NORMALIZATIONS)}")
        if self.scale_rewards not in SCALES:
            raise ValueError(f"scale_rewards {self.scale_rewards!r}: one of {', '.join(SCALES)}")
        if self.ratio not in RATIOS:
            raise ValueError(f"ratio {self.ratio!r}: one of {', '.join(RATIOS)}")
