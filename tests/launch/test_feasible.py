"""What is refused before Flower is started: too many SuperNodes, models that are neither cached nor on a hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.launch.feasible import check_feasible


def test_a_simulation_has_so_many_nodes_at_most() -> None:
    recipe = load_recipe("smoke", ["agents=100000"])
    with pytest.raises(
        RecipeError, match=r"100000 SuperNodes .* at most 1000 .* agents_per_node=100 or more"
    ):
        check_feasible(recipe, in_process=False)
    check_feasible(recipe, in_process=True)
    check_feasible(load_recipe("smoke", ["agents=100000", "agents_per_node=100"]), in_process=False)
    with pytest.raises(RecipeError, match="1001 SuperNodes .* agents_per_node=2 or more"):
        check_feasible(load_recipe("smoke", ["agents=1001"]), in_process=False)


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model."""

    def do_HEAD(self) -> None:
        if self.path.startswith("/owner/there/"):
            self.send_response(200)
            for name, value in (("X-Repo-Commit", "a" * 40), ("ETag", '"x"'), ("Content-Length", "2")):
                self.send_header(name, value)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(name: str, cache: Path, **environment: str) -> str:
    """What is said of a model's name, by a process of its own: the hub's library reads settings when it is loaded."""
    code = (
        "import sys; from symphony_fl.launch.feasible import check_model_exists\n"
        "try: check_model_exists(sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
    )
    settings = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, name],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_model_is_looked_up_in_the_cache_and_on_the_hub(hub: str, tmp_path: Path) -> None:
    assert asked("owner/there", tmp_path, HF_ENDPOINT=hub) == ""
    said = asked("owner/nowhere", tmp_path, HF_ENDPOINT=hub)
    assert said.startswith("model.name = 'owner/nowhere': must be tiny") and "none of that name" in said
    assert "does not answer (OfflineModeIsEnabled)" in asked("owner/there", tmp_path, HF_HUB_OFFLINE="1")
    snapshot = tmp_path / "models--owner--there" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    assert asked("owner/there", tmp_path, HF_HUB_OFFLINE="1") == ""
    assert asked("owner/there", tmp_path, HF_ENDPOINT="http://127.0.0.1:9") == ""
    assert "does not answer (ConnectError)" in asked(
        "owner/other", tmp_path, HF_ENDPOINT="http://127.0.0.1:9"
    )


def test_shipped_models_and_folders_ask_nobody(tmp_path: Path) -> None:
    for name in ("tiny", "smollm2", str(tmp_path), "./here"):
        assert asked(name, tmp_path, HF_ENDPOINT="http://127.0.0.1:9") == ""
