"""The plain forward pass against transformers' modules: logits, log-probabilities, gradients, samples; who takes it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_logprobs import completion_logprobs as by_modules
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from examples import examples
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base
from symphony_fl.learning.model.forward import LlamaForward, ModuleForward, forward_of, reason_for_modules
from symphony_fl.learning.model.tiny import initial_model, tiny_tokenizer
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient, _pieces
from symphony_fl.learning.rl.sampling import Rollout, generate, uniforms
from symphony_fl.learning.rl.shared_prompts import completion_logits, completion_logprobs

VOCABULARY = len(tiny_tokenizer())
ROPES = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 3.0},
    "llama3": {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
    },
    "yarn": {
        "rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 16,
    },
}  # fmt: skip
TARGETS = ("all-linear", ("q_proj", "v_proj"), ("down_proj",), ("k_proj", "gate_proj", "lm_head"))


@dataclass(frozen=True)
class Shape:
    """A small Llama and its adapter."""

    kv_heads: int = 2
    groups: int = 2
    head: int = 8
    per_head: int = 8  # the hidden size by the number of heads, which need not be `head`
    layers: int = 2
    tied: bool = True
    rope: str = "default"
    kind: str = "lora"
    targets: str | tuple[str, ...] = "all-linear"
    rank: int = 3

    def base(self) -> Base:
        heads = self.kv_heads * self.groups
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=heads * self.per_head, intermediate_size=40,
            num_hidden_layers=self.layers, num_attention_heads=heads, num_key_value_heads=self.kv_heads,
            head_dim=self.head, tie_word_embeddings=self.tied, initializer_range=0.2,
            max_position_embeddings=64, rope_parameters=dict(ROPES[self.rope]),
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LlamaForCausalLM(config)
            for parameter in model.parameters():
                if parameter.dim() == 1:  # the norms' weights are 1 in a new model
                    torch.nn.init.uniform_(parameter, 0.5, 1.5)
        return Base("random", model.eval().requires_grad_(False), tiny_tokenizer(), b"")

    def policy(self) -> Policy:
        policy = Policy(
            self.base(), kind=self.kind, rank=self.rank, alpha=2.0 * self.rank, targets=self.targets
        )
        drawn = policy.initial(1)
        noise = np.random.default_rng(2).normal(0, 0.1, size=drawn.shape)
        policy.set(drawn + noise.astype(np.float32))  # B off zero
        return policy


shapes = st.builds(
    Shape,
    kv_heads=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2, 3]),
    head=st.sampled_from([2, 8, 10]),
    per_head=st.sampled_from([3, 8, 12]),
    layers=st.integers(1, 3),
    tied=st.booleans(),
    rope=st.sampled_from(sorted(ROPES)),
    kind=st.sampled_from(["lora", "lora_fa", "lora_sb"]),
    targets=st.sampled_from(TARGETS),
    rank=st.integers(1, 5),
).filter(lambda shape: not (shape.tied and "lm_head" in shape.targets))  # peft adapts no tied head


def _batch(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Nine rows of three prompts of 3 to 7 tokens, left-padded; completions of 1 to 5 tokens, two of them equal."""
    rng = np.random.default_rng(seed)
    prompts = torch.from_numpy(rng.integers(1, VOCABULARY, size=(3, 7)))
    prompt_mask = (torch.arange(7) >= torch.tensor([[0], [2], [4]])).long()
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    completions = torch.from_numpy(rng.integers(1, VOCABULARY, size=(9, 5)))
    completions[4], lengths = completions[3], torch.tensor([5, 3, 1, 2, 2, 4, 1, 1, 5])
    mask = (torch.arange(5) < lengths.unsqueeze(1)).long()
    return prompts[rows] * prompt_mask[rows], prompt_mask[rows], completions * mask, mask


