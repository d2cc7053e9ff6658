"""lora_sb: bases near the singular subspaces, a core that is all that is trained, an ordinary LoRA when saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples import examples
from symphony_fl.learning.model.adapters import Policy, trainable_parameters
from symphony_fl.learning.model.base_model import Base, weights_digest
from symphony_fl.learning.model.core_adapter import singular_bases

CONFIG = LlamaConfig(
    vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, initializer_range=0.2,
)  # fmt: skip
TOKENS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
RANK = 4


def _base(dtype: torch.dtype = torch.float32) -> Base:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(CONFIG).to(dtype)
    model.requires_grad_(False)
    return Base("random", model, PreTrainedTokenizerFast.__new__(PreTrainedTokenizerFast), b"")


def _policy(base: Base) -> Policy:
    return Policy(base, kind="lora_sb", rank=RANK, alpha=2.0 * RANK)


@examples(30)
@given(out=st.integers(1, 12), width=st.integers(1, 12), rank=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_bases_are_orthonormal(out: int, width: int, rank: int, seed: int) -> None:
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(out, width)))
    u, v = singular_bases(weight, rank, seed)
    assert u.shape == (out, rank) and v.shape == (rank, width)
    expected = torch.diag((torch.arange(rank) < min(out, width)).double())
    torch.testing.assert_close(u.T @ u, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(v @ v.T, expected, rtol=0, atol=1e-9)


def test_bases_span_the_dominant_singular_subspaces() -> None:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (20, 30))
    values = np.array([5.0, 4.0, 3.0] + [0.1] * 17)
    weight = torch.from_numpy(left * values @ right[:, :20].T)
    u, v = singular_bases(weight, 3, 1)
    torch.testing.assert_close(u @ u.T, torch.from_numpy(left[:, :3] @ left[:, :3].T), rtol=0, atol=1e-9)
    torch.testing.assert_close(v.T @ v, torch.from_numpy(right[:, :3] @ right[:, :3].T), rtol=0, atol=1e-9)


def test_bases_vary_little_when_rounding_differs() -> None:
    """Equal singular values: single singular vectors would turn arbitrarily."""
    rng = np.random.default_rng(0)
    weight = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    nearby = torch.from_numpy(weight * (1 + 1e-12 * rng.normal(size=weight.shape)))
    for one, other in zip(
        singular_bases(torch.from_numpy(weight), 4, 0), singular_bases(nearby, 4, 0), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_core_computes_what_the_formula_says() -> None:
    base = _base()
    policy = _policy(base)
    policy.initial(3)
    vector = np.random.default_rng(1).normal(size=policy.layout.size).astype(np.float32)
    policy.set(vector)
    layer = policy.model.base_model.model.model.layers[1].mlp.up_proj
    weight = base.model.model.layers[1].mlp.up_proj.weight
    u, v = (basis.float() for basis in singular_bases(weight, RANK, 3))
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.core"
    core = torch.from_numpy(vector[policy.layout.slices()[name]].reshape(RANK, RANK))
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 32)).astype(np.float32))
    expected = x @ (weight + 2.0 * u @ core @ v).T
    torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-4, atol=1e-5)


def test_only_cores_are_trained_and_start_at_zero() -> None:
    policy = _policy(_base())
    assert policy.layout.shapes == ((RANK, RANK),) * 14
    assert trainable_parameters(CONFIG, RANK, kind="lora_sb") == policy.layout.size == 14 * RANK**2
    vector = policy.initial(0)
    assert not vector.any()
    policy.set(vector)
    digest = weights_digest(policy.base.model)
    with torch.no_grad():
        assert torch.equal(policy.model(TOKENS).logits, policy.base.model(TOKENS).logits)
    policy.model(TOKENS, labels=TOKENS).loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in policy.parameters())
    assert {n for n, p in policy.model.named_parameters() if p.grad is not None} == {
        n for n, p in policy.model.named_parameters() if n.endswith(".core")
    }
    assert weights_digest(policy.base.model) == digest


def test_agents_share_the_bases_of_a_seed() -> None:
    base = _base()
    first, second = _policy(base), _policy(base)
    first.initial(0)
    second.initial(0)
    for one, other in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="initial"):
        _policy(base).set(np.zeros(first.layout.size, np.float32))


def test_average_of_cores_is_the_average_of_products() -> None:
    """With A and B both trained this does not hold."""
    policy = _policy(_base())
    policy.initial(0)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=policy.layout.size).astype(np.float32) for _ in range(2)]
    layer = policy.model.base_model.model.model.layers[0].self_attn.q_proj
    products = []
    for vector in (*vectors, (vectors[0] + vectors[1]) / 2):
        policy.set(vector)
        products.append(layer.get_delta_weight("default").detach())
    torch.testing.assert_close(products[2], (products[0] + products[1]) / 2)


def test_saved_as_an_ordinary_lora(tmp_path: Path) -> None:
    base = _base()
    policy = _policy(base)
    policy.initial(0)
    policy.set(np.random.default_rng(4).normal(size=policy.layout.size).astype(np.float32))
    policy.model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(_base().model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(TOKENS).logits, policy.model(TOKENS).logits, rtol=1e-4, atol=1e-4)


def test_bfloat16_base() -> None:
    policy = _policy(_base(torch.bfloat16))
    policy.set(policy.initial(0) + np.float32(0.1))
    policy.model(TOKENS, labels=TOKENS).loss.backward()
    assert all(p.dtype == torch.float32 and bool(p.grad.any()) for p in policy.parameters())  # type: ignore
