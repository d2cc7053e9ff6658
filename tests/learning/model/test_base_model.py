"""Base models and policies: determinism, the flat vector, gradients on the adapter alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from symphony_fl.learning.model.adapters import Policy, get_policy
from symphony_fl.learning.model.base_model import Base, end_answers_at_newline, load_base, weights_digest
from symphony_fl.learning.model.model_check import ModelError, check_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama with a word-level tokenizer, saved like any Hugging Face model."""
    path = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(7)
        LlamaForCausalLM(config).save_pretrained(path)
    words = {word: index for index, word in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefghijklm"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(str(folder))


def _policy(base: Base, kind: str = "lora") -> Policy:
    return Policy(base, kind=kind, rank=2, alpha=4.0)


def _tokens() -> torch.Tensor:
    return torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])


def test_base_is_loaded_once_and_named_by_its_weights(folder: Path, base: Base) -> None:
    assert load_base(str(folder)) is base
    fresh = AutoModelForCausalLM.from_pretrained(folder)
    assert weights_digest(fresh) == base.digest and len(base.digest) == 16
    with torch.no_grad():
        fresh.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-6
    assert weights_digest(fresh) != base.digest
    assert base.tokenizer.padding_side == "left"


def test_digest_of_known_weights_is_what_it_was_when_this_was_written() -> None:
    """So it is the same in every process and on every machine: agents compare it before they exchange anything."""
    layer = torch.nn.Linear(3, 2)
    layer.load_state_dict({"weight": torch.arange(6.0).reshape(2, 3) / 7, "bias": torch.tensor([-1.0, 0.5])})
    assert weights_digest(layer).hex() == "bc2bfbce6bc9ede03df33569d4462698"


@pytest.mark.slow
def test_digest_is_the_same_in_another_process(folder: Path, base: Base) -> None:
    code = "from symphony_fl.learning.model.base_model import load_base\n"
    code += f"print(load_base({str(folder)!r}).digest.hex())"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.split()[-1] == base.digest.hex()


@pytest.mark.parametrize("kind", ["lora", "lora_fa", "lora_sb"])
def test_initial_is_deterministic_and_leaves_global_generators_alone(base: Base, kind: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = _policy(base, kind), _policy(base, kind)
    assert np.array_equal(first.initial(5), second.initial(5))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(before_numpy, np.random.get_state()[1])
    frozen = dict(first.model.named_parameters())
    for name, parameter in second.model.named_parameters():
        if ".lora_A." in name and kind != "lora":
            assert torch.equal(parameter, frozen[name]) and not parameter.requires_grad


def test_initial_follows_the_layout_with_b_zero_and_a_uniform(base: Base) -> None:
    policy = _policy(base)
    vector, at = policy.initial(3), 0
    assert policy.layout.names == tuple(sorted(policy.layout.names))
    assert vector.dtype == np.float32 and vector.shape == (policy.layout.size,)
    for name, shape in zip(policy.layout.names, policy.layout.shapes, strict=True):
        part = vector[at : at + int(np.prod(shape))]
        at += part.size
        if ".lora_B." in name:
            assert not part.any()
        else:
            bound = 1 / np.sqrt(shape[1])
            assert 0.5 * bound < np.abs(part).max() <= bound
    assert not np.array_equal(vector, policy.initial(4))


def test_initial_adapter_does_not_change_the_model(base: Base) -> None:
    policy = _policy(base)
    policy.set(policy.initial(0))
    with torch.no_grad():
        assert torch.equal(policy.model(_tokens()).logits, base.model(_tokens()).logits)


def test_set_and_get_are_one_lossless_copy(base: Base) -> None:
    policy = _policy(base)
    vector = np.random.default_rng(0).normal(size=policy.layout.size).astype(np.float32)
    policy.set(vector)
    read = policy.get()
    assert np.array_equal(read, vector)
    read[:] = 0  # a copy: the model keeps its own
    assert np.array_equal(policy.get(), vector)
    with pytest.raises(ValueError, match="expected float32"):
        policy.set(vector[:-1])
    with pytest.raises(ValueError, match="float64"):
        policy.set(vector.astype(np.float64))


@pytest.mark.parametrize("kind", ["lora", "lora_fa"])
def test_adapter_computes_what_the_formula_says(base: Base, kind: str) -> None:
    """One layer by hand: W x + (alpha / r) B A x, with A and B cut out of the vector by the layout."""
    policy = _policy(base, kind)
    rng = np.random.default_rng(1)
    policy.initial(9)
    vector = rng.normal(size=policy.layout.size).astype(np.float32)
    policy.set(vector)
    layer = policy.model.base_model.model.model.layers[1].mlp.up_proj
    x = torch.from_numpy(rng.normal(size=(3, 32)).astype(np.float32))
    prefix = "base_model.model.model.layers.1.mlp.up_proj."
    b = _entry(policy, vector, prefix + "lora_B.weight")
    a = _entry(policy, vector, prefix + "lora_A.weight") if kind == "lora" else layer.lora_A["default"].weight
    a = torch.as_tensor(a).detach().numpy()
    expected = (
        x.numpy() @ base.model.model.layers[1].mlp.up_proj.weight.numpy().T + 2.0 * x.numpy() @ a.T @ b.T
    )
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=2e-4, atol=1e-5)


def _entry(policy: Policy, vector: np.ndarray, name: str) -> np.ndarray:
    at = policy.layout.names.index(name)
    sizes = [int(np.prod(shape)) for shape in policy.layout.shapes]
    return vector[sum(sizes[:at]) : sum(sizes[: at + 1])].reshape(policy.layout.shapes[at])