def _gradient(policy: Policy, logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of a weighted sum of the log-probabilities, flat."""
    weights = torch.from_numpy(np.random.default_rng(5).normal(size=mask.shape)).float() * mask
    policy.model.zero_grad()
    (logprobs * weights).sum().backward()
    return torch.cat([p.grad.reshape(-1) for p in policy.parameters() if p.grad is not None])


@examples(40)
@given(shape=shapes, temperature=st.sampled_from([1.0, 0.7]))
def test_logprobs_and_gradients_are_those_of_the_modules(shape: Shape, temperature: float) -> None:
    policy, batch = shape.policy(), _batch()
    assert policy.modules_because is None
    expected = by_modules(policy.model, *batch, temperature=temperature)
    expected_gradient = _gradient(policy, expected, batch[3])
    found = completion_logprobs(policy.forward(train=True), *batch, temperature=temperature)
    gradient = _gradient(policy, found, batch[3])
    torch.testing.assert_close(found * batch[3], expected * batch[3], rtol=1e-5, atol=2e-5)
    assert gradient.shape == (policy.layout.size,) == expected_gradient.shape
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-5
    assert all(p.grad is None for p in policy.model.parameters() if not p.requires_grad)


@examples(20)
@given(shape=shapes)
def test_logits_are_those_of_the_modules(shape: Shape) -> None:
    """At once and step by step over a cache, of padded rows."""
    policy, (ids, mask, _, _) = shape.policy(), _batch()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = policy.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        forward = policy.forward(train=False)
        for cuts in ([7], [4, 3], [4, 1, 1, 1]):
            cache, end = forward.new_cache(), 0
            for new in cuts:
                part, end = slice(end, end + new), end + new
                found = forward.logits(
                    ids[:, part], mask[:, :end], positions[:, part], cache, last_only=False
                )
                kept = mask[:, part].bool()
                torch.testing.assert_close(found[kept], expected[:, part][kept], rtol=1e-4, atol=1e-4)
                last = forward.logits(
                    ids[:, part], mask[:, :end], positions[:, part], _before(cache, new), last_only=True
                )
                torch.testing.assert_close(last, found[:, -1:])


def _before(cache, new: int):
    """A copy of a cache as it was before the last ``new`` tokens."""
    copy = type(cache)()
    copy.layers = [(k[:, :, :-new], v[:, :, :-new]) for k, v in cache.layers]
    return copy


def _same_draws(one: Rollout, other: Rollout, policy: Policy, temperature: float, seed: int) -> int:
    """Rows are equal up to rounding; returns how many part ways.

    A row may leave the other's way only where its number from the chance stream lies within 1e-5 of the border between
    the two tokens in the cumulative distribution. From there on the rows are different texts.
    """
    drawn = uniforms(len(one.completion_ids), 12, temperature, seed)
    with torch.no_grad():
        logits = completion_logits(
            policy.model, one.prompt_ids, one.prompt_mask, one.completion_ids, one.completion_mask
        )
    cumulative = torch.softmax(logits.double() / temperature, dim=2).cumsum(dim=2)
    parted = 0
    for row in range(len(drawn)):
        ours, theirs = (r.completion_ids[row][r.completion_mask[row].bool()].tolist() for r in (one, other))
        if ours == theirs:
            length = len(ours)
            torch.testing.assert_close(
                one.logprobs[row, :length], other.logprobs[row, :length], rtol=1e-4, atol=2e-5
            )
            continue
        at = next(t for t, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
        border = cumulative[row, at, min(ours[at], theirs[at])]
        assert abs(float(border - drawn[row, at])) < 1e-5, "parted where no rounding explains it"
        parted += 1
    return parted


@pytest.mark.parametrize(
    ("kind", "temperature"),
    [
        ("lora", 1.0),
        ("lora_fa", 0.6),
        ("lora_sb", 1.0),
        pytest.param("lora", 0.6, marks=pytest.mark.slow),
        pytest.param("lora_fa", 1.0, marks=pytest.mark.slow),
        pytest.param("lora_sb", 0.6, marks=pytest.mark.slow),
    ],
)
def test_the_same_seed_draws_what_the_modules_draw(kind: str, temperature: float) -> None:
    model = initial_model(5).eval().requires_grad_(False)
    model.model.norm.weight.mul_(3.0)  # sharper: some rows end early
    policy = Policy(Base("untrained", model, tiny_tokenizer(), b""), kind=kind, rank=4, alpha=8.0)
    start = policy.initial(0)
    policy.set(start + np.random.default_rng(1).normal(0, 0.05, size=start.shape).astype(np.float32))
    prompts = [f"<{name}>{text}=" for name in ("max", "sort", "add") for text in ("3", "1+2", "abcdefg")] * 12
    parted = 0
    for seed in range(5):
        rollouts = [
            generate(
                forward, policy.base.tokenizer, prompts, max_new_tokens=12, temperature=temperature, seed=seed
            )
            for forward in (policy.forward(train=False), ModuleForward(policy.model.eval()))
        ]
        parted += _same_draws(*rollouts, policy, temperature, seed)
    assert parted <= 1  # of 540 rows; 0 where this was written


def test_a_reading_is_of_one_moment_and_the_next_one_follows() -> None:
    """Sampling, training and sending read the adapter that the digest names."""
    policy, (ids, mask, _, _) = Shape().policy(), _batch()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)

    def logits(forward: LlamaForward | ModuleForward) -> torch.Tensor:
        with torch.no_grad():
            return forward.logits(ids, mask, positions, forward.new_cache(), last_only=True)

    gradient = PolicyGradient(policy, GRPOSettings(2, 2, learning_rate=0.1, max_new_tokens=4))
    early, digest = policy.forward(train=False), gradient.digest()
    before = logits(early)
    gradient.imitate([("<max>3=", "a"), ("<sort>ab=", "b")])
    assert gradient.digest() != digest
    assert torch.equal(logits(early), before)
    after = logits(policy.forward(train=False))
    assert not torch.allclose(after, before, atol=1e-2)
    torch.testing.assert_close(after, logits(ModuleForward(policy.model)), rtol=1e-4, atol=1e-4)
    policy.set(policy.get() * np.float32(0.5))
    torch.testing.assert_close(
        logits(policy.forward(train=False)), logits(ModuleForward(policy.model)), rtol=1e-4, atol=1e-4
    )
    with policy.model.disable_adapter():
        torch.testing.assert_close(
            logits(policy.forward(train=False)),
            logits(ModuleForward(policy.base.model)),
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_merged_adapter_is_not_added_twice() -> None:
    policy = Shape().policy()
    policy.model.merge_adapter()
    with pytest.raises(RuntimeError, match="added twice"):
        policy.forward(train=False)
    assert isinstance(forward_of(policy.model), ModuleForward)


def test_a_policy_says_which_way_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "symphony_fl.learning.model.adapters"):
        plain = Shape().policy()
        asked = Policy(plain.base, rank=2, alpha=4.0, plain=False)
        dropping = Policy(plain.base, rank=2, alpha=4.0, dropout=0.1)
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "forward pass by llama_forward",
        "forward pass by transformers (asked for)",
        "forward pass by transformers (dropout in the adapter)",
    ]
    assert isinstance(plain.forward(train=True), LlamaForward)
    for policy in (asked, dropping):
        assert isinstance(policy.forward(train=True), ModuleForward) and policy.model.training
        assert isinstance(policy.forward(train=False), ModuleForward) and not policy.model.training


def _changed(change: Callable[[LlamaForCausalLM], object]) -> LlamaForCausalLM:
    model = Shape().base().model
    change(model)
    return model


def _configured(**options: object) -> LlamaForCausalLM:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = LlamaConfig(**{**sizes, "num_hidden_layers": 1, **options})
    return LlamaForCausalLM(config).requires_grad_(False)


UNKNOWN = {
    "MistralForCausalLM is not": lambda: MistralForCausalLM(
        MistralConfig(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_attention_heads=2,
            num_key_value_heads=2, num_hidden_layers=1,
        )
    ),
    "rotary embedding of type dynamic": lambda: _configured(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}
    ),
    "activation gelu": lambda: _configured(hidden_act="gelu"),
    "attention dropout 0.1": lambda: _configured(attention_dropout=0.1),
    "has a bias": lambda: _configured(attention_bias=True),
    "a linear layer has a bias": lambda: _configured(mlp_bias=True),
    "gradient checkpointing": lambda: _changed(lambda model: model.gradient_checkpointing_enable()),
    "torch.bfloat16 on cpu": lambda: _changed(lambda model: model.to(torch.bfloat16)),
    "is trained": lambda: _changed(lambda model: model.model.norm.requires_grad_(True)),
    "has hooks": lambda: _changed(
        lambda model: model.model.layers[0].register_forward_hook(lambda *inputs: None)
    ),
    "a linear layer is Other": lambda: _changed(
        lambda model: setattr(
            model.model.layers[1].mlp, "up_proj", type("Other", (torch.nn.Linear,), {})(32, 40, bias=False)
        ) or model.requires_grad_(False)
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", UNKNOWN)
def test_what_it_does_not_know_goes_by_the_modules(reason: str) -> None:
    model = UNKNOWN[reason]()
    assert reason in (reason_for_modules(model) or "")
    assert isinstance(forward_of(model), ModuleForward)
    assert reason_for_modules(Shape().base().model) is None


@examples(50)
@given(kinds=st.lists(st.integers(0, 6), max_size=30), most=st.integers(1, 5))
def test_pieces_hold_every_row_once_and_few_kinds(kinds: list[int], most: int) -> None:
    pieces = list(_pieces(kinds, most))
    assert [row for piece in pieces for row in range(len(kinds))[piece]] == list(range(len(kinds)))
    assert all(1 <= len(set(kinds[piece])) <= most for piece in pieces)
    for piece, following in itertools.pairwise(pieces):  # no longer piece would do
        held = set(kinds[piece])
        assert len(held) == most and kinds[following.start] not in held
