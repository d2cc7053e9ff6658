"""ARCHITECTURE.md matches the disk, and the site has a page for all that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STEPS = re.findall(r"^ *([\w/]+\.py) +(-|[\w.]+)", "\n".join(FENCES), re.MULTILINE)
"""(file, function or Class.method) of the lives of an update."""
TREE = next(fence for fence in FENCES if fence.startswith("symphony_fl/"))


def test_there_are_steps() -> None:
    assert len(STEPS) > 50


@pytest.mark.parametrize(("path", "name"), STEPS)
def test_the_life_of_an_update_names_what_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    if name != "-":
        assert name in _names(tree), f"{path} has no {name}"


def _names(tree: ast.Module) -> set[str]:
    """Functions and Class.method of a module."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return found


def test_the_tree_is_the_one_on_disk() -> None:
    written, parent = set(), ""
    for line in TREE.splitlines():
        name = line.split()[0]
        parent = parent if line.startswith(" ") else name
        written.add(parent + name if line.startswith(" ") else name)
    for name in written:
        assert (ROOT / name).is_dir(), f"ARCHITECTURE.md names {name}, which is not there"
    packages = ("symphony_fl", "clients", "strategies")
    rooms = {
        f"{path.parent.relative_to(ROOT)}/" for p in packages for path in (ROOT / p).glob("*/__init__.py")
    }
    assert rooms <= written, f"not in the tree of ARCHITECTURE.md: {sorted(rooms - written)}"


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/results.md",
                                  "docs/concepts.md", "docs/extending.md"])  # fmt: skip
def test_files_named_in_the_text_exist(page: str) -> None:
    """Paths in backticks: from the root, or from symphony_fl/."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md|yaml|html))`", text):
        assert any((folder / path).is_file() for folder in (ROOT, ROOT / "symphony_fl")), f"{page}: {path}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_of_the_site_is_reached() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: object) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        entries = entry.values() if isinstance(entry, dict) else entry
        return set().union(*map(pages, entries))  # type: ignore[arg-type]

    on_disk = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages(site["nav"]) == on_disk


def test_the_paper_is_the_right_one() -> None:
    """arXiv 2508.20019 is another paper of the same group."""
    for name in ("README.md", "ARCHITECTURE.md", "symphony_fl/experiment/template.html"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert "2508.20019" not in text
        assert re.search("Multi-Agent System for Co-Evolving Intelligence at Scale", text), name