@pytest.mark.parametrize("kind", ["lora", "lora_fa", "lora_sb"])
def test_only_the_adapter_learns(base: Base, kind: str) -> None:
    policy = _policy(base, kind)
    policy.set(policy.initial(0) + np.float32(0.1))
    before = weights_digest(base.model)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    policy.model(_tokens(), labels=_tokens()).loss.backward()
    with_gradient = {
        n for n, p in policy.model.named_parameters() if p.grad is not None and bool(p.grad.any())
    }
    assert with_gradient == {n for n, p in policy.model.named_parameters() if p.requires_grad}
    assert len(with_gradient) == len(policy.layout.names)
    start = policy.get()
    optimizer.step()
    assert (policy.get() != start).mean() > 0.99
    assert weights_digest(base.model) == before == base.digest


def test_policies_on_one_base_do_not_disturb_each_other(base: Base) -> None:
    small, large = _policy(base), Policy(base, rank=4, alpha=8.0, targets=("q_proj", "v_proj"))
    small.set(small.initial(0) + np.float32(0.1))
    large.set(large.initial(0))
    with torch.no_grad():
        assert torch.equal(large.model(_tokens()).logits, base.model(_tokens()).logits)
        assert not torch.equal(small.model(_tokens()).logits, base.model(_tokens()).logits)
    shared = {p.data_ptr() for p in base.model.parameters()}
    assert shared <= {p.data_ptr() for p in small.model.parameters()}


def test_adapter_is_float32_on_a_bfloat16_base(folder: Path) -> None:
    base = load_base(str(folder), dtype="bfloat16")
    assert base.model.dtype == torch.bfloat16
    assert base.digest != load_base(str(folder)).digest
    policy = _policy(base)
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    vector = policy.initial(0) + np.float32(1e-4)
    policy.set(vector)
    assert np.array_equal(policy.get(), vector)
    policy.model(_tokens(), labels=_tokens()).loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in policy.parameters())


def test_frozen_part_must_be_drawn_first(base: Base) -> None:
    policy = _policy(base, "lora_fa")
    with pytest.raises(RuntimeError, match="initial"):
        policy.set(np.zeros(policy.layout.size, np.float32))


def test_stale_views_are_noticed(base: Base) -> None:
    policy = _policy(base)
    parameter = policy.parameters()[3]
    parameter.data = parameter.data.clone()
    with pytest.raises(RuntimeError, match="stale"):
        policy.get()


def test_names_are_those_peft_saves(base: Base, tmp_path: Path) -> None:
    policy = _policy(base)
    policy.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert tuple(sorted(saved)) == policy.layout.names
    assert tuple(saved[name].shape for name in policy.layout.names) == policy.layout.shapes


def test_get_policy_is_cached(folder: Path) -> None:
    settings = (str(folder), "none", "float32", "cpu", "lora", 2, 4.0)
    assert get_policy(*settings, ["all-linear"]) is get_policy(*settings, ["all-linear"])
    assert get_policy(*settings, ["q_proj"]).layout.size < get_policy(*settings, ["all-linear"]).layout.size


@pytest.mark.parametrize(
    ("name", "quantization", "message"),
    [
        ("./nowhere", "none", "model.name = './nowhere': no such folder"),
        ("/nowhere/at/all", "none", "no such folder"),
        ("not a name", "none", "must be tiny, smollm2"),
        ("", "none", "must be tiny, smollm2"),
        ("tiny", "int3", "model.quantization = 'int3': unknown; known: none, nf4"),
    ],
)
def test_what_cannot_work_is_refused_before_loading(name: str, quantization: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        check_model(name, quantization)
    assert "\n" not in str(caught.value)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config.json"):
        check_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no weights"):
        check_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    check_model(str(tmp_path))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(str(tmp_path))


def test_settings_that_do_not_fit_are_refused(folder: Path, base: Base) -> None:
    with pytest.raises(ModelError, match="model.dtype = 'float8'"):
        load_base(str(folder), dtype="float8")
    with pytest.raises(ModelError, match="model.device = 'gpu9'"):
        load_base(str(folder), device="gpu9")
    with pytest.raises(ModelError, match="adapter.targets"):
        Policy(base, rank=2, alpha=4.0, targets=("nonsense",))
    with pytest.raises(ModelError, match="adapter.kind = 'dora'"):
        Policy(base, kind="dora", rank=2, alpha=4.0)
    with pytest.raises(ModelError, match="adapter.rank = 0"):
        Policy(base, rank=0, alpha=4.0)


def test_checking_a_model_loads_no_torch() -> None:
    code = "import sys; from symphony_fl.learning.model.model_check import check_model; check_model('tiny', 'nf4');"
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], cwd=root, check=True)


def test_answers_end_with_the_line_where_a_token_says_so(base: Base) -> None:
    """Byte-level BPE has a token for a newline; a word-level tokenizer has none and keeps its own end."""
    assert base.tokenizer.eos_token_id == 1
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({"<eos>": 0, **{c: n + 1 for n, c in enumerate(letters)}}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<eos>", pad_token="<eos>")
    text = "Q: 3 + 4\nA: 7\n"
    ids = tokenizer(text).input_ids
    assert end_answers_at_newline(tokenizer)
    assert tokenizer.eos_token_id == ids[-1] and tokenizer.pad_token_id == 0
    assert tokenizer(text).input_ids == ids
