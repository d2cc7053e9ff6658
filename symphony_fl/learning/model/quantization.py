"""QLoRA's base model: weights in 4-bit NormalFloat (bitsandbytes), gradients through them.

Dettmers, Pagnoni, Holtzman, Zettlemoyer, "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023.

A trap this module disarms: on processors with AVX512-BF16, bitsandbytes repacks a weight at its first forward
in evaluation mode (so at the first generation) and from then on multiplies outside autograd. The adapters of
all layers below receive gradients of exactly zero and nothing says so.
"""

from __future__ import annotations

import torch

from symphony_fl.learning.model.model_check import ModelError


def nf4_config(dtype: torch.dtype) -> object:
    """transformers' configuration of NF4 with double quantization, computing in `dtype` (QLoRA §3)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def make_trainable(model: torch.nn.Module) -> int:
    """Keep every 4-bit layer inside autograd; to be called before the first forward. Returns their number."""
    import bitsandbytes

    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def probe(device: torch.device) -> None:
    """Try one 4-bit layer on this device: quantize, generate-like forward, then a gradient through it.

    Raises
    ------
    ModelError
        When 4-bit arithmetic does not run here, or its gradient is not W^T g (the silent trap).
    """
    try:
        error = _gradient_error(device)
    except (ImportError, RuntimeError, NotImplementedError, AttributeError, OSError) as cause:
        line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ModelError(
            f"model.quantization = 'nf4': does not run on {device} here ({line}); use model.quantization=none"
        ) from cause
    if not error < 0.02:
        raise ModelError(
            f"model.quantization = 'nf4': gradients through 4-bit layers are wrong on {device} here "
            f"(relative error {error:.2g}); use model.quantization=none"
        )


def _gradient_error(device: torch.device) -> float:
    """|dL/dx - W^T g| / |W^T g| of one 4-bit layer after it was used in evaluation mode without gradients."""
    import bitsandbytes
    from bitsandbytes.functional import dequantize_4bit

    size = 128
    weight = torch.linspace(-1, 1, size * size).reshape(size, size).sin()
    layer = bitsandbytes.nn.Linear4bit(size, size, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict({"weight": weight})
    layer.to(device)
    make_trainable(layer)
    layer.eval()
    with torch.no_grad():
        layer(torch.ones(1, size, device=device))
    x = torch.ones(3, size, device=device, requires_grad=True)
    layer(x).sum().backward()
    if x.grad is None:
        return float("inf")
    expected = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().sum(0)
    return float((x.grad - expected).norm() / (expected.norm() * 3**0.5))
