"""Recipes: every shipped one loads; everything misspelt, mistyped or out of range is refused by name."""

from __future__ import annotations

import functools
import json
import operator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.build.checks import check_recipe
from symphony_fl.build.components import agent_skills
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RECIPES_FOLDER, RecipeError, load_recipe, recipe_from_json, recipe_names


@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = check_recipe(load_recipe(str(path)))
    assert recipe.description, "a recipe says in one line what it is for"
    assert recipe.name == path.stem
    assert "symphony" in path.read_text().splitlines()[0], "a recipe opens with its own run command"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("exchange.densty=0.1", "unknown key 'exchange.densty'; did you mean 'exchange.selection.density'"),
        ("rouds=3", "unknown key 'rouds'; did you mean 'rounds'"),
        ("rounds=many", "rounds"),
        ("rounds=2.5", "rounds"),
        ("rounds=null", "rounds"),
        ("model=3", "model = '3': must be a mapping"),
        ("exchange.selection.density=0", "exchange.selection.density = 0.0: must be above 0 and at most 1"),
        ("exchange.selection.density=2", "exchange.selection.density = 2.0: must be above 0 and at most 1"),
        ("exchange.selection.density=nan", "exchange.selection.density = nan"),
        (
            "exchange.selection.schedule=adaptive exchange.selection=cyclic",
            "cyclic: needs a density that the round alone",
        ),
        (
            "exchange.selection.schedule=budget exchange.selection.schedule.bytes=20",
            "budget=20: no entry fits",
        ),
        ("exchange.selection.schedule=falling", "exchange.selection.schedule = 'falling': unknown"),
        ("selfplay=cells", "memory = 'none': must be 'episodic' for selfplay = 'cells'"),
        ("curriculum=learnability", "memory = 'none': must be 'episodic' for curriculum = 'learnability'"),
        ("memory.replay=0.5", "memory.replay: 'none' has no option 'replay'; 'episodic' has it"),
        (
            "memory=episodic curriculum=learnability selfplay=cells selfplay.group=3",
            "learner.prompts = 16: must be a multiple",
        ),
        ("memory=episodic selfplay=cells learner=trl", "learner = 'trl': must be 'grpo'"),
        ("memory=episodic selfplay=cells tasks.skills=[code_deduction]", "must be 0 for skill"),
        ("adversary.agents=[4] adversary.attack=scale", "adversary.agents = 4: must be 0 to 3"),
        ("adversary.attack=bribe", "adversary.attack = 'bribe': unknown"),
        ("agents=1", "agents = 1: must be at least 2"),
        ("topology=rign", "topology = 'rign': unknown; did you mean 'ring'"),
        ("exchange.rule=avrage", "exchange.rule = 'avrage': unknown; did you mean 'average'"),
        ("exchange.codec=int7", "exchange.codec = 'int7': unknown"),
        ("exchange.selection=all", "exchange.selection = 'all': unknown"),
        ("strategy=gosip", "strategy = 'gosip': unknown; did you mean 'gossip'"),
        ("tasks.skills=[ad]", "tasks.skills = 'ad': unknown"),
        ("tasks.skills=[]", "tasks.skills = []: must be at least one"),
        ("tasks.skills=[add,add]", "none twice"),
        ("tasks.sources=[gsm8k]", "tasks.sources: 'gsm8k': must look like skill=folder-or-hub-name:split"),
        (
            "tasks.sources=[gsm8k=a/b:train]",
            "tasks.sources: 'gsm8k=a/b:train': 'gsm8k' is none of the skills",
        ),
        (
            "tasks.skills=[nq,sort] tasks.sources=[nq=tests:train]",
            "tasks.sources: 'nq=tests:train': 'tests' must be a hub name owner/name, or a folder from / or ~ on",
        ),
        (
            "tasks.skills=[nq] tasks.sources=[nq=/no/such:train]",
            "tasks.sources: 'nq=/no/such:train': rows of nq_open: source '/no/such' is neither",
        ),
        (
            "tasks.skills=[sort] tasks.sources=[sort=/tmp:train]",
            "tasks.sources: 'sort=/tmp:train': skill 'sort' is generated: it takes no rows",
        ),
        ("tasks.held_out=90000", "tasks.held_out = 90000: must be at least 1 and at most 500"),
        ("model.name=/no/such/folder", "model.name = '/no/such/folder': no such folder"),
        ("topology=hypercube agents=6", "hypercube"),
        ("exchange.gamma=0.9", "unknown key 'exchange.gamma'; did you mean 'exchange.rule.gamma'"),
        ("exchange.rule.pull=7", "exchange.rule.pull: 'epidemic' has no option 'pull'; 'noloco' has it"),
        (
            "exchange.rule=delta exchange.rule.scaling=nonsense",
            "exchange.rule.scaling = 'nonsense': unknown; known",
        ),
        (
            "topology.degree=9",
            "topology.degree: 'ring' has no option 'degree'; 'k_regular', 'fresh_k_regular' and",
        ),
        ("topology=edges", "topology.edges = []: must be pairs"),
        ("seed=010", "seed = '010': must be an integer without leading zeros"),
        ("agents=yes", "agents = 'yes': must be an integer"),
        ("exchange.rule.keep=yes", "exchange.rule.keep = 'yes': must be true or false"),
        ("learner.ratio_cap=3", "learner.ratio_cap = 3.0: acts only where learner.ratio is 'truncated'"),
        ("adversary.agents=[1]", "adversary.attack = 'none': must say what agents [1] send"),
        ("adversary.attack=scale", "adversary.agents = []: must name the agents that attack by 'scale'"),
        ("reward=shared reward.use=both", "reward.use = 'both': must be 'baseline' where selfplay is 'none'"),
        ("strategy=isolated reward=shared", "reward = 'shared': must be 'local' for strategy 'isolated'"),
        ("reward=shared reward.use=baseline learner=trl", "learner = 'trl': must be 'grpo' for reward"),
        ("memory=episodic selfplay=cells", "curriculum = 'uniform': must be 'learnability' for selfplay"),
        (
            "memory=episodic memory.replay=0.1 curriculum=learnability selfplay=cells",
            "memory.replay = 0.1: must be 0 for selfplay",
        ),
        (
            "exchange.rule.combine=senders exchange.robust=median",
            "exchange.rule.combine = 'senders': must be 'agents' for exchange.robust = 'median'",
        ),
        (
            "exchange.rule=average exchange.robust=clip exchange.robust.agreement=2",
            "exchange.robust.agreement = 2.0: acts only with exchange.rule = 'epidemic'",
        ),
        ("density", "override 'density': must look like key=value"),
    ],
)
def test_refusals_name_the_field_and_what_is_allowed(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check_recipe(load_recipe("given_tasks", override.split()))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_recipe_suggests_a_near_name() -> None:
    with pytest.raises(RecipeError, match="did you mean 'default'"):
        load_recipe("defalt")


def test_extends_layers_in_order(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("extends: smoke\nrounds: 7\nlearner: {steps: 3}\n")
    (tmp_path / "above.yaml").write_text("extends: ./below.yaml\nlearner: {prompts: 5}\n")
    recipe = load_recipe(str(tmp_path / "above.yaml"), ["learner.samples=6"])
    assert (recipe.name, recipe.rounds, recipe.agents) == ("above", 7, 3)
    assert (recipe.learner.steps, recipe.learner.prompts, recipe.learner.samples) == (3, 5, 6)


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text("extends: ./loop.yaml\n")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(str(tmp_path / "loop.yaml"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00", "42"])
def test_files_that_are_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(RecipeError):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_digest_is_of_the_content() -> None:
    assert load_recipe("default").digest == load_recipe("default", ["rounds=15"]).digest
    assert load_recipe("default").digest != load_recipe("default", ["rounds=31"]).digest
    assert recipe_from_json(load_recipe("smoke").to_json()) == load_recipe("smoke")


@given(st.text())
def test_a_received_recipe_is_parsed_or_refused(text: str) -> None:
    try:
        recipe_from_json(text)
    except RecipeError:
        pass


@given(
    st.dictionaries(
        st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers())
    )
)
def test_a_received_mapping_is_parsed_or_refused(values: dict[str, object]) -> None:
    try:
        assert isinstance(recipe_from_json(json.dumps(values)), Recipe)
    except RecipeError:
        pass


def test_disjoint_skills_are_dealt_out_once() -> None:
    recipe = load_recipe("default")
    hands = [agent_skills(recipe, agent) for agent in range(recipe.agents)]
    assert sorted(functools.reduce(operator.iadd, hands, [])) == sorted(recipe.tasks.skills)
    assert sorted(len(hand) for hand in hands) == [2, 2, 3, 3]


def test_more_agents_than_skills_share_them() -> None:
    recipe = load_recipe("default", ["agents=16"])
    hands = [agent_skills(recipe, agent) for agent in range(16)]
    assert all(len(hand) == 1 for hand in hands)
    assert {hand[0] for hand in hands} == set(recipe.tasks.skills)


def test_default_is_listed() -> None:
    assert {"default", "given_tasks", "smoke", "isolated", "fedavg", "gossip"} <= set(recipe_names())
