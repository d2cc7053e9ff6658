"""The adapter's size on the models of section 6.1, from their configurations alone (paper: 8-16 million)."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig, MistralConfig, PhiConfig, PretrainedConfig

from symphony_fl.learning.model.adapters import trainable_parameters
from symphony_fl.learning.model.model_check import ModelError

TINYLLAMA = LlamaConfig(
    vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False,
)  # fmt: skip
PHI2 = PhiConfig(
    vocab_size=51200, hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32,
    partial_rotary_factor=0.4, max_position_embeddings=2048, tie_word_embeddings=False,
)  # fmt: skip
MISTRAL = MistralConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=32768, tie_word_embeddings=False,
)  # fmt: skip
Q_V = ("q_proj", "v_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PHI_ATTENTION = ("q_proj", "k_proj", "v_proj", "dense")


@pytest.mark.parametrize(
    ("config", "rank", "targets", "millions"),
    [
        (TINYLLAMA, 32, ATTENTION, 9.0),
        (TINYLLAMA, 16, "all-linear", 12.6),
        (MISTRAL, 32, Q_V, 13.6),
        (MISTRAL, 16, ATTENTION, 13.6),
        (MISTRAL, 4, "all-linear", 10.5),
        (PHI2, 32, Q_V, 10.5),
        (PHI2, 16, PHI_ATTENTION, 10.5),
        (PHI2, 8, "all-linear", 11.8),
    ],
)
def test_published_models(
    config: PretrainedConfig, rank: int, targets: str | tuple[str, ...], millions: float
) -> None:
    count = trainable_parameters(config, rank, targets)
    assert round(count / 1e6, 1) == millions
    assert 8e6 <= count <= 16e6


def test_by_hand() -> None:
    """TinyLlama, q and v: per layer r (2048 + 2048) + r (2048 + 4 heads of 64)."""
    by_hand = 22 * (8 * (2048 + 2048) + 8 * (2048 + 256))
    assert trainable_parameters(TINYLLAMA, 8, Q_V) == by_hand
    only_b = 22 * (8 * 2048 + 8 * 256)
    assert trainable_parameters(TINYLLAMA, 8, Q_V, kind="lora_fa") == only_b


def test_targets_that_do_not_exist() -> None:
    with pytest.raises(ModelError, match="adapter.targets"):
        trainable_parameters(TINYLLAMA, 8, ("query",))
