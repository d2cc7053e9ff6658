"""Symphony-FL: agents that improve their own LoRA adapters and teach each other by gossip, on Flower.

In reading order (each room's docstring lists its files):

errors.py, refusals.py   what the network may be told; why a message is refused
api.py                   the public functions and `Result`
registry.py              which options a component has, and who provides it
storage/     folders and files               identity/    keys, signatures and what they prove
exchange/    how an update travels           learning/    how an agent improves
config/      recipes and their options       build/       from a recipe to its parts
simulation/  time on imagined devices        metrics/     figures of a run
tracking/    what MLflow is told             reports/     plots, tables, pages
launch/      starting a run, watching it     edge/        devices and networks
experiment/  the paper's section 6           benchmarks/  what the parts cost
cli/         the `symphony` command

The nodes' side is in `clients/`, the server's in `strategies/`; nothing here imports either, or Flower.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symphony_fl.api import Result, compare, load_recipe, resume, run
    from symphony_fl.config.learning import LearnerOptions
    from symphony_fl.config.option import ComponentOptions, Options, option
    from symphony_fl.config.options import Recipe
    from symphony_fl.config.recipe import RecipeError
    from symphony_fl.config.strategy import GossipOptions
    from symphony_fl.exchange.codecs.codec import Codec
    from symphony_fl.exchange.rules.rule import Rule
    from symphony_fl.exchange.selection.selection import Selection
    from symphony_fl.exchange.topology import Topology
    from symphony_fl.launch.local_superlink import LaunchError
    from symphony_fl.learning.skills.base import Skill, Task
    from symphony_fl.registry import register

__version__ = "0.2.0"

_PUBLIC = {
    "Codec": "symphony_fl.exchange.codecs.codec",
    "ComponentOptions": "symphony_fl.config.option",
    "GossipOptions": "symphony_fl.config.strategy",
    "LaunchError": "symphony_fl.launch.local_superlink",
    "LearnerOptions": "symphony_fl.config.learning",
    "Options": "symphony_fl.config.option",
    "Recipe": "symphony_fl.config.options",
    "RecipeError": "symphony_fl.config.recipe",
    "Result": "symphony_fl.api",
    "Rule": "symphony_fl.exchange.rules.rule",
    "Selection": "symphony_fl.exchange.selection.selection",
    "Skill": "symphony_fl.learning.skills.base",
    "Task": "symphony_fl.learning.skills.base",
    "Topology": "symphony_fl.exchange.topology",
    "compare": "symphony_fl.api",
    "load_recipe": "symphony_fl.api",
    "option": "symphony_fl.config.option",
    "register": "symphony_fl.registry",
    "resume": "symphony_fl.api",
    "run": "symphony_fl.api",
}

__all__ = [
    "Codec", "ComponentOptions", "GossipOptions", "LaunchError", "LearnerOptions", "Options", "Recipe", "RecipeError",
    "Result", "Rule", "Selection", "Skill", "Task", "Topology", "compare", "load_recipe", "option", "register",
    "resume", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: every process of a run imports this package."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
