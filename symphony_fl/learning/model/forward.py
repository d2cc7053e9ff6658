"""Which forward pass a model takes: the plain one of `llama_forward.py`, or transformers' own modules.

The choice depends on the model alone and is made in `reason_for_modules`. A policy makes it once, when it is built:
`Policy.modules_because` and one line of the log say which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from transformers import DynamicCache, LlamaForCausalLM

from symphony_fl.learning.model.core_adapter import CoredB
from symphony_fl.learning.model.llama_forward import (
    Factors,
    KeyValues,
    Layer,
    Llama,
    llama_logits,
    side_by_side,
)

_ADAPTER = "default"
# Their frequencies are the same for every input; "dynamic" and "longrope" change them with its length.
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


class Cache(Protocol):
    """Keys and values of the tokens read so far."""

    def batch_select_indices(self, indices: torch.Tensor, /) -> None: ...


class Forward(Protocol):
    """A model as it is now, ready to read tokens.

    Do not keep it over a change of the adapter: folded weights would be those of before.
    """

    device: torch.device

    def new_cache(self) -> Cache: ...

    def logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        *,
        last_only: bool,
    ) -> torch.Tensor:
        """Float32 [B, n, V] of the token after each of ``ids`` [B, n], or [B, 1, V] after the last of them.

        ``mask`` [B, L] covers the cache, which grows by n tokens, and ``ids``.
        """
        ...


class LlamaForward:
    """`llama_forward.py` on a model that it knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._llama = _read(_without_peft(model))
        self.device = self._llama.embedding.device

    def new_cache(self) -> KeyValues:
        return KeyValues()

    def logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        *,
        last_only: bool,
    ) -> torch.Tensor:
        assert isinstance(cache, KeyValues)
        return llama_logits(self._llama, ids, mask, positions, cache, last_only=last_only)


class ModuleForward:
    """The model's own modules."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.device = next(model.parameters()).device

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)

    def logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        *,
        last_only: bool,
    ) -> torch.Tensor:
        found: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1 if last_only else 0,
        ).logits
        return found.float()


def forward_of(model: torch.nn.Module | Forward) -> Forward:
    """The forward pass of a model with the adapter that is in it now; what is one already stays as it is."""
    if not isinstance(model, torch.nn.Module):
        return model
    return LlamaForward(model) if reason_for_modules(model) is None else ModuleForward(model)


def reason_for_modules(model: torch.nn.Module) -> str | None:
    """Why the plain forward pass cannot stand in for this model's modules; None where it can."""
    inner = _without_peft(model)
    if type(inner) is not LlamaForCausalLM:
        return f"{type(inner).__name__} is not LlamaForCausalLM"
    config = inner.config
    rope = inner.model.rotary_emb.rope_type
    if rope not in _ROPE_TYPES:
        return f"rotary embedding of type {rope}"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    if config.attention_dropout:
        return f"attention dropout {config.attention_dropout}"
    if any(getattr(module, "gradient_checkpointing", False) for module in inner.modules()):
        return "gradient checkpointing"
    for name, tensor in inner.named_parameters():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            return f"{name} is {tensor.dtype} on {tensor.device}"
        if tensor.requires_grad and ".lora_" not in name and torch.is_grad_enabled():
            return f"{name} is trained"
    for name, module in inner.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):  # noqa: SLF001
            return f"{name or 'the model'} has hooks"
    return _unknown_layer(inner)


def _unknown_layer(model: LlamaForCausalLM) -> str | None:
    if type(model.model.embed_tokens) is not torch.nn.Embedding:
        return f"embed_tokens is {type(model.model.embed_tokens).__name__}"
    for layer in (*_linear_layers(model), model.lm_head):
        plain = layer
        if type(layer) is LoraLinear:
            plain = layer.get_base_layer()
            reason = _unknown_adapter(layer)
            if reason is not None:
                return reason
        if type(plain) is not torch.nn.Linear:
            return f"a linear layer is {type(plain).__name__}"
        if plain.bias is not None:
            return "a linear layer has a bias"
    return None


def _unknown_adapter(layer: LoraLinear) -> str | None:
    if layer.merged or list(layer.lora_A) != [_ADAPTER] or layer.active_adapters != [_ADAPTER]:
        return f"adapters {list(layer.lora_A)}, active {layer.active_adapters}, merged {layer.merged}"
    if not isinstance(layer.lora_dropout[_ADAPTER], torch.nn.Identity):
        return "dropout in the adapter"
    if layer.lora_variant:
        return f"a variant of LoRA: {type(layer.lora_variant[_ADAPTER]).__name__}"
    a, b = layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]
    if type(a) is not torch.nn.Linear or type(b) not in (torch.nn.Linear, CoredB) or b.bias is not None:
        return f"an adapter of {type(a).__name__} and {type(b).__name__}"
    return None


def _linear_layers(model: LlamaForCausalLM) -> Sequence[torch.nn.Module]:
    return [
        layer
        for block in model.model.layers
        for part in (block.self_attn, block.mlp)
        for name, layer in part.named_children()
        if name.endswith("_proj")
    ]


def _without_peft(model: torch.nn.Module) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _read(model: LlamaForCausalLM) -> Llama:
    config, inner = model.config, model.model
    layers = []
    for block in inner.layers:
        attention, mlp = block.self_attn, block.mlp
        layers.append(
            Layer(
                attention_norm=block.input_layernorm.weight,
                qkv=side_by_side([_part(p) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]),
                out=side_by_side([_part(attention.o_proj)]),
                mlp_norm=block.post_attention_layernorm.weight,
                gate_up=side_by_side([_part(mlp.gate_proj), _part(mlp.up_proj)]),
                down=side_by_side([_part(mlp.down_proj)]),
            )
        )
    return Llama(
        embedding=inner.embed_tokens.weight,
        layers=tuple(layers),
        norm=inner.norm.weight,
        head=side_by_side([_part(model.lm_head)]),
        inverse_frequencies=inner.rotary_emb.inv_freq,
        attention_scaling=inner.rotary_emb.attention_scaling,
        eps=config.rms_norm_eps,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=inner.layers[0].self_attn.head_dim,
    )


def _part(layer: Any) -> tuple[torch.Tensor, Factors | None]:
    if not isinstance(layer, LoraLinear):
        return layer.weight, None
    if layer.merged:
        raise RuntimeError("an adapter is merged into the weights; it would be added twice")
    weight = layer.get_base_layer().weight
    if layer.disable_adapters:
        return weight, None
    return weight, Factors(
        layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight, layer.scaling[_ADAPTER]
    )
