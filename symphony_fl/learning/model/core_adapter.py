"""Adapters whose only trained part is an r x r core between frozen bases: `lora_sb`.

W becomes W + (alpha / r) U R V with U [out, r] and V [r, in] orthonormal, spanning the dominant singular subspaces
of W, and R [r, r] trained from zero. U and V are the same on every agent, so averaging R averages the product
exactly, and an update has r^2 entries per layer whatever the layer's size.

Balazy et al., "LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters", arXiv 2405.17604.
Departures: the singular values are left out of the bases, so that one learning rate means the same in every
layer; R starts at exactly zero; and the bases come from a few steps of orthogonal iteration from a seeded start
instead of a complete decomposition: unlike single singular vectors, whose order and sign are decided by rounding
when singular values lie close, they vary little when another machine rounds differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear

from symphony_fl.learning.model.lean_peft import LoraLayer, PeftModel, dequantize_module_weight

_ITERATIONS = 8
_STREAM = 0x53  # separates the bases' random stream from others drawn from the same seed


class CoredB(torch.nn.Module):
    """Stands where LoRA has B: x -> U R x, with U a frozen buffer ``basis`` and R the parameter ``core``."""

    def __init__(self, out_features: int, rank: int, device: torch.device) -> None:
        super().__init__()
        self.core = torch.nn.Parameter(torch.zeros(rank, rank, dtype=torch.float32, device=device))
        self.basis = torch.nn.Buffer(torch.zeros(out_features, rank, dtype=torch.float32, device=device))
        self.bias = None

    @property
    def weight(self) -> torch.Tensor:
        """What LoRA's B would be, [out, r]: for merging, and for saving as an ordinary LoRA adapter."""
        return self.basis @ self.core

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(linear(x, self.core), self.basis)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        weight = self.weight
        destination[prefix + "weight"] = weight if keep_vars else weight.detach()


def install_cores(model: PeftModel) -> None:
    """Replace every layer's B by a core with a basis, both zero until `draw_bases`."""
    for layer in _layers(model):
        old = layer.lora_B["default"].weight
        layer.lora_B["default"] = CoredB(old.shape[0], old.shape[1], old.device)


def draw_bases(model: PeftModel, seed: int) -> None:
    """Put U and V of every adapted weight into the model; a function of the weights and the seed."""
    with torch.no_grad():
        for layer in _layers(model):
            weight = dequantize_module_weight(layer.get_base_layer())
            core_b = layer.lora_B["default"]
            u, v = singular_bases(weight, core_b.core.shape[0], seed)
            core_b.basis.copy_(u)
            layer.lora_A["default"].weight.copy_(v)


def singular_bases(weight: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal (U [out, r], V [r, in]), float64 on the CPU, near W's r dominant singular subspaces.

    A rank above the weight's smaller side leaves the surplus columns of U and rows of V zero.
    """
    w = weight.detach().to("cpu", torch.float64)
    kept = min(rank, *w.shape)
    generator = np.random.default_rng([seed, _STREAM, *w.shape])
    v = _orthonormal(torch.from_numpy(generator.standard_normal((w.shape[1], kept))))
    for _ in range(_ITERATIONS):
        u = _orthonormal(w @ v)
        v = _orthonormal(w.T @ u)
    pad = rank - kept
    return torch.nn.functional.pad(u, (0, pad)), torch.nn.functional.pad(v.T, (0, 0, 0, pad))


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """QR's Q with the signs that make R's diagonal positive: unique for full column rank."""
    q, r = torch.linalg.qr(columns)
    unique: torch.Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    return unique


def _layers(model: PeftModel) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]
