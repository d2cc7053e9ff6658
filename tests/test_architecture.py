"""The architecture, kept true by a test: who imports whom, what the server's import loads, where packages are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx
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


ANYBODY = {"errors", "refusals", "registry", "storage"}
"""Rooms that every room may import; they import nothing of ours but each other."""

MAY_IMPORT = {
    "symphony_fl": {
        "errors": set(),
        "refusals": set(),
        "storage": set(),
        "api": {"build", "config", "launch", "metrics", "reports"},
        "registry": set(),
        "config": set(),
        "identity": set(),
        "exchange": {"identity"},
        "learning": {"exchange", "identity"},
        "metrics": {"learning"},
        "simulation": {"config", "metrics"},
        "build": {"config", "exchange", "learning", "simulation"},
        "tracking": {"config"},
        "reports": {"config", "metrics", "tracking"},
        "launch": {"build", "config", "learning"},
        "edge": {"identity", "launch"},
        "experiment": {"build", "config", "launch", "learning", "metrics", "reports", "simulation"},
        "benchmarks": {"build", "config", "exchange", "identity", "launch", "learning", "metrics"},
        "cli": {
            "benchmarks", "build", "config", "edge", "experiment", "identity", "launch", "metrics", "reports",
            "simulation", "tracking",
        },
    },
    "clients": {
        "protocol": set(),
        "home": {"protocol"},
        "agents": {"home", "protocol"},
        "transport": {"agents", "home", "protocol"},
        "service": {"agents", "home", "protocol", "transport"},
        "flower_patches": set(),
        "client_app": {"flower_patches", "protocol", "service", "transport"},
        "worker_pool": {"client_app", "protocol", "service"},
        "device": {"client_app", "flower_patches"},
    },
}  # fmt: skip
"""Which rooms of a package a room may import. No room imports `cli`."""


def _room(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def _modules(folder: str) -> dict[str, Path]:
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in _files(folder)}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def _module_imports(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules of `modules` that it imports, inside functions too."""
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                inner = (f"{module}.{alias.name}" for alias in node.names)
                names = [name if name in modules else module for name in inner]
            else:
                continue
            found[name].update(other for other in names if other in modules and other != name)
    return found


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_rooms_import_only_what_they_may(package: str) -> None:
    rooms = MAY_IMPORT[package]
    modules = _modules(package)
    for module, imported in _module_imports(modules).items():
        room = _room(module)[1]
        if not room:  # the package itself
            continue
        assert room in rooms, f"{module}: a room without a rule"
        for other in imported:
            target = _room(other)[1]
            allowed = {"", room} | rooms[room] | (ANYBODY if package == "symphony_fl" else set())
            assert target in allowed, f"{module} imports {other}"


def test_no_module_imports_itself_through_others() -> None:
    graph = networkx.DiGraph()
    modules = {name: path for folder in OURS for name, path in _modules(folder).items()}
    for name, imported in _module_imports(modules).items():
        graph.add_edges_from((name, other) for other in imported)
    cycles = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    assert cycles == []


def test_the_library_knows_neither_flower_nor_its_users() -> None:
    _forbid("symphony_fl", "flwr", "strategies", "clients", "ray")


def test_strategies_take_only_protocol_and_patches_from_the_clients() -> None:
    for path in _files("strategies"):
        for name in _imports(path):
            if _room(name)[0] == "clients":
                assert _room(name)[1] in ("protocol", "flower_patches"), f"{path}: imports {name}"


def test_clients_do_not_import_strategies() -> None:
    _forbid("clients", "strategies")


def test_the_exchange_is_numpy_only() -> None:
    _forbid("symphony_fl/exchange", "torch", "transformers", "mlflow", "omegaconf")


def test_learning_takes_only_the_flat_vector_from_the_exchange() -> None:
    for path in _files("symphony_fl/learning"):
        for name in _imports(path):
            if name.startswith("symphony_fl.exchange"):
                assert name == "symphony_fl.exchange.flat", f"{path}: imports {name}"


def test_folders_stay_small() -> None:
    for folder in (*OURS, "tests", "scripts"):
        counts = Counter(path.parent for path in _files(folder))
        for where, count in counts.items():
            assert count <= 15, f"{where}: {count} files"


@pytest.mark.parametrize("folder", OURS)
def test_every_room_is_introduced_by_its_docstring(folder: str) -> None:
    """It names each of its files, and no file that is not there."""
    for path in _files(folder):
        if path.name != "__init__.py":
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        named = set(re.findall(r"(?<![\w/])\w+\.py\b", text))
        there = {file.name for file in path.parent.glob("*.py")} - {"__init__.py"}
        assert named == there, f"{path}: {sorted(named ^ there)}"


@pytest.mark.parametrize(
    ("package", "owner"), [("omegaconf", "recipe.py"), ("mlflow", "mlflow_store.py"), ("iroh", "endpoint.py")]
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
        path.relative_to(ROOT).parts[0]
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
