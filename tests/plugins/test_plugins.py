"""Components from outside the package: found, built, part of the digest; refused where they may not come from."""

from __future__ import annotations

import json
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import numpy as np
import pytest

from symphony_fl import registry
from symphony_fl.build.checks import check_recipe
from symphony_fl.build.components import (
    recipe_codec,
    recipe_density,
    recipe_rule,
    recipe_selection,
    recipe_topology,
)
from symphony_fl.config import plugins
from symphony_fl.config.allowed import Allowed
from symphony_fl.config.recipe import RecipeError, load_recipe, recipe_from_json
from symphony_fl.exchange.flat import Layout
from symphony_fl.learning.skills import SKILLS
from symphony_fl.registry import RegistryError, register

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "plugins"
VOWELS, BOUNDED = EXAMPLES / "vowels.py", EXAMPLES / "bounded.py"
RULE = (f"plugins=[{BOUNDED}]", "exchange.rule=bounded")
LAYOUT = Layout(names=("a",), shapes=((8,),))

OWN = """
from typing import Literal
import numpy as np
import symphony_fl as sf
from symphony_fl.exchange.codecs.floats import Float32
from symphony_fl.exchange.selection.selection import Dense
from symphony_fl.exchange.topology import build_topology

class Half(sf.ComponentOptions):
    name: Literal["half"] = "half"

class Star(sf.ComponentOptions):
    name: Literal["star"] = "star"
    hub: int = sf.option(0, "the agent in the middle", low=0)

class Plain(sf.ComponentOptions):
    name: Literal["plain"] = "plain"

class First(Dense):
    name = "half"

class Exact(Float32):
    name = "plain"

sf.register("selections", lambda options, layout, seed: First(layout.size), options=Half)
sf.register("codecs", lambda options: Exact(), options=Plain)
sf.register(
    "topologies",
    lambda options, agents, seed: build_topology(
        "edges", agents, edges=[(options.hub, other) for other in range(agents) if other != options.hub]
    ),
    options=Star,
)
"""


def test_a_files_rule_is_built_with_its_own_options() -> None:
    recipe = check_recipe(load_recipe("gossip", [*RULE, "exchange.rule.most=0.5"]))
    rule = recipe_rule(recipe, 4, 0)
    assert type(rule).__name__ == "Bounded" and rule.most == np.float32(0.5)  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match="'bounded' has no option 'eta'; 'epidemic' has it"):
        load_recipe("gossip", [*RULE, "exchange.rule.eta=2"])
    with pytest.raises(RecipeError, match=r"exchange.rule.most = 0.0: must be above 0"):
        load_recipe("gossip", [*RULE, "exchange.rule.most=0"])


def test_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    recipe = load_recipe("gossip", [
        f"plugins=[{tmp_path / 'own.py'}]", "topology=star", "topology.hub=2", "exchange.selection=half",
        "exchange.codec=plain",
    ])  # fmt: skip
    check_recipe(recipe)
    assert sorted(recipe_topology(recipe).neighbours(2, 0)) == [0, 1, 3]
    assert recipe_selection(recipe, LAYOUT, recipe_density(recipe, 8)).name == "half"
    assert recipe_codec(recipe).name == "plain"


def test_a_skill_is_asked_like_any_other() -> None:
    recipe = check_recipe(load_recipe("smoke", [f"plugins=[{VOWELS}]", "tasks.skills=[reverse,vowels]"]))
    task = SKILLS["vowels"].generate(np.random.default_rng(0), 5)
    assert SKILLS["vowels"].verify(task, task.answer) == 1.0 and SKILLS["vowels"].verify(task, "x") == 0.0
    assert "vowels" in recipe.tasks.skills


def test_content_is_part_of_the_digest_and_checked_wherever_it_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "rule.py"
    file.write_text(BOUNDED.read_text().replace("bounded", "bounded_here"))
    words = [f"plugins=[{file}]", "exchange.rule=bounded_here"]
    recipe = load_recipe("gossip", words)
    assert recipe_from_json(recipe.to_json(), files=True) == recipe
    file.write_text(file.read_text() + "\n# changed\n")
    with pytest.raises(RecipeError, match="changed since the run began"):
        recipe_from_json(recipe.to_json().replace('"name":"gossip"', '"name":"other"', 1), files=True)


