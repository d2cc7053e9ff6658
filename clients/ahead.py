"""How far an agent may work ahead of what the server has asked for (section 5.4.1)."""

from __future__ import annotations

from symphony_fl.asynchrony import is_asynchronous
from symphony_fl.recipe import Recipe

AHEAD = 1  # rounds finished and not yet fetched; the backpressure of a slow network


def rounds_ahead(recipe: Recipe) -> int:
    """Rounds an agent of this run may finish before they are asked for; 0 where agents are kept in step."""
    return AHEAD if is_asynchronous(recipe) else 0
