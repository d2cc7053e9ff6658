"""Tasks beyond what a run trains on, by which generalisation is judged (the paper, section 6.4).

`tasks.unseen` names skills that nobody in the run trains on, `tasks.harder` levels above those that are trained. Both
are drawn from the reserved tenth of all prompts (`learning/tasks.py`), like every held-out task.
"""

from __future__ import annotations

from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.tasks.task_sampler import held_out, held_out_level


def unseen_tasks(recipe: Recipe) -> list[Task]:
    """`tasks.held_out` tasks of each skill of `tasks.unseen`. Raises SkillError as `held_out` does."""
    return held_out(recipe.tasks.unseen, recipe.tasks.held_out, recipe.tasks.held_out_seed)


def harder_tasks(recipe: Recipe) -> list[Task]:
    """`tasks.held_out` tasks of each entry of `tasks.harder`.

    Raises
    ------
    RecipeError
        An entry is not of the form skill:difficulty.
    SkillError
        As `held_out_level` does.
    """
    options = recipe.tasks
    found: list[Task] = []
    for entry in options.harder:
        skill, _, level = entry.rpartition(":")
        if not skill or not level.isdecimal() or len(level) > 4:
            raise RecipeError(f"tasks.harder = {entry!r}: must look like skill:difficulty")
        found += held_out_level(skill, int(level), options.held_out, options.held_out_seed)
    return found


def check_generalization(recipe: Recipe) -> None:
    """What generalisation is measured on is there, and nobody trains on it.

    Raises
    ------
    RecipeError, SkillError
        Names the field, its value and what is allowed.
    """
    options = recipe.tasks
    for field, names in (("unseen", options.unseen), ("harder", options.harder)):
        if len(set(names)) != len(names):
            raise RecipeError(f"tasks.{field} = {names}: none may be named twice")
    for skill in options.unseen:
        if skill in options.skills:
            raise RecipeError(f"tasks.unseen = {skill!r}: must be none of tasks.skills, which are trained on")
    unseen_tasks(recipe)
    for task in harder_tasks(recipe):
        if task.skill in options.skills and task.difficulty in get_skill(task.skill).difficulties:
            entry = f"{task.skill}:{task.difficulty}"
            raise RecipeError(f"tasks.harder = {entry!r}: is trained on; must be of another skill")
