"""What the documentation tells people to type is true: short commands are run, recipes loaded, long ones parsed.

A block that takes long has `<!-- not run: why -->` in the line before; its commands, options, recipe names and override
keys are checked all the same.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from symphony_fl.config.recipe import load_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), ROOT / "deploy/README.md", ROOT / "mlflow/README.md", *ROOT.glob("docs/**/*.md")]
)
FENCE = re.compile(r"^(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- not run: .+ -->")
NOT_CODE = {"text", "mermaid"}
DIAGRAMS = {ROOT / "ARCHITECTURE.md"}  # its fences are trees, see test_architecture_page.py
OPEN_ENDED = re.compile(r"=(N|\.\.\.|…)?$|=N\b")  # of an override that stands for many


@dataclass(frozen=True)
class Block:
    page: Path
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.text.strip().splitlines()[0][:40]}"


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        for match in FENCE.finditer("\n" + page.read_text(encoding="utf-8")):
            runs = MARK.fullmatch(match["before"].strip()) is None
            found.append(Block(page, match["language"], match["text"], runs))
    return found


BLOCKS = _blocks()
YAML = [block for block in BLOCKS if block.language == "yaml"]


def _of(language: str, runs: bool) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.runs is runs]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `symphony` is this checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "symphony"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m symphony_fl.cli.main "$@"\n')
    command.chmod(0o755)
    home = str(tmp_path_factory.mktemp("home"))
    return os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SYMPHONY_HOME": home,
    }


def test_blocks_say_what_they_are() -> None:
    """Also that blocks are found at all: a fence nobody parses would be a command nobody checks."""
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert fences == 2 * len(BLOCKS)
    for block in BLOCKS:
        known = block.language in {"bash", "python", "yaml", "json", "toml"} | NOT_CODE
        assert known or block.page in DIAGRAMS, f"{block}: language {block.language!r}"
    assert _of("bash", True) and _of("bash", False) and _of("python", True) and YAML


@pytest.mark.parametrize("block", _of("bash", True), ids=str)
def test_short_commands_run(block: Block, shell: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euc", block.text], cwd=ROOT, env=shell, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_runs(block: Block) -> None:
    code = compile(block.text, str(block), "exec")
    if block.runs:
        exec(code, {})


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("json", "toml")], ids=str)
def test_data_parses(block: Block) -> None:
    {"json": json.loads, "toml": tomllib.loads}[block.language](block.text)


@pytest.mark.parametrize("block", YAML, ids=str)
def test_recipes_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(block.text)
    load_recipe(str(file))


@pytest.mark.parametrize("block", _of("bash", False), ids=str)
def test_long_commands_parse(block: Block, tmp_path: Path, shell: dict[str, str]) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "symphony":
            _check_command(words[1:], tmp_path, shell)
        for word in words:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), f"{word}: no such file"
            if word.startswith("recipe="):
                name, overrides = re.fullmatch(r'recipe="(\w+)" overrides="([^"]*)"', word).groups()  # type: ignore[union-attr]
                load_recipe(name, overrides.split())
        if words and words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


def _check_command(words: list[str], folder: Path, shell: dict[str, str]) -> None:
    command, *rest = words
    said = _help(command, shell["PATH"])
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word)}\b", said), f"symphony {command} has no {word}"
    if command in ("run", "compare") and "--from-mlflow" not in rest:
        positional = rest[
            : next((place for place, word in enumerate(rest) if word.startswith("--")), len(rest))
        ]
        recipes = [word for word in positional if "=" not in word]
        assert recipes, words
        overrides = [word for word in positional if "=" in word]
        for recipe in recipes:
            _load(_file(recipe, folder), overrides, shell)


def _load(recipe: str, overrides: list[str], shell: dict[str, str]) -> None:
    """In a process of its own where plug-ins would be registered for all that comes after."""
    if "/plugins/" not in " ".join([recipe, *overrides]):
        load_recipe(recipe, overrides)
        return
    code = "import sys; from symphony_fl.config.recipe import load_recipe; load_recipe(sys.argv[1], sys.argv[2:])"
    words = [sys.executable, "-c", code, recipe, *overrides]
    done = subprocess.run(words, cwd=ROOT, env=shell, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def _file(recipe: str, folder: Path) -> str:
    """The recipe, or the block of the documentation that is that file."""
    if not recipe.endswith(".yaml") or (ROOT / recipe).is_file():
        return recipe
    (text,) = {
        block.text
        for block in YAML
        if block.text.startswith(f"# {recipe}") and block.page.name == "README.md"
    }
    (folder / recipe).write_text(text)
    return str(folder / recipe)


@lru_cache
def _help(command: str, path: str) -> str:
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        ["symphony", command, "--help"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"symphony {command}: {done.stderr}"
    return done.stdout


def _mentions() -> list[str]:
    """Recipes with overrides in running text and tables: `default exchange.selection.density=0.02`."""
    found = set()
    names = recipe_names()
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for span in re.findall(r"`([^`]+)`", text):
            span = " ".join(span.split())
            points = re.findall(r'"([^"]+)"', span) if span.startswith("symphony frontier") else [span]
            for point in points:
                words = point.removeprefix("symphony run ").split()
                if words and words[0] in names and all("=" in word for word in words[1:]):
                    found.add(" ".join(word for word in words if not OPEN_ENDED.search(word)))
    return sorted(found)


@pytest.mark.parametrize("mention", _mentions())
def test_recipes_in_the_text_load(mention: str) -> None:
    name, *overrides = mention.split()
    load_recipe(name, overrides)
