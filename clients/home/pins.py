"""What the owner of a device demands of any run its agent takes part in: `peers.json` in the agent's home.

    {"agents": {"0": "did:key:z6Mk...", "1": "did:key:z6Mk..."},    every agent's did:key, its own included
     "encryption": "edge",                                         optional: runs without it are refused
     "recipe": "0123456789abcdef"}                                 optional: digest of the only recipe that is obeyed

Recipe and roster come through the SuperLink, so its operator could substitute them, but cannot reach this file. Without
the file, the first key heard for an agent number is kept.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symphony_fl.config.recipe import recipe_from_json
from symphony_fl.errors import LocalError
from symphony_fl.identity.did_key import IdentityError, public_key_from_did
from symphony_fl.identity.key_agreement import agreement_public_key
from symphony_fl.identity.key_file import PINS_FILE
from symphony_fl.storage.folders import read_file

_KEYS = {"agents", "encryption", "recipe"}


class PinsError(LocalError, RuntimeError):
    """Pins that cannot be read, or a run that does not hold them; the message names the field and what is wrong."""


@dataclass(frozen=True)
class Pins:
    """agents: number -> did:key. encryption, recipe: what the recipe must be; empty for no demand."""

    agents: dict[int, str]
    encryption: str
    recipe: str
    source: str

    def check(self, recipe_json: str) -> None:
        """Raises PinsError where a recipe received is not what the pins demand."""
        recipe = recipe_from_json(recipe_json)
        if self.encryption and recipe.exchange.encryption != self.encryption:
            raise PinsError(
                f"recipe received: exchange.encryption = {recipe.exchange.encryption!r}; "
                f"{self.source} demands {self.encryption!r}",
                f"exchange.encryption = {recipe.exchange.encryption!r}: not what the device's owner demands",
            )
        if self.recipe and recipe.digest != self.recipe:
            raise PinsError(
                f"recipe received: digest {recipe.digest}; {self.source} demands {self.recipe}",
                f"recipe: digest {recipe.digest} is not the one that the device's owner demands",
            )


def read_pins(home: Path) -> Pins | None:
    """The pins of a home, or None where it has none.

    Raises
    ------
    PinsError
        The file is damaged, or holds what it must not.
    """
    path = home / PINS_FILE
    if not os.path.lexists(path):
        return None
    try:
        values = json.loads(read_file(path))
    except OSError as error:
        raise PinsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise PinsError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict) or not set(values) <= _KEYS or "agents" not in values:
        raise PinsError(f"{path}: must be an object with agents, and perhaps encryption and recipe")
    encryption, recipe = values.get("encryption", ""), values.get("recipe", "")
    if encryption not in ("", "edge"):
        raise PinsError(f"{path}: encryption = {encryption!r}: must be 'edge' or left out")
    if not isinstance(recipe, str):
        raise PinsError(f"{path}: recipe = {recipe!r}: must be the digest of a recipe, 16 hex digits")
    return Pins(_agents(path, values["agents"]), encryption, recipe, str(path))


def _agents(path: Path, values: Any) -> dict[int, str]:
    if not isinstance(values, dict):
        raise PinsError(f"{path}: agents: must be an object of numbers to did:keys")
    agents: dict[int, str] = {}
    for number, did in values.items():
        try:
            agreement_public_key(public_key_from_did(str(did)))
            agents[int(number)] = str(did)
        except (IdentityError, ValueError) as error:
            raise PinsError(f"{path}: agents.{number}: {error}") from None
    if len(set(agents.values())) != len(values):
        raise PinsError(f"{path}: agents: two of them have the same number or the same key")
    return agents
