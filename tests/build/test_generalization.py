"""Tasks beyond training: what they are, and what is refused as such."""

from __future__ import annotations

import pytest

from symphony_fl.build.checks import check_recipe
from symphony_fl.build.generalization import harder_tasks, unseen_tasks
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.learning.tasks.task_sampler import is_reserved

FEW = "tasks.skills=[reverse,sort,max]"


def test_unseen_and_harder_tasks_are_held_out_of_their_kind() -> None:
    recipe = load_recipe("smoke", [FEW, "tasks.unseen=[swap]", "tasks.harder=[sort_long:8,max_long:9]"])
    check_recipe(recipe)
    unseen, harder = unseen_tasks(recipe), harder_tasks(recipe)
    assert [(task.skill, task.difficulty) for task in harder] == [("sort_long", 8)] * 4 + [
        ("max_long", 9)
    ] * 4
    assert {task.skill for task in unseen} == {"swap"} and len(unseen) == 4
    assert all(is_reserved(task.prompt) for task in (*unseen, *harder))
    assert len({task.prompt for task in harder}) == 8


def test_none_by_default() -> None:
    recipe = load_recipe("given_tasks")
    assert not unseen_tasks(recipe) and not harder_tasks(recipe)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tasks.unseen=[sort]", "must be none of tasks.skills"),
        ("tasks.unseen=[swap,swap]", "none may be named twice"),
        ("tasks.unseen=[swpa]", "did you mean 'swap'"),
        ("tasks.harder=[sort]", "must look like skill:difficulty"),
        ("tasks.harder=['sort_long:x']", "must look like skill:difficulty"),
        ("tasks.harder=['sort_long:10']", "10"),
        ("tasks.harder=['sort:5']", "is trained on"),
    ],
)
def test_what_is_trained_on_or_is_not_there_is_refused(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_recipe(load_recipe("smoke", [FEW, override]))
