"""AdamW's state as named arrays in layout order: what an agent's home keeps of its optimizer between rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from symphony_fl.learning.rl.grpo_settings import GRPOSettings

_MOMENTS = ("exp_avg", "exp_avg_sq")


def build_optimizer(
    parameters: Sequence[torch.nn.Parameter], settings: GRPOSettings
) -> torch.optim.Optimizer:
    """The AdamW whose state the functions below keep."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def optimizer_arrays(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> dict[str, np.ndarray]:
    """``exp_avg`` and ``exp_avg_sq``, float32 [P], and ``step``, float32 []; zeros before the first step."""
    entries = [(parameter, optimizer.state.get(parameter, {})) for parameter in parameters]
    arrays = {
        key: np.concatenate([_flat(entry.get(key), parameter) for parameter, entry in entries])
        for key in _MOMENTS
    }
    return {**arrays, "step": np.asarray(float(entries[0][1].get("step", 0.0)), dtype=np.float32)}


def load_optimizer_arrays(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Take back what `optimizer_arrays` gave.

    Raises
    ------
    ValueError
        An array is missing or does not fit the parameters.
    """
    size = sum(parameter.numel() for parameter in parameters)
    for key in _MOMENTS:
        if key not in arrays or arrays[key].shape != (size,):
            raise ValueError(f"optimizer state: {key!r} must be there with {size} entries")
    if "step" not in arrays:
        raise ValueError("optimizer state: 'step' must be there")
    start = 0
    for parameter in parameters:
        part = slice(start, start + parameter.numel())
        entry = {
            key: torch.from_numpy(arrays[key][part].copy()).view_as(parameter).to(parameter.device)
            for key in _MOMENTS
        }
        entry["step"] = torch.tensor(float(arrays["step"]), dtype=torch.float32, device=parameter.device)
        optimizer.state[parameter] = entry
        start = part.stop


def _flat(moment: torch.Tensor | None, parameter: torch.Tensor) -> np.ndarray:
    moment = torch.zeros_like(parameter) if moment is None else moment
    return moment.detach().reshape(-1).float().cpu().numpy().copy()
