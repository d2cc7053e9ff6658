"""The trainable part of an agent: a LoRA adapter as one flat float32 vector with a fixed layout.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: a frozen W becomes
W + (alpha / r) B A with A [r, in] and B [out, r]. Kinds:

- `lora`: A and B are trained and travel.
- `lora_fa`: A is drawn from the run's seed and frozen, only B is trained and travels; averaging B averages
  the product exactly (Zhang et al., "LoRA-FA", 2023; Sun et al., "FFA-LoRA", ICLR 2024).
- `lora_sb`: an r x r core between frozen bases of W's dominant singular subspaces (`core_adapter.py`).

The adapter is float32 whatever the type of the base. All its entries lie in one tensor; the model's
parameters are views into it, so reading and replacing an adapter is one copy.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from symphony_fl.exchange.flat import Layout
from symphony_fl.learning.model.base_model import Base, load_base
from symphony_fl.learning.model.core_adapter import draw_bases, install_cores
from symphony_fl.learning.model.forward import Forward, LlamaForward, ModuleForward, reason_for_modules
from symphony_fl.learning.model.lean_peft import LoraConfig, PeftModel, get_peft_model
from symphony_fl.learning.model.model_check import KINDS, ModelError

logger = logging.getLogger(__name__)

Module = TypeVar("Module", bound=torch.nn.Module)

_STREAM = 0x41  # separates the adapter's random stream from others drawn from the same seed


class Policy:
    """A base model with one adapter, the policy of eq. 7. One per process; agents' adapters are swapped in.

    The base model stays as it was loaded: the policy wraps a copy of its module tree around the same tensors.

    Attributes
    ----------
    modules_because
        Why the forward pass is that of transformers' modules; None where it is the plain one (`forward.py`).

    Raises
    ------
    ModelError
        For a kind, rank or target that does not fit the model.
    """

    def __init__(
        self,
        base: Base,
        *,
        kind: str = "lora",
        rank: int,
        alpha: float,
        targets: str | tuple[str, ...] = "all-linear",
        dropout: float = 0.0,
        plain: bool = True,
    ) -> None:
        """``plain=False`` asks for transformers' modules also where the plain forward pass would do."""
        _check_kind(kind, rank)
        self.base = base
        self.kind = kind
        self.alpha = alpha
        with torch.random.fork_rng(devices=[]):  # peft draws A from the global generator
            self.model = _attach(share_weights(base.model), kind, rank, alpha, targets, dropout)
        self._frozen_seed: int | None = None
        self._frozen: dict[str, torch.nn.Parameter] = {}
        self._trained: dict[str, torch.nn.Parameter] = {}
        for name, parameter in _adapter_parameters(self.model):
            if _is_trained(kind, name):
                self._trained[name] = parameter
            else:
                parameter.requires_grad_(False)
                self._frozen[name] = parameter
        self.layout = Layout(
            names=tuple(self._trained), shapes=tuple(tuple(p.shape) for p in self._trained.values())
        )
        self._flat = _gather(self._trained, self.layout.size)
        self.modules_because = reason_for_modules(self.model) if plain else "asked for"
        logger.info(
            "%s with %s: forward pass by %s", base.name, kind,
            "llama_forward" if self.modules_because is None else f"transformers ({self.modules_because})",
        )  # fmt: skip

    def forward(self, *, train: bool) -> Forward:
        """The forward pass with the adapter that is in the model now; read it again when the adapter has changed.

        ``train`` decides whether the adapter's dropout is at work, where there is any.
        """
        self._check_views()
        if self.modules_because is None:
            return LlamaForward(self.model)
        self.model.train(train)
        return ModuleForward(self.model)

    def initial(self, seed: int) -> np.ndarray:
        """The adapter every agent of a run starts from, float32 [P]: B = 0, A ~ U(-1/sqrt(in), 1/sqrt(in)); R = 0.

        A's is peft's kaiming_uniform(a=sqrt(5)), drawn by name from numpy's PCG64, so it is the same to the
        last bit on every machine; no global generator is touched. Factors that stay frozen are drawn here too
        and put into the model: call this before the first `set` of a run. The adapter itself is not replaced.
        """
        self._draw_frozen(seed)
        parts = [_initial_factor(name, p.shape, seed).reshape(-1) for name, p in self._trained.items()]
        return np.concatenate(parts)

    def get(self) -> np.ndarray:
        """A copy of the adapter in the model, float32 [P]."""
        self._check_views()
        return self._flat.detach().to("cpu", copy=True).numpy()

    def set(self, vector: np.ndarray) -> None:
        """Replace the adapter in the model by `vector`, float32 [P]."""
        if vector.shape != (self.layout.size,) or vector.dtype != np.float32:
            raise ValueError(
                f"adapter vector: {vector.dtype} {list(vector.shape)}, expected float32 [{self.layout.size}]"
            )
        if self._frozen and self._frozen_seed is None:
            raise RuntimeError(
                f"adapter kind {self.kind!r}: call initial(seed) before set(); its frozen part is unset"
            )
        self._check_views()
        with torch.no_grad():
            self._flat.copy_(torch.from_numpy(vector))

    def parameters(self) -> list[torch.nn.Parameter]:
        """The trained parameters, in layout order."""
        return list(self._trained.values())

    def _draw_frozen(self, seed: int) -> None:
        if self._frozen_seed == seed:
            return
        if self.kind == "lora_sb":
            draw_bases(self.model, seed)
            self._frozen_seed = seed
            return
        for name, parameter in self._frozen.items():
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(_initial_factor(name, parameter.shape, seed)))
        self._frozen_seed = seed

    def _check_views(self) -> None:
        """Parameters moved to another device or type would no longer be views: the vector would be stale."""
        address = self._flat.data_ptr()
        for parameter in self._trained.values():
            if parameter.data_ptr() != address:
                raise RuntimeError("the adapter's parameters were replaced from outside; its vector is stale")
            address += parameter.numel() * self._flat.element_size()


