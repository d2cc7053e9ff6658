"""What a received recipe may name of a device: the models this project ships, and what the device's owner listed.

Nothing is looked up before it is allowed, and a refusal is the same whether the thing exists or not. A model's name and
a data source can be a folder or a repository of the hub. Without this rule a server could make a device load any file,
and learn from the errors which files exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from symphony_fl import registry
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError

SHIPPED_MODELS = ("tiny", "smollm2")


@dataclass(frozen=True)
class Allowed:
    """models: further values of `model.name`. sources: entries of `tasks.sources`, word for word."""

    models: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    def check(self, recipe: Recipe) -> None:
        """Looks at the recipe alone.

        Raises
        ------
        RecipeError
            It names what the owner did not list.
        """
        installed = registry.items(
            "models"
        )  # on a device files are never loaded: what is here, its owner installed
        if recipe.model.name not in {*SHIPPED_MODELS, *self.models, *installed}:
            raise RecipeError(
                f"model.name = {recipe.model.name!r}: must be {' or '.join(SHIPPED_MODELS)} on a device whose owner "
                "allows no other (symphony up --model NAME)"
            )
        rows = [f"{rows.name}={rows.source}:{rows.split}" for rows in recipe.tasks.rows]
        for entry in (*recipe.tasks.sources, *rows):
            if entry not in self.sources:
                raise RecipeError(
                    f"tasks.sources: {entry!r}: must be one that the device's owner allows (symphony up --source ENTRY)"
                )
