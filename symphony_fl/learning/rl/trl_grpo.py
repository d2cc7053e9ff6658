"""GRPO by TRL's GRPOTrainer on the same adapter, tasks and rewards, behind the interface of `grpo.GRPO`.

von Werra et al., TRL: Transformers Reinforcement Learning, https://github.com/huggingface/trl. For those who want
its features on larger models. For many short rounds on a small model `grpo.py` is about twice as fast.

One trainer serves all rounds of a learner: each `improve` hands it that round's tasks and lets it train on. What
TRL does to the model it is given stays away from the policy:

- It patches the model's forward and sets pad tokens: it gets a copy of the module tree around the same tensors.
- It would keep the adapter of the moment it is built as the KL term's reference: it is told of the KL term after
  that, and then takes the base model (the adapter switched off), as `grpo.py` does.
- It casts the adapter of a 4-bit model to bfloat16: the float32 tensors are put back.
- It seeds Python's, numpy's and torch's global generators: their states are put back.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from symphony_fl.exchange.flat import digest
from symphony_fl.learning.model.adapters import Policy, share_weights
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.rl.grpo_loss import group_advantages
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.optimizer_state import build_optimizer, load_optimizer_arrays, optimizer_arrays
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.tasks.task_sampler import Sampler

LOSS_TYPES = {"dr_grpo": "dr_grpo", "token": "dapo", "sequence": "grpo"}
"""Our names of the loss's normalization -> TRL's."""

_ALWAYS: dict[str, Any] = {
    "use_bias_correction_kl": False,  # k3 as in the GRPO paper and in `grpo_loss`
    "lr_scheduler_type": "constant",
    "shuffle_dataset": False,
    "max_steps": 1,  # until `_Trainer.run` says how many
    "bf16": False,  # TRL's default is True, on a CPU as well
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}

_ROWS_PER_PASS = 256  # TRL gains by longer passes than our loop, which shares the prompts within one

_STREAM = 0x54  # separates this learner's random stream from others drawn from the same seed


class TRLGRPO:
    """Trains the adapter that is in ``policy``, in place, on the sampler's tasks; as `grpo.GRPO`.

    The old policy of the ratio is the one that sampled; TRL leaves the ratio out (it is 1) unless
    ``inner_epochs`` is above 1.
    """

    def __init__(self, policy: Policy, sampler: Sampler, settings: GRPOSettings, seed: int) -> None:
        self.policy = policy
        self.sampler = sampler
        self.settings = settings
        self.seed = seed
        self.optimizer = build_optimizer(policy.parameters(), settings)
        self._tasks: list[Task] = []
        self._meter = Meter()
        self._folder = tempfile.TemporaryDirectory(
            prefix="symphony-trl-"
        )  # TRL insists on one; nothing is kept
        batch = settings.prompts * settings.samples
        rows = _rows_per_pass(batch, max(settings.rows_per_pass, _ROWS_PER_PASS))
        arguments = GRPOConfig(
            **_ALWAYS,
            output_dir=self._folder.name,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=batch // rows,
            num_generations=settings.samples,
            max_completion_length=settings.max_new_tokens,
            temperature=settings.temperature,
            loss_type=LOSS_TYPES[settings.normalization],
            scale_rewards=settings.scale_rewards,
            epsilon=settings.clip_low,
            epsilon_high=settings.clip_high,
            num_iterations=settings.inner_epochs,
            max_grad_norm=settings.max_grad_norm,
            learning_rate=settings.learning_rate,
            seed=seed,
            use_cpu=policy.parameters()[0].device.type == "cpu",
        )
        self.trainer = self._build(arguments)
        self.trainer.beta = settings.kl

    def improve(self, round: int, steps: int) -> LearnReport:
        """``steps`` steps of eq. 7. Deterministic in (adapter, optimizer state, seed, round, steps).

        In the report, ``mismatch`` is 0 (TRL does not measure it) and the seconds of ``optimizer`` hold all that
        the trainer does besides generating, scoring, forward and backward.
        """
        self._meter = Meter()
        if steps > 0:
            batches = [self.sampler.sample(self.settings.prompts, round, step) for step in range(steps)]
            self._tasks = [task for batch in batches for task in batch]
            columns = {"prompt": [task.prompt for task in self._tasks], "task": list(range(len(self._tasks)))}
            chance = np.random.SeedSequence([self.seed, _STREAM, round]).generate_state(1)
            start = time.perf_counter()
            with _global_chance(int(chance[0])):
                self.trainer.run(Dataset.from_dict(columns), steps * self.settings.inner_epochs, self._meter)
            self._record(time.perf_counter() - start)
        return self._meter.report(steps)

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state in layout order, the same arrays as `grpo.GRPO.state`."""
        return optimizer_arrays(self.optimizer, self.policy.parameters())

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` or `grpo.GRPO.state` gave. Raises ValueError when it does not fit."""
        load_optimizer_arrays(self.optimizer, self.policy.parameters(), state)

    def _build(self, arguments: GRPOConfig) -> _Trainer:
        parameters = self.policy.parameters()
        with _global_chance(self.seed), _kept(parameters):
            trainer = _Trainer(
                model=share_weights(self.policy.model),
                reward_funcs=[self._reward],
                args=arguments,
                train_dataset=Dataset.from_dict({"prompt": [""], "task": [0]}),
                processing_class=self.policy.base.tokenizer,
                optimizers=(self.optimizer, None),
            )
        trainer.remove_callback(PrinterCallback)
        trainer.adapter = parameters
        return trainer

    def _reward(
        self,
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
        task: list[int],
        **_: object,
    ) -> list[float]:
        """Rewards of B = N G rows grouped by prompt; TRL also passes its own state, which is not needed."""
        rewards = [
            get_skill(self._tasks[index].skill).verify(self._tasks[index], text)
            for index, text in zip(task, completions, strict=True)
        ]
        rewards_NG = torch.tensor(rewards, dtype=torch.float32).reshape(-1, self.settings.samples)
        skills = [self._tasks[index].skill for index in task[:: self.settings.samples]]
        advantages_NG = group_advantages(rewards_NG, self.settings.scale_rewards)
        asked = [self._tasks[index] for index in task[:: self.settings.samples]]
        self._meter.attempted(asked, completions, rewards_NG, digest(self.policy.get()))
        self._meter.sampled(skills, rewards_NG, advantages_NG, sum(len(ids) for ids in completion_ids))
        return rewards

    def _record(self, seconds: float) -> None:
        """The figures that TRL logged: one entry per optimizer step."""
        logged = [entry for entry in self.trainer.state.log_history if "loss" in entry]
        for entry in logged:
            self._meter.add("grad_norm", float(entry["grad_norm"]))
        for entry in logged[:: self.settings.inner_epochs]:
            self._meter.add("loss", float(entry["loss"]))
            self._meter.add("kl", float(entry.get("kl", 0.0)))
        known = sum(self._meter.seconds.values())
        self._meter.seconds["optimizer"] += seconds - known


class _Trainer(GRPOTrainer):
    """GRPOTrainer that trains in short runs one after the other and says where its time goes."""

    adapter: Sequence[torch.nn.Parameter] = ()
    meter = Meter()

    def run(self, tasks: Dataset, optimizer_steps: int, meter: Meter) -> None:
        """Train on these tasks in their order; the optimizer's state lasts from run to run."""
        self.meter = meter
        self.train_dataset = tasks
        self._buffered_inputs = None
        self._step = 0
        self.args.max_steps = optimizer_steps
        self.train()

    def training_step(
        self, model: torch.nn.Module, inputs: object, num_items_in_batch: object = None
    ) -> torch.Tensor:
        before = self.meter.seconds["generate"] + self.meter.seconds["score"]
        start = time.perf_counter()
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        within = self.meter.seconds["generate"] + self.meter.seconds["score"] - before
        self.meter.seconds["backward"] += time.perf_counter() - start - within
        return loss

    def _generate(self, prompts: list[str]) -> object:
        with self.meter.clock("generate"):
            return super()._generate(prompts)

    def _generate_and_score_completions(self, inputs: list[dict[str, object]]) -> dict[str, object]:
        before = self.meter.seconds["generate"]
        start = time.perf_counter()
        batch: dict[str, object] = super()._generate_and_score_completions(inputs)
        generating = self.meter.seconds["generate"] - before
        self.meter.seconds["score"] += time.perf_counter() - start - generating
        return batch

    def _compute_loss(self, model: torch.nn.Module, inputs: object) -> torch.Tensor:
        # When the adapter is switched on again, peft marks every factor as trained; a frozen one is frozen again.
        trained = {id(parameter) for parameter in self.adapter}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss


@contextmanager
def _global_chance(seed: int) -> Iterator[None]:
    """The global generators hold states of our own inside, and theirs again afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _kept(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Afterwards the parameters are the tensors that they were."""
    tensors = [parameter.data for parameter in parameters]
    try:
        yield
    finally:
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.data = tensor


def _rows_per_pass(rows: int, most: int) -> int:
    """The largest divisor of ``rows`` that is at most ``most``: TRL's passes are all of one size."""
    return max(part for part in range(1, min(rows, most) + 1) if rows % part == 0)