def trainable_parameters(
    model: PretrainedConfig | PreTrainedModel | str | Path,
    rank: int,
    targets: str | tuple[str, ...] = "all-linear",
    kind: str = "lora",
) -> int:
    """Number of entries of the adapter (P) on a model given by its configuration; no weights are needed.

    `model` is a configuration, a folder or Hugging Face name that holds one, or a model. The module tree is
    built on torch's meta device: shapes without storage.
    """
    _check_kind(kind, rank)
    if isinstance(model, str | Path):
        model = AutoConfig.from_pretrained(str(model), trust_remote_code=False)
    if isinstance(model, PretrainedConfig):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(model, trust_remote_code=False)
    with torch.device("meta"):
        peft_model = _attach(model, kind, rank, float(rank), targets, 0.0)
    return sum(p.numel() for name, p in _adapter_parameters(peft_model) if _is_trained(kind, name))


def share_weights(model: Module) -> Module:
    """A copy of the module tree around the same parameters and buffers (nothing of the weights is copied).

    What is done to the copy's modules, configuration or adapters leaves the original as it is.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        state = getattr(module, "quant_state", None)  # 4-bit layers: the scales
        if state is not None:
            memo[id(state)] = state
    return copy.deepcopy(model, memo)


def _check_kind(kind: str, rank: int) -> None:
    if kind not in KINDS:
        raise ModelError(f"adapter.kind = {kind!r}: unknown; known: {', '.join(KINDS)}")
    if rank < 1:
        raise ModelError(f"adapter.rank = {rank}: must be at least 1")


def _is_trained(kind: str, name: str) -> bool:
    return kind == "lora" or ".lora_B." in name  # of lora_sb, B's parameter is the core


def _attach(
    model: PreTrainedModel, kind: str, rank: int, alpha: float, targets: str | tuple[str, ...], dropout: float
) -> PeftModel:
    if targets in ("all-linear", ("all-linear",)):
        targets = "all-linear"
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a float works and is needed
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        peft_model = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        line = str(error).strip().splitlines()[0]
        raise ModelError(f"adapter.targets = {targets!r}: does not fit the model: {line}") from error
    if kind == "lora_sb":
        install_cores(peft_model)
    return peft_model


def _adapter_parameters(model: PeftModel) -> list[tuple[str, torch.nn.Parameter]]:
    """The adapter's parameters, sorted by the names under which peft saves them."""
    found = [(name, parameter) for name, parameter in model.named_parameters() if ".lora_" in name]
    return sorted((name.replace(".default.", "."), parameter) for name, parameter in found)


def _gather(parameters: dict[str, torch.nn.Parameter], size: int) -> torch.Tensor:
    """Move the parameters' storage into one float32 tensor [P] of which they become views."""
    device = next(iter(parameters.values())).device
    flat = torch.zeros(size, dtype=torch.float32, device=device)
    at = 0
    for parameter in parameters.values():
        view = flat[at : at + parameter.numel()].view(parameter.shape)
        view.copy_(parameter.data)
        parameter.data = view
        at += parameter.numel()
    return flat


def _initial_factor(name: str, shape: torch.Size, seed: int) -> np.ndarray:
    if ".lora_A." not in name:
        return np.zeros(tuple(shape), dtype=np.float32)
    bound = np.float32(1.0 / math.sqrt(shape[1]))
    generator = np.random.default_rng([seed, _STREAM, *name.encode()])
    uniform = generator.random(tuple(shape), dtype=np.float32)
    return (uniform * np.float32(2.0) - np.float32(1.0)) * bound


_policies: dict[tuple[Any, ...], Policy] = {}


def get_policy(
    name: str,
    quantization: str,
    dtype: str,
    device: str,
    kind: str,
    rank: int,
    alpha: float,
    targets: str | Sequence[str],
    dropout: float = 0.0,
) -> Policy:
    """The policy of these settings, built once per process; agents swap their adapters in and out of it."""
    targets = targets if isinstance(targets, str) else tuple(targets)
    key = (name, quantization, dtype, device, kind, rank, alpha, targets, dropout)
    if key not in _policies:
        base = load_base(name, quantization=quantization, dtype=dtype, device=device)
        _policies[key] = Policy(base, kind=kind, rank=rank, alpha=alpha, targets=targets, dropout=dropout)
    return _policies[key]
