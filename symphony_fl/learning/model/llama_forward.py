"""The forward pass of a Llama with adapters, as plain functions over tensors.

It computes what transformers' `LlamaForCausalLM` computes, up to rounding, in fewer operations: a small model spends
most of a step in the modules' Python. `forward.py` decides which models come here; `symphony bench learn` measures
both ways.

- The adapter is folded into the weights: W' = W + s B A, computed once per reading, not once per token.
- Linear layers with the same input (q, k, v; gate, up) are one matrix product.
- The gradient goes to the factors alone, and that of W' is never formed (`_FoldedLinear`).

Touvron et al., "LLaMA", arXiv 2302.13971; rotary positions: Su et al., arXiv 2104.09864; grouped queries: Ainslie et
al., arXiv 2305.13245.

Shapes: B rows, n new tokens, L tokens in the cache and new, H heads, K key-value heads, D entries per head, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding, linear, silu


@dataclass(frozen=True)
class Factors:
    """The adapter of one linear layer: W + ``scale`` B A."""

    a: torch.Tensor  # [r, in]
    b: torch.Tensor  # [out, r]
    scale: float


@dataclass(frozen=True)
class Projection:
    """Linear layers with the same input, side by side; their adapters are folded into ``weight``.

    Attributes
    ----------
    weight : [out, in], without gradient; the layers' outputs one after the other.
    a, b : [R, in] and [out, R] with ``weight`` = W + b a, and with gradient to the adapters: their A one below the
        other, their scaled B along the diagonal. None where no layer has an adapter.
    """

    weight: torch.Tensor
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.a is None or not torch.is_grad_enabled():
            return linear(x, self.weight)
        y: torch.Tensor = _FoldedLinear.apply(x, self.weight, self.a, self.b)  # type: ignore[no-untyped-call]
        return y


@dataclass(frozen=True)
class Layer:
    """The weights of one decoder layer, adapters folded in."""

    attention_norm: torch.Tensor
    qkv: Projection
    out: Projection
    mlp_norm: torch.Tensor
    gate_up: Projection
    down: Projection


@dataclass(frozen=True)
class Llama:
    """The tensors of a model at one moment. Folded weights do not follow the adapter: read the model again."""

    embedding: torch.Tensor  # [V, hidden]
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: Projection
    inverse_frequencies: torch.Tensor  # [D / 2]
    attention_scaling: float  # of the rotary embedding; 1 but for YaRN
    eps: float
    heads: int
    kv_heads: int
    head_size: int


class KeyValues:
    """Keys and values [B, K, L, D] of every layer."""

    def __init__(self) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def batch_select_indices(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may occur several times."""
        self.layers = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.layers]

    def append(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add new tokens' keys and values [B, K, n, D]; returns those of all tokens."""
        if layer == len(self.layers):
            self.layers.append((keys, values))
        else:
            before = self.layers[layer]
            self.layers[layer] = (torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2))
        return self.layers[layer]


def side_by_side(parts: Sequence[tuple[torch.Tensor, Factors | None]]) -> Projection:
    """The projection of layers with the same input, each given by its weight and its adapter, if it has one."""
    weights = [weight.detach() for weight, _ in parts]
    weight = weights[0] if len(parts) == 1 else torch.cat(weights)
    adapters = [adapter for _, adapter in parts if adapter is not None]
    if not adapters:
        return Projection(weight)
    a = torch.cat([adapter.a for adapter in adapters])
    blocks = [
        part.new_zeros(len(part), 0) if adapter is None else adapter.b * adapter.scale
        for part, adapter in parts
    ]
    b = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return Projection(torch.addmm(weight, b.detach(), a.detach()), a, b)


def llama_logits(
    llama: Llama,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: KeyValues,
    *,
    last_only: bool,
) -> torch.Tensor:
    """Logits [B, n, V] of the token after each of ``ids``, or [B, 1, V] after the last; ``cache`` grows by n tokens.

    Parameters
    ----------
    ids, positions : int64 [B, n].
    mask : int64 [B, L], 0 on padding, over the tokens in the cache and the new ones.
    """
    bias = _attention_bias(mask, ids.shape[1])
    rotation = _rotation(llama, positions)
    x = embedding(ids, llama.embedding)
    for number, layer in enumerate(llama.layers):
        qkv = layer.qkv(_normalized(x, layer.attention_norm, llama.eps))
        x = x + layer.out(_attention(llama, qkv, rotation, bias, cache, number))
        gate, up = layer.gate_up(_normalized(x, layer.mlp_norm, llama.eps)).chunk(2, dim=-1)
        x = x + layer.down(silu(gate) * up)
    if last_only:
        x = x[:, -1:]
    return llama.head(_normalized(x, llama.norm, llama.eps))


def _normalized(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * (x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps))


def _rotation(llama: Llama, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(cos, sin) [B, n, 1, D]; the sine's first half is negative, see `_rotated`."""
    angles = positions[:, :, None, None].float() * llama.inverse_frequencies
    cos, sin = angles.cos() * llama.attention_scaling, angles.sin() * llama.attention_scaling
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def _rotated(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Entry i and entry i + D/2 of each head turned by their position's angle."""
    cos, sin = rotation
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _attention_bias(mask: torch.Tensor, new: int) -> torch.Tensor:
    """0 where a new token may look, else the lowest number; [B, 1, 1, n, L]. Not -inf: padding sees nothing at all."""
    seen = mask.bool()[:, None, None, None, :]
    if new > 1:
        length = mask.shape[1]
        causal = torch.ones(new, length, dtype=torch.bool, device=mask.device).tril(length - new)
        seen = seen & causal
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(seen.shape, device=mask.device).masked_fill(~seen, lowest)


def _attention(
    llama: Llama,
    qkv: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    bias: torch.Tensor,
    cache: KeyValues,
    number: int,
) -> torch.Tensor:
    """[B, n, H D] from [B, n, (H + 2 K) D]. Heads that share keys are further queries of one key-value head."""
    rows, new, _ = qkv.shape
    heads, kv_heads, size = llama.heads, llama.kv_heads, llama.head_size
    split = qkv.view(rows, new, heads + 2 * kv_heads, size)
    turned = _rotated(split[:, :, : heads + kv_heads], rotation).transpose(1, 2)  # [B, H + K, n, D]
    queries = turned[:, :heads].reshape(rows, kv_heads, -1, size)  # [B, K, H / K n, D]
    keys, values = cache.append(number, turned[:, heads:], split[:, :, heads + kv_heads :].transpose(1, 2))
    scores = torch.matmul(queries, keys.transpose(2, 3)).view(rows, kv_heads, -1, new, keys.shape[2])
    weights = torch.add(bias, scores, alpha=size**-0.5).softmax(dim=-1)
    mixed = torch.matmul(weights.view(rows, kv_heads, -1, keys.shape[2]), values)
    return mixed.view(rows, heads, new, size).transpose(1, 2).reshape(rows, new, heads * size)


class _FoldedLinear(torch.autograd.Function):
    """y = x W'^T where W' = W + b a: gradients to x, a and b, none to W."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, a, b)
        return linear(x, weight)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, weight, a, b = ctx.saved_tensors
        x_needs, _, a_needs, b_needs = ctx.needs_input_grad
        dx = dy @ weight if x_needs else None
        x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        da = (dy @ b).T @ x if a_needs else None
        db = dy.T @ (x @ a.T) if b_needs else None
        return dx, None, da, db