def test_a_device_loads_no_file_and_tells_nothing_of_it() -> None:
    text = load_recipe("gossip", RULE).to_json()
    with pytest.raises(RecipeError) as refused:
        recipe_from_json(text)
    assert "a device loads no code" in refused.value.public and str(EXAMPLES) not in refused.value.public


def test_a_received_recipe_loads_nothing_before_it_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(marker)!r}, 'w')\n")
    values = json.loads(load_recipe("smoke").to_json())
    values["plugins"] = [plugins.resolve(str(evil), tmp_path)]
    with pytest.raises(RecipeError):
        recipe_from_json(json.dumps(values))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("import symphony_fl as sf\nsf.register('rules', print)", "options must be a class of options"),
        ("import symphony_fl as sf\nsf.register('skill', print)", "kind = 'skill': must be one of"),
        ("def (", "SyntaxError"),
        ("import sys\nsys.exit('bye')", "SystemExit: bye"),
    ],
)
def test_a_file_that_fails_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(RecipeError, match="bad.py") as refused:
        load_recipe("smoke", [f"plugins=[{tmp_path / 'bad.py'}]"])
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("entry", ["nowhere.py", "some-package", "vowels"])
def test_what_is_no_plug_in_is_refused(entry: str) -> None:
    with pytest.raises(RecipeError, match="plugins"):
        load_recipe("smoke", [f"plugins=[{entry}]"])


@pytest.mark.parametrize("kind", ["selections", "topologies"])
def test_what_its_plug_in_cannot_build_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    """The builder takes none of the arguments that it is called with."""
    key = {"selections": "exchange.selection", "topologies": "topology"}[kind]
    (tmp_path / "odd.py").write_text(
        "from typing import Literal\nimport symphony_fl as sf\n"
        f"class Odd(sf.ComponentOptions):\n    name: Literal['odd_{kind}'] = 'odd_{kind}'\n"
        f"sf.register('{kind}', lambda: None, options=Odd)\n"
    )
    with pytest.raises(
        RecipeError, match=f"'odd_{kind}' cannot be built by its plug-in .TypeError"
    ) as refused:
        check_recipe(load_recipe("gossip", [f"plugins=[{tmp_path / 'odd.py'}]", f"{key}=odd_{kind}"]))
    assert "\n" not in str(refused.value) and str(tmp_path) not in refused.value.public


def test_names_are_taken_once() -> None:
    load_recipe("gossip", RULE)
    taken = registry.components("rules")["average"].options
    other = type("Other", (taken,), {"__module__": __name__})
    with pytest.raises(RegistryError, match="'average' is taken by symphony-fl"):
        register("rules", print, options=other)
    with pytest.raises(RegistryError, match="have no options"):
        register("skills", object(), options=taken)
    with pytest.raises(RegistryError, match="a name is missing"):
        register("models", print)


class _Installed(Distribution):
    """A distribution with one entry point, as if it were installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_text(self, filename: str) -> str | None:
        return "Name: my-rules\nVersion: 1.2\n" if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return self.folder


def test_what_is_installed_is_found_by_its_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rules.py").write_text(BOUNDED.read_text().replace("bounded", "bounded_installed"))
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("bounded", "my_rules", "symphony_fl.rules")._for(_Installed(tmp_path))  # type: ignore[attr-defined]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [point] if group == "symphony_fl.rules" else []
    )
    plugins.load_installed.cache_clear()
    try:
        recipe = load_recipe("gossip", ["exchange.rule=bounded_installed"])
        assert recipe.plugins == ["package:my-rules==1.2"], "what a run needs is part of its digest"
        assert recipe_from_json(recipe.to_json()) == recipe, "a device uses what its owner installed"
        with pytest.raises(RecipeError, match=r"the run needs my-rules==1.3; installed is my-rules==1.2"):
            recipe_from_json(recipe.to_json().replace("my-rules==1.2", "my-rules==1.3"))
    finally:
        plugins.load_installed.cache_clear()
        sys.modules.pop("my_rules", None)


def test_devices_ask_only_rows_that_their_owner_listed() -> None:
    recipe = load_recipe("smoke", [
        "tasks.skills=[reverse,mirror]", f"tasks.rows=[{{name: mirror, source: {EXAMPLES / 'mirror.jsonl'}}}]",
    ])  # fmt: skip
    with pytest.raises(RecipeError, match="device's owner allows"):
        Allowed().check(recipe)
    Allowed(sources=frozenset({f"mirror={EXAMPLES / 'mirror.jsonl'}:train"})).check(recipe)
