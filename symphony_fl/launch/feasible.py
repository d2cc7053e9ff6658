"""What this machine cannot do, refused before Flower is started: too many SuperNodes, models that are nowhere."""

from __future__ import annotations

from symphony_fl.config.allowed import SHIPPED_MODELS
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import LocalRecipeError, RecipeError
from symphony_fl.learning.model.model_check import looks_like_folder

MAX_NODES = 1000
"""SuperNodes of one simulation. Flower's own time per round grows with their square: 100 took 0.3 to 0.4 s, 1000 took 6
to 10 s."""
HUB_SECONDS = 4.0
CONFIG = "config.json"  # every model of transformers has one


def check_feasible(recipe: Recipe, in_process: bool) -> None:
    """Refuse what agents on one machine alone cannot do.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    check_simulated(recipe, in_process)
    check_model_exists(recipe.model.name)


def check_simulated(recipe: Recipe, in_process: bool) -> None:
    """Refuse what only devices can do, and more SuperNodes than a simulation holds. Looks at the recipe alone.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    if recipe.exchange.transport != "superlink":
        raise RecipeError(
            f"exchange.transport = {recipe.exchange.transport!r}: must be 'superlink' on one machine alone; "
            "for devices say --network DIR"
        )
    nodes = -(-recipe.agents // recipe.agents_per_node)
    if nodes > MAX_NODES and not in_process:
        least = -(-recipe.agents // MAX_NODES)
        raise RecipeError(
            f"agents = {recipe.agents}: {nodes} SuperNodes with agents_per_node = {recipe.agents_per_node}, at most "
            f"{MAX_NODES} can be simulated (Flower's time per round grows with their square); say "
            f"agents_per_node={least} or more, or --in-process"
        )


def check_model_exists(name: str) -> None:
    """Refuse a name of the Hugging Face hub that is neither in the local cache nor on a hub that answers.

    Raises
    ------
    RecipeError
        It names the model, and why it cannot be had.
    """
    if name in SHIPPED_MODELS or looks_like_folder(name):
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its client: httpx, or httpx2 since 2.0

    try:
        if isinstance(try_to_load_from_cache(name, CONFIG), str):
            return
        get_hf_file_metadata(hf_hub_url(name, CONFIG), timeout=HUB_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        why = "the hub has none of that name for us (if it is private or asks for consent: hf auth login)"
    except (httpx.HTTPError, OSError) as error:  # OSError: HF_HUB_OFFLINE is set
        why = f"the hub does not answer ({type(error).__name__})"
    else:
        return
    raise LocalRecipeError(
        f"model.name = {name!r}: must be tiny, smollm2, a folder with a model, or a model of the Hugging Face hub; it "
        f"is not in the local cache, and {why}",
        "model: cannot be used here",
    )
