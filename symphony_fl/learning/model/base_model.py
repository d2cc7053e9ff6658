"""The base model: frozen weights, the same on every agent of a run, named by their digest; one per process.

The trainable part beside it is in `adapters.py`.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from symphony_fl import registry
from symphony_fl.learning.model import quantization as fourbit
from symphony_fl.learning.model.model_check import DTYPES, ModelError, check_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Base:
    """A frozen model, its tokenizer and the digest of its weights.

    The tokenizer pads on the left and has a pad token. Its end of sequence is what ends an answer: for
    pretrained models, which are asked in few-shot lines, the end of the line (see `end_answers_at_newline`).
    `digest` (16 bytes) is the same in every process and on every machine that loaded the same weights with
    the same type and quantization.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: bytes


_bases: dict[tuple[str, str, str, str], Base] = {}


def load_base(name: str, *, quantization: str = "none", dtype: str = "float32", device: str = "cpu") -> Base:
    """The base model `name`: tiny, smollm2, a Hugging Face causal LM, or a folder; loaded once per process.

    Raises
    ------
    ModelError
        When it cannot be loaded; one line with the field, the value and what is allowed.
    """
    key = (name, quantization, dtype, device)
    if key not in _bases:
        check_model(name, quantization)
        if dtype not in DTYPES:
            raise ModelError(f"model.dtype = {dtype!r}: unknown; known: {', '.join(DTYPES)}")
        _bases[key] = _load(name, quantization, getattr(torch, dtype), _device(device))
    return _bases[key]


def ensure_built(name: str) -> None:
    """Have an embedded model built that is not in the cache yet; nothing is loaded."""
    _source(name)


def weights_digest(model: torch.nn.Module) -> bytes:
    """SHA-256 over the sorted names, types, shapes and bytes of the state dict, cut to 16 bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.digest()[:16]


def _load(name: str, quantization: str, dtype: torch.dtype, device: torch.device) -> Base:
    source = _source(name)
    disable_progress_bar()  # of weights read from disk: many agents would draw one each
    options: dict[str, Any] = {"dtype": dtype}
    if quantization == "nf4":
        fourbit.probe(device)
        options |= {"quantization_config": fourbit.nf4_config(dtype), "device_map": {"": device}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            source, trust_remote_code=False, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"model.name = {name!r}: cannot be loaded: {_first_line(error)}") from error
    if quantization == "nf4":
        fourbit.make_trainable(model)
    else:
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise ModelError(f"model.name = {name!r}: its tokenizer has no end-of-sequence token")
    if name != "tiny":
        end_answers_at_newline(tokenizer)
    return Base(name=name, model=model, tokenizer=tokenizer, digest=weights_digest(model))


def end_answers_at_newline(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Make the token of a line's end the end of sequence, if there is one; returns whether there is.

    Pretrained models are asked in plain few-shot lines. Without this every sample runs on to `max_new_tokens`,
    and what it makes up after the answer is trained on with the answer's reward. The pad token must be set.
    """
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("A: 7", "A: 7\n"))
    if after[:-1] != before or tokenizer.decode(after[-1:]) != "\n":
        return False
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(after[-1])
    return True


def _source(name: str) -> str:
    """Folder or hub name to hand to transformers; builds the embedded models on first use."""
    if name == "tiny":
        from symphony_fl.learning.model.tiny import build_tiny

        return str(build_tiny())
    if name == "smollm2":
        from symphony_fl.learning.model.smollm2 import build_smollm2

        return str(build_smollm2())
    registered = registry.items("models").get(name)
    if registered is not None:
        return str(registered[0]())
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def _device(device: str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # torch: AssertionError for a build without CUDA
        raise ModelError(f"model.device = {device!r}: not usable here: {_first_line(error)}") from error
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
