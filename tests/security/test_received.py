"""Received recipes: data and nothing else. What is refused says so without a word about the device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.allowed import Allowed
from symphony_fl.config.options import Recipe
from symphony_fl.config.received import MAX_ITEMS, MAX_STRING, MAX_TEXT
from symphony_fl.config.recipe import RecipeError, load_recipe, recipe_from_json, recipe_names

SECRET = "hf_0123456789secret"
WHOLE = json.loads(load_recipe("smoke").to_json())


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", SECRET)


def _with(path: str, value: Any) -> str:
    """The smoke recipe with one value replaced."""
    values: dict[str, Any] = json.loads(json.dumps(WHOLE))
    *folders, last = path.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return json.dumps(values)


def _refusal(text: str) -> str:
    with pytest.raises(RecipeError) as refused:
        recipe_from_json(text)
    said = f"{refused.value} {refused.value.public}"
    assert SECRET not in said and os.environ["HOME"] not in said
    return said


REFERENCES = [
    "${oc.env:PLANTED}",
    "x${oc.env:PLANTED}y",
    "${oc.decode:${oc.env:PLANTED}}",
    "${oc.create:{}}",
    "${seed}",
    "${model.name}",
    "${planted:}",
    "???",
    "\\${oc.env:PLANTED}",
]


@pytest.mark.parametrize("text", REFERENCES)
@pytest.mark.parametrize(
    "path",
    ["strategy", "name", "description", "model.name", "tasks.skills", "tracking.uri", "rounds", "model"],
)
def test_nothing_received_is_looked_up(path: str, text: str) -> None:
    OmegaConf.register_new_resolver("planted", lambda: SECRET, replace=True)
    try:
        said = _refusal(_with(path, [text] if path == "tasks.skills" else text))
    finally:
        OmegaConf.clear_resolver("planted")
    assert path.partition(".")[0] in said


@pytest.mark.parametrize(
    "text", ['{"strategy":"${oc.env:PLANTED}"}', '{"${oc.env:PLANTED}": 1}', '"${oc.env:PLANTED}"']
)
def test_nor_in_a_recipe_that_says_nothing_else(text: str) -> None:
    _refusal(text)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rounds", True, "rounds = True: must be an integer"),
        ("rounds", "3", "rounds = '3': must be an integer"),
        ("rounds", 3.0, "rounds = 3.0: must be an integer"),
        ("rounds", None, "rounds = None: must be an integer"),
        ("rounds", 2**53, "rounds = 9007199254740992: must be below 2**53"),
        ("rounds", 10**400, "a number of 401 digits"),
        ("tracking.agents", 1, "tracking.agents = 1: must be true or false"),
        ("tracking.agents", "true", "tracking.agents = 'true': must be true or false"),
        ("adapter.alpha", 16, "adapter.alpha = 16: must be a number with a point"),
        ("adapter.alpha", True, "adapter.alpha = True: must be a number"),
        ("adapter.alpha", "16.0", "adapter.alpha = '16.0'"),
        ("adapter.alpha", float("inf"), "adapter.alpha = inf: must be finite"),
        ("adapter.alpha", float("nan"), "adapter.alpha = nan: must be finite"),
        ("name", 7, "name = 7: must be text"),
        ("name", "a\nb", "must be printable text of one line"),
        ("name", "\x1b[2J", "must be printable"),
        ("name", "\ud800", "must be printable"),
        ("name", "x" * (MAX_STRING + 1), f"{MAX_STRING + 1} characters, at most {MAX_STRING}"),
        ("tasks.skills", "sort", "tasks.skills = 'sort': must be a list"),
        ("tasks.skills", [1], "tasks.skills = 1: must be text"),
        ("tasks.skills", ["sort"] * (MAX_ITEMS + 1), "a list of 100001: must be a list of at most"),
        ("topology", {"name": "edges", "edges": [[0, "1"]]}, "topology.edges = '1': must be an integer"),
        ("topology", {"name": "edges", "edges": [0]}, "topology.edges = 0: must be a list"),
        ("model", [], "model = a list of 0: must be a mapping"),
        ("model", {"name": "tiny"}, "model.quantization: missing"),
        ("extends", "/etc/passwd", "unknown key 'extends'"),
        ("strategy", {"name": "gosip"}, "strategy = 'gosip': unknown"),
        ("strategy", "gossip", "strategy = 'gossip': must be a mapping"),
        ("strategy", {"name": ["gossip"]}, "strategy = a list of 1: unknown"),
        ("strategy", {}, "strategy = None: unknown"),
        ("strategy", {"name": "gossip", "lag": 1}, "strategy.lag: 'gossip' has no option 'lag'"),
        ("strategy", {"name": "centralized"}, "strategy.lag: missing"),
        ("exchange.rule", {"name": "choco", "gamma": 2.0}, "exchange.rule.gamma = 2.0: must be above 0 and at most 1"),
        ("exchange.rule", {"name": "choco", "gamma": 1}, "exchange.rule.gamma = 1: must be a number with a point"),
        ("rounds", 0, "rounds = 0: must be at least 1"),
    ],
)  # fmt: skip
def test_a_value_has_its_field_s_type_and_bounds(path: str, value: Any, said: str) -> None:
    assert said in _refusal(_with(path, value))


def test_a_text_is_bounded_and_every_field_there_once() -> None:
    text = json.dumps(WHOLE)
    assert f"at most {MAX_TEXT}" in _refusal(text + " " * MAX_TEXT)
    assert "'rounds': there twice" in _refusal(text[:-1] + ', "rounds": 3}')
    assert "nested too deeply" in _refusal("[" * 500_000)
    assert "nested too deeply" in _refusal('{"model":' * 100_000)
    assert "5000 digits" in _refusal(
        text.replace('"rounds": 2', f'"rounds": {"9" * 5000}').replace('"seed": 0', f'"seed": {"9" * 5000}')
    )
    endless = text.replace('"temperature": 1.0', '"temperature": 1e400')
    assert endless != text and "learner.temperature = inf: must be finite" in _refusal(endless)
    for name in WHOLE:
        assert f"{name}: missing" in _refusal(json.dumps({k: v for k, v in WHOLE.items() if k != name}))


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_travels(name: str) -> None:
    recipe = load_recipe(name)
    again = recipe_from_json(recipe.to_json())
    assert again == recipe and again.digest == recipe.digest


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["${oc.env:PLANTED}", "???", "${seed}", "sort", "tiny"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PATHS = [name for name in WHOLE] + [
    f"{section}.{name}" for section, inner in WHOLE.items() if isinstance(inner, dict) for name in inner
]


def _parsed_or_refused(text: str) -> None:
    try:
        recipe = recipe_from_json(text)
    except RecipeError as error:
        assert SECRET not in f"{error} {error.public}" and len(str(error)) < 4000
        return
    assert isinstance(recipe, Recipe) and SECRET not in recipe.to_json()
    assert recipe_from_json(recipe.to_json()) == recipe
    try:
        assert check_recipe(recipe) is recipe if recipe.agents <= 64 else True
    except RecipeError as error:
        assert SECRET not in f"{error} {error.public}"


@given(values=JSON)
@settings(deadline=None, max_examples=200)
def test_any_json_is_a_recipe_or_refused(values: Any) -> None:
    os.environ["PLANTED"] = SECRET
    _parsed_or_refused(json.dumps(values))


@given(path=st.sampled_from(PATHS), value=JSON)
@settings(deadline=None, max_examples=400)
def test_any_value_in_a_whole_recipe_is_taken_or_refused(path: str, value: Any) -> None:
    os.environ["PLANTED"] = SECRET
    try:
        recipe = recipe_from_json(_with(path, value))
    except RecipeError as error:
        assert SECRET not in f"{error} {error.public}"
        return
    assert recipe_from_json(recipe.to_json()) == recipe


def test_what_a_local_file_refers_to_is_worked_out_before_it_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature of local files; what travels is the value, and the digest is of it."""
    file = tmp_path / "mine.yaml"
    file.write_text("extends: smoke\ndescription: of ${oc.env:WHO}\nname: mine\n")
    monkeypatch.setenv("WHO", "me")
    recipe = load_recipe(str(file))
    assert recipe.description == "of me" and "${" not in recipe.to_json()
    assert recipe_from_json(recipe.to_json()).digest == recipe.digest
    assert load_recipe("smoke", ["name=${oc.env:WHO}"]).name == "me"


