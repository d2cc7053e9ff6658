"""`symphony options` and `symphony recipes --show`: the reference says what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from omegaconf import OmegaConf

from symphony_fl import registry
from symphony_fl.cli.main import main
from symphony_fl.config.explain import option_paths
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RECIPES_FOLDER, load_recipe, recipe_names
from symphony_fl.config.reference import json_schema, keys, markdown, matching

KEYS = keys(Recipe)


def test_every_key_and_component_is_named() -> None:
    assert {key.path for key in KEYS if "[]" not in key.path} == set(option_paths(Recipe))
    named = {(key.path, item.name) for key in KEYS for item in key.components}
    chosen = {name for _, name in named}
    assert chosen == {name for kind in registry.KINDS for name in registry.components(kind)}
    assert all(key.meaning for key in KEYS)
    assert all(item.meaning for key in KEYS for item in key.components)


def test_owners_are_those_that_have_the_option() -> None:
    titles = {key.title: key for key in KEYS}
    assert titles["exchange.rule.eta (epidemic)"].admits == "number, above 0 and at most 100"
    assert titles["exchange.selection.density (random, cyclic, topk, threshold)"].default == "1"
    assert titles["exchange.rule"].admits == " | ".join(registry.components("rules"))
    assert titles["agents"].section == "general" and titles["exchange.codec"].section == "exchange"
    for key in KEYS:
        for owner in key.owners:
            # a schedule's option needs a selection that has one; it is the outer one's default otherwise
            above, _, _ = key.path.rpartition(".")
            outer = ["exchange.selection=topk"] if above == "exchange.selection.schedule" else []
            load_recipe("smoke", [*_around(above), *outer, f"{above}={owner}", f"{key.path}={key.default}"])


def _around(above: str) -> list[str]:
    """`smoke` without what only fits its own components."""
    return ["extends=default"] if above == "" else []


PLAIN = [key for key in KEYS if not key.owners and "[]" not in key.path]


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: key.path)
def test_a_default_is_what_a_recipe_may_say(key: Any) -> None:
    load_recipe("smoke", [f"{key.path}={key.default}"])


def test_patterns() -> None:
    assert [key.path for key in matching(KEYS, "rounds")] == ["rounds"]
    assert {key.path for key in matching(KEYS, "*.eta")} == {"exchange.rule.eta"}
    with pytest.raises(LookupError, match="'exchange.rlue'.* did you mean 'exchange.rule'"):
        matching(KEYS, "exchange.rlue")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "exchange.rule"]) == 0
    said = capsys.readouterr().out
    assert "exchange.rule.eta (epidemic) = number, above 0 and at most 100; default 1" in said
    assert main(["options", "exchange.rule", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["keys"]
    assert {"path", "owners", "admits", "default", "meaning"} <= set(found[0])
    assert main(["options", "etta"]) == 2
    said = capsys.readouterr().err
    assert said == "symphony: option 'etta': no key of a recipe fits; did you mean 'eta'?\n"


def test_the_page_has_every_key_in_a_table() -> None:
    page = markdown(KEYS)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(KEYS)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(json.dumps(json_schema(Recipe)))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", recipe_names())
def test_the_schema_accepts_what_ships(name: str, validator: jsonschema.Draft202012Validator) -> None:
    file = RECIPES_FOLDER / f"{name}.yaml"
    validator.validate(OmegaConf.to_container(OmegaConf.load(file), resolve=True))
    validator.validate(load_recipe(name).model_dump())


@pytest.mark.parametrize(
    "values",
    [
        {"rounds": 0},
        {"roundz": 3},
        {"exchange": {"rule": "epidemik"}},
        {"exchange": {"rule": {"name": "epidemic", "gamma": 0.5}}},
        {"exchange": {"rule": {"gamma": 0.5, "eta": 1.0}}},
        {"exchange": {"selection": {"name": "topk", "schedule": "never"}}},
    ],
)
def test_the_schema_refuses_what_is_wrong(
    values: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid(values)


def test_short_forms_are_accepted(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(
        {"extends": "default", "exchange": {"rule": "epidemic", "selection": {"name": "topk"}}}
    )
    validator.validate({"exchange": {"rule": {"eta": 1.5}}})


def test_a_recipe_shown_is_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--show", "smoke", "rounds=7", "learner.learning_rate=1e-5"]) == 0
    said = capsys.readouterr().out
    file = tmp_path / "again.yaml"
    file.write_text(said)
    again = load_recipe(str(file))
    assert again.rounds == 7 and said.startswith(f"# digest {again.digest}\n")
    assert again == load_recipe("smoke", ["rounds=7", "learner.learning_rate=1e-5"])
