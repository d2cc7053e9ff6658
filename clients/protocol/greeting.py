"""A server's greeting, read and checked whole before anything of it is made on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flwr.app import RecordDict

from clients.protocol.messages import CONFIG, NONCE, MessageError, check_protocol, config_value
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.allowed import Allowed
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, recipe_from_json
from symphony_fl.identity.proof_of_possession import NONCE_BYTES

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Greeting:
    """run: its name. recipe: checked. nonce: what the introduction is to sign."""

    run: str
    recipe: Recipe
    nonce: bytes


def read_greeting(content: RecordDict, allowed: Allowed | None) -> Greeting:
    """What a server says of its run.

    Parameters
    ----------
    allowed : what the recipe may name of this machine; None where its author is this machine's user

    Raises
    ------
    MessageError, RecipeError
        Names the field and what is allowed.
    """
    check_protocol(content)
    recipe = recipe_from_json(config_value(content, "recipe", str), files=allowed is None)
    digest = config_value(content, "digest", str)
    if digest != recipe.digest:
        raise RecipeError(f"digest = {digest!r:.80}: must be {recipe.digest!r}, that of the recipe beside it")
    if allowed is not None:
        allowed.check(recipe)
    check_recipe(recipe)
    run = config_value(content, "run", str)
    nonce = config_value(content, NONCE, bytes)
    if len(nonce) != NONCE_BYTES:
        raise MessageError(f"{CONFIG}.{NONCE}: {len(nonce)} bytes, must be {NONCE_BYTES}")
    return Greeting(run, recipe, nonce)


def check_run_name(run: str) -> str:
    """On a device a run's name is that of a folder. Raises MessageError where it cannot be."""
    if not RUN_NAME.fullmatch(run):
        raise MessageError(f"{CONFIG}.run = {run!r:.200}: must be 1 to 128 letters, digits, '.', '_' and '-'")
    return run