@pytest.mark.parametrize("value", ["${oc.env:PLANTED}", "???", "a\x07b"])
def test_what_the_environment_says_is_text_and_not_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: smoke\ndescription: ${oc.env:WHO}\n")
    monkeypatch.setenv("WHO", value)
    with pytest.raises(RecipeError) as refused:
        load_recipe(str(file))
    assert "description" in str(refused.value) and SECRET not in str(refused.value)
    assert refused.value.public == "", "of a local file the network is told nothing"


def test_a_recipe_names_shipped_models_or_what_the_owner_listed(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    names = [str(there), str(gone), "~", "../x", "owner/model", "gpt2", "tiny/", "TINY", ""]
    said = set()
    for name in names:
        with pytest.raises(RecipeError) as refused:
            Allowed().check(recipe_from_json(_with("model.name", name)))
        said.add(refused.value.public.replace(repr(name), "NAME"))
    for place in (there, gone):
        entry = f"nq={place}:train"
        with pytest.raises(RecipeError, match="must be one that the device's owner allows"):
            Allowed(sources=frozenset({"nq=/elsewhere:train"})).check(
                recipe_from_json(_with("tasks.sources", [entry]))
            )
        Allowed(sources=frozenset({entry})).check(recipe_from_json(_with("tasks.sources", [entry])))
    assert len(said) == 1, said
    for name in ("tiny", "smollm2"):
        Allowed().check(recipe_from_json(_with("model.name", name)))
    Allowed(models=frozenset({"owner/model"})).check(recipe_from_json(_with("model.name", "owner/model")))
