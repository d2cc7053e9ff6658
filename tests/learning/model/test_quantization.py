"""4-bit base models: gradients reach the adapter after a generation too; what does not run is refused."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from symphony_fl.learning.model import quantization
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base, load_base, weights_digest
from symphony_fl.learning.model.model_check import ModelError, check_model

bitsandbytes = pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama4bit")
    config = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(path)
    words = {word: index for index, word in enumerate(["<pad>", "<eos>", *"abcdef"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        path
    )
    return path


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(str(folder), quantization="nf4")


def _linear_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]


def test_linear_layers_are_4_bit_and_named_by_another_digest(folder: Path, base: Base) -> None:
    layers = _linear_layers(base.model)
    assert len(layers) == 14 and all(layer.weight.dtype == torch.uint8 for layer in layers)
    assert base.digest != load_base(str(folder)).digest


def test_gradients_are_not_zero_after_a_generation(base: Base) -> None:
    """On processors with AVX512-BF16 they were exactly zero in all but the last layers."""
    policy = Policy(base, rank=2, alpha=4.0)
    policy.set(policy.initial(0) + np.float32(0.01))
    tokens = torch.tensor([[2, 3, 4], [5, 6, 7]])
    policy.model.eval()
    with torch.no_grad():
        policy.model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=2)
    policy.model.train()
    policy.model(tokens, labels=tokens).loss.backward()
    for name, parameter in zip(policy.layout.names, policy.parameters(), strict=True):
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    assert weights_digest(base.model) == base.digest  # a repacked weight would not be what was loaded


def test_gradient_is_that_of_the_dequantized_model(base: Base) -> None:
    """The same adapter on a float32 model with the dequantized weights receives the same gradient."""
    from bitsandbytes.functional import dequantize_4bit

    policy = Policy(base, rank=2, alpha=4.0)
    vector = policy.initial(0) + np.float32(0.01)
    plain = LlamaForCausalLM(
        LlamaConfig.from_dict(base.model.config.to_diff_dict() | {"quantization_config": None})
    )
    state = {}
    for name, module in base.model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            quantized = isinstance(module, bitsandbytes.nn.Linear4bit)
            value = dequantize_4bit(parameter.data, parameter.quant_state) if quantized else parameter.data
            state[f"{name}.{key}"] = value.float()
    plain.load_state_dict(state, strict=True)
    plain.requires_grad_(False)
    reference = Policy(Base("plain", plain, base.tokenizer, b""), rank=2, alpha=4.0)
    gradients = []
    for each in (policy, reference):
        each.set(vector)
        tokens = torch.tensor([[2, 3, 4, 5, 6, 7]])
        each.model(tokens, labels=tokens).loss.backward()
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in each.parameters()]))  # type: ignore
    relative = np.linalg.norm(gradients[0] - gradients[1]) / np.linalg.norm(gradients[1])
    assert relative < 1e-3


def test_every_4_bit_layer_is_kept_inside_autograd(base: Base) -> None:
    assert not any(layer.support_avx512bf16_for_cpu for layer in _linear_layers(base.model))
    for layer in _linear_layers(base.model):
        layer.support_avx512bf16_for_cpu = True  # what a processor with AVX512-BF16 starts from
    assert quantization.make_trainable(base.model) == 14
    assert not any(layer.support_avx512bf16_for_cpu for layer in _linear_layers(base.model))
    shared = Policy(base, rank=2, alpha=4.0)
    assert not any(layer.support_avx512bf16_for_cpu for layer in _linear_layers(shared.model))


def test_probe_refuses_a_gradient_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    quantization.probe(torch.device("cpu"))
    forward = bitsandbytes.nn.Linear4bit.forward

    def outside_autograd(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """What the packed path does: the right product, cut off from its input."""
        return forward(self, x.detach()) + 0 * x.sum()

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", outside_autograd)
    with pytest.raises(ModelError, match="gradients through 4-bit layers are wrong") as caught:
        quantization.probe(torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_probe_refuses_arithmetic_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel\nfor this processor")

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", missing)
    with pytest.raises(ModelError, match=r"does not run on cpu here \(no kernel\)"):
        quantization.probe(torch.device("cpu"))


def test_missing_library_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs bitsandbytes"):
        check_model("tiny", "nf4")


def test_library_without_native_code_is_refused_before_loading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.machinery.ModuleSpec("bitsandbytes", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(ModelError, match="no native library"):
        check_model("tiny", "nf4")
