"""The architecture, kept true by a test: who imports whom, what the server's import loads, where packages are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("symphony_fl", "strategies", "clients")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def _files(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, folder
    return files


def _forbid(folder: str, *packages: str) -> None:
    for path in _files(folder):
        for name in _imports(path):
            for package in packages:
                assert name != package and not name.startswith(package + "."), f"{path}: imports {name}"


def test_the_library_knows_neither_flower_nor_its_users() -> None:
    _forbid("symphony_fl", "flwr", "strategies", "clients", "ray")


def test_the_exchange_is_numpy_only_and_imports_no_sibling() -> None:
    _forbid("symphony_fl/exchange", "torch", "transformers", "mlflow", "omegaconf")
    for path in _files("symphony_fl/exchange"):
        for name in _imports(path):
            assert not name.startswith("symphony_fl.") or name.startswith("symphony_fl.exchange"), (
                f"{path}: {name}"
            )


def test_learning_takes_only_the_flat_vector_from_the_exchange() -> None:
    for path in _files("symphony_fl/learning"):
        for name in _imports(path):
            if name.startswith("symphony_fl."):
                allowed = name.startswith("symphony_fl.learning") or name == "symphony_fl.exchange.flat"
                assert allowed, f"{path}: imports {name}"


def test_configuration_stops_at_the_edge() -> None:
    _forbid("symphony_fl/exchange", "symphony_fl.recipe")
    _forbid("symphony_fl/learning", "symphony_fl.recipe")


@pytest.mark.parametrize(
    ("package", "owner"), [("omegaconf", "recipe.py"), ("mlflow", "store.py"), ("iroh", "endpoint.py")]
)
def test_sole_users(package: str, owner: str) -> None:
    users = {
        path.name
        for folder in OURS
        for path in _files(folder)
        if any(name.split(".")[0] == package for name in _imports(path))
    }
    assert users == {owner}


def test_only_the_faces_import_flower() -> None:
    users = {
        path.parent.name
        for folder in OURS
        for path in _files(folder)
        if "flwr" in path.read_text() and any(name.split(".")[0] == "flwr" for name in _imports(path))
    }
    assert users == {"strategies", "clients"}


def test_importing_the_server_loads_no_torch() -> None:
    names = "strategies.gossip, strategies.server_app"
    code = f"import sys, {names}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_skills_loads_nothing_heavy() -> None:
    code = "import sys, symphony_fl.learning.skills; print(sorted({'torch', 'datasets', 'sqlglot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_mlflow_folder_is_no_package() -> None:
    """An `mlflow/__init__.py` beside the code would shadow the library."""
    assert not list((ROOT / "mlflow").rglob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__file__)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "site-packages" in done.stdout


def test_tests_are_no_packages() -> None:
    """A `tests/strategies/__init__.py` would shadow `strategies`."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_pickle() -> None:
    for folder in OURS:
        _forbid(folder, "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


def test_files_stay_short() -> None:
    for folder in OURS:
        for path in _files(folder):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 330, f"{path}: {lines} lines; what does it hold that belongs elsewhere?"
