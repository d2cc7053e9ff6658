"""The embedded model ``tiny``: a Llama of 189,120 parameters that knows ten small skills and is careless.

It is built and warm-started here, in about half a minute on one core, so that every part of this project runs end to
end with no download: a real causal LM with a real tokenizer in a real Hugging Face folder. What it is for, and what it
is not: `warm_start.py`.

The build is deterministic on one machine. Another processor may round differently, and then the weights, and their
digest in every envelope, differ: devices that shall exchange adapters on ``tiny`` copy one machine's folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from symphony_fl.learning.model.model_cache import build_once, models_folder
from symphony_fl.learning.model.warm_start import WarmStart, one_thread, warm_start
from symphony_fl.learning.skills.symbolic import DIGITS, LETTERS, PUNCTUATION, SYMBOLIC, skill_token

logger = logging.getLogger(__name__)

VERSION = 1  # raise when the skills' questions or the training's order change: nothing else notices
PAD, EOS = "<pad>", "<eos>"
_CHARACTERS = DIGITS + LETTERS + PUNCTUATION
_LLAMA = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "intermediate_size": 192,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def build_tiny(
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    start: WarmStart | None = None,
) -> Path:
    """The folder with the embedded model and its tokenizer, built on first use.

    ``cache`` is the folder of built models (default `models_folder`); ``progress(step, steps)`` is called after every
    step of a build; another ``start`` gives another folder. No global random state changes; torch works on one thread
    while building.
    """
    start = WarmStart() if start is None else start

    def build(folder: Path) -> None:
        logger.warning("building the embedded model once, about half a minute, into %s", folder.parent)
        tokenizer = tiny_tokenizer()
        with one_thread():
            model = initial_model(start.seed)
            warm_start(model, tokenizer, start, progress)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return build_once(models_folder() if cache is None else cache, f"tiny-{tiny_digest(start)}", build)


def tiny_digest(start: WarmStart) -> str:
    """12 hexadecimal digits over everything that determines the weights but the processor's rounding."""
    recipe = {"version": VERSION, "llama": _LLAMA, "vocabulary": _vocabulary(), "warm start": asdict(start)}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character and one per skill; the end of sequence is added by nobody."""
    vocabulary = {word: index for index, word in enumerate(_vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    # not "special": a skill's token in an answer must show in its text, where it makes the answer wrong
    names = [AddedToken(skill_token(skill.name), special=False, normalized=False) for skill in SYMBOLIC]
    tokenizer.add_tokens(names)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        model_max_length=_LLAMA["max_position_embeddings"],
    )


def initial_model(seed: int) -> LlamaForCausalLM:
    """The untrained model: matrices normal with ``initializer_range``, norms 1, padding 0; from an own generator."""
    config = LlamaConfig(vocab_size=len(_vocabulary()), **_LLAMA)
    with torch.random.fork_rng(devices=[]):  # the constructor draws from the global generator
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 2:
                parameter.normal_(0.0, config.initializer_range, generator=generator)
        model.get_input_embeddings().weight[config.pad_token_id] = 0.0
    return model


def _vocabulary() -> list[str]:
    return [PAD, EOS, *_CHARACTERS, *(skill_token(skill.name) for skill in SYMBOLIC)]
