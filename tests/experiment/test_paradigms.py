"""What is planned: equal samples, one model for all, nothing trained on what is called unseen."""

from __future__ import annotations

import pytest

from symphony_fl.build.components import agent_skills
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.experiment import paradigms
from symphony_fl.experiment.paradigms import PARADIGMS, QUICK, UNSEEN, network_samples, plan, total_samples
from symphony_fl.learning.model.model_check import ModelError

NAMES = [item.name for item in PARADIGMS]


@pytest.mark.parametrize("quick", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_paradigm_trains_on_the_same_number_of_samples(quick: bool) -> None:
    planned = plan(NAMES, [0, 1], "tiny", quick)
    assert [(item.paradigm, item.seed) for item in planned] == [
        (name, seed) for seed in (0, 1) for name in NAMES
    ]
    assert {total_samples(item.recipe) for item in planned} == {512 if quick else 61_440}
    assert {item.recipe.seed for item in planned} == {0, 1}
    assert len({item.recipe.digest for item in planned}) == len(planned)
    for item in planned:
        recipe = item.recipe
        assert recipe.name == item.paradigm, "MLflow finds runs of a paradigm by the recipe's name"
        assert recipe.tracking.trace and recipe.tracking.experiment == paradigms.TRACKING
        trained = {skill for agent in range(recipe.agents) for skill in agent_skills(recipe, agent)}
        assert trained == set(recipe.tasks.skills) and not trained & set(UNSEEN)


def test_samples_by_hand() -> None:
    assert network_samples(load_recipe("given_tasks")) == 4 * 8 * 16 * 8
    assert network_samples(load_recipe("sync_centralized")) == 64 * 8, "one trainer"
    assert network_samples(load_recipe("async1_centralized")) == 64 * 8, "workers generate for it"


def test_unequal_paradigms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = paradigms.network_samples
    monkeypatch.setattr(
        paradigms, "network_samples", lambda recipe: real(recipe) + (recipe.strategy.name == "isolated")
    )
    with pytest.raises(
        RecipeError, match="samples of the paradigms differ.*given_tasks 61,440, isolated 61,455"
    ):
        plan(["given_tasks", "isolated"], [0], "tiny", False)


def test_another_model_brings_its_adapter_learner_and_tasks() -> None:
    planned = plan(QUICK, [0], "smollm2", False)
    model = load_recipe("smollm2")
    assert len({total_samples(item.recipe) for item in planned}) == 1
    for item in planned:
        recipe = item.recipe
        assert (recipe.model, recipe.adapter) == (model.model, model.adapter)
        assert recipe.tasks.skills == model.tasks.skills
        assert recipe.tasks.unseen == ["smaller", "next_number"]
        assert recipe.learner.learning_rate == model.learner.learning_rate
        assert recipe.learner.steps == (1 if recipe.strategy.name == "centralized" else 8)


def test_agents_that_learn_exchange_and_evaluate_equally_often() -> None:
    found = {item.paradigm: item.recipe for item in plan(list(paradigms.BY_NAME), [0], "tiny", False)}
    learning = [recipe for recipe in found.values() if recipe.strategy.name != "centralized"]
    assert {(r.rounds, r.learner.steps, r.tasks.evaluate_every, r.agents) for r in learning} == {
        (15, 8, 3, 4)
    }
    grids = {r.tasks.evaluate_every * network_samples(r) for r in found.values()}
    assert grids == {12_288}, "samples between two evaluations"


@pytest.mark.parametrize("model", ["tinyllama", "mistral7b", "phi2"])
def test_the_papers_models_can_be_planned(model: str) -> None:
    try:
        planned = plan(["given_tasks", "isolated"], [0], model, False)
    except (RecipeError, ModelError) as error:  # 4 bit is refused on processors on which it trains wrongly
        assert "nf4" in str(error) and load_recipe(model).model.quantization == "nf4"
        pytest.skip(f"this processor cannot train in 4 bit: {error}")
    assert {item.recipe.model.name for item in planned} == {load_recipe(model).model.name}


def test_an_unknown_paradigm_is_refused() -> None:
    with pytest.raises(RecipeError, match="paradigm 'given_task': unknown; did you mean 'given_tasks'"):
        plan(["given_task"], [0], "tiny", False)
