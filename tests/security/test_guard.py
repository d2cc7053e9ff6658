"""Flower's own SuperLink behind its guard: every route it has, with and without what is due."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.auth.superexec import create_superexec_auth_metadata, derive_auth_secret

from clients.flower_patches import internals
from clients.flower_patches.internals import UnknownFlower, check_shapes
from strategies.superlink import executor as superexec
from strategies.superlink import guard as superlink
from strategies.superlink.guard import Guard, guarded, known
from symphony_fl.launch.credential import FLEET_HEADER, credentials, hand_to_flower

OPERATOR, FLEET, SECRET = b"o" * 64, b"f" * 64, b"s" * 32
PROTOBUF = {"content-type": "application/protobuf"}
FLEET_NAME = FLEET_HEADER.decode()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    folder = tmp_path_factory.mktemp("superlink")
    (folder / "secret").write_bytes(SECRET)
    arguments = [
        "--insecure",
        "--isolation",
        "process",
        "--superexec-auth-secret-file",
        str(folder / "secret"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["flower-superlink", *arguments])
        patch.setenv("FLWR_HOME", str(folder))
        flower = known()
        return guarded(flower, flower.configuration(), OPERATOR, FLEET)


def _ask(guard: Guard, method: str, path: str, **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://superlink") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


def _routes(guard: Guard) -> list[tuple[str, str]]:
    """Every (method, path) of Flower's application, its documentation among them."""
    found = set()
    for context in iter_route_contexts(guard.app.routes):  # type: ignore[attr-defined]
        for method in context.route.methods or ():  # type: ignore[union-attr]
            found.add((method, context.path))
    return sorted(found)


def test_nothing_of_flower_answers_without_a_credential_and_no_body_is_read(guard: Guard) -> None:
    routes, read = _routes(guard), 0
    assert len(routes) > 70 and {"/docs", "/openapi.json", "/v1/control/start-run"} <= {
        path for _, path in routes
    }

    async def body() -> AsyncGenerator[bytes, None]:
        nonlocal read
        read += 1
        yield b"x"

    wrong = {
        "authorization": "Bearer " + "x" * 64,
        FLEET_NAME: OPERATOR.decode(),
        "flwr-task-token": "0" * 64,
    }
    statuses: dict[str, set[int]] = {}
    for method, path in routes:
        for headers in ({}, wrong, {"authorization": f"Bearer {FLEET.decode()}"}):
            if path == "/health":
                continue
            answer = _ask(guard, method, path, headers=PROTOBUF | headers, content=body())
            statuses.setdefault(path.rpartition("/")[0], set()).add(answer.status_code)
            assert answer.status_code in (401, 404, 411), (method, path)
            assert answer.content in (b"", b'{"detail":"refused"}')
    assert statuses["/v1/control"] == {401} == statuses["/v1/fleet"] and read == 0, statuses


def test_small_requests_to_the_runtime_need_a_task_too(guard: Guard) -> None:
    paths = [path for _, path in _routes(guard) if path.startswith("/v1/runtime/")]
    assert len(paths) > 10
    wrong = ({}, {"flwr-task-token": "0" * 64}, {"authorization": f"Bearer {OPERATOR.decode()}"})
    for path in paths:
        for headers in wrong:
            answer = _ask(guard, "POST", path, headers=PROTOBUF | headers, content=b"")
            assert answer.status_code == 401, path


def test_with_the_credential_operators_and_the_proxy_are_served(guard: Guard) -> None:
    body = ListNodesRequest().SerializeToString()
    operator = {"authorization": f"Bearer {OPERATOR.decode()}"}
    assert (
        _ask(guard, "POST", "/v1/control/list-nodes", headers=PROTOBUF | operator, content=body).status_code
        == 200
    )
    twice = [*PROTOBUF.items(), *operator.items(), *operator.items()]
    assert _ask(guard, "POST", "/v1/control/list-nodes", headers=twice, content=body).status_code == 401
    fleet = _ask(
        guard, "POST", "/v1/fleet/pull-messages", headers=PROTOBUF | {FLEET_NAME: FLEET.decode()}, content=b""
    )
    assert fleet.json() == {"detail": "Invalid SuperNode authentication"}, "that is Flower's own refusal"
    assert _ask(guard, "GET", "/docs", headers=operator).status_code == 404
    assert _ask(guard, "GET", "/health").status_code == 200


def test_tasks_are_given_to_who_knows_flowers_secret_only(guard: Guard) -> None:
    request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
    path, method = "/v1/runtime/acquire-task", "/flwr.proto.Runtime/AcquireTask"
    body = request.SerializeToString(deterministic=True)
    for secret, status in ((SECRET, 200), (b"x" * 32, 401)):
        shown = create_superexec_auth_metadata(
            auth_secret=derive_auth_secret(secret), method=method, request=request
        )
        headers = PROTOBUF | {name: str(value) for name, value in dict(shown).items()}
        assert _ask(guard, "POST", path, headers=headers, content=body).status_code == status
    assert _ask(guard, "POST", path, headers=PROTOBUF, content=bytes(1 << 20)).status_code == 413


def test_the_insides_of_flower_that_are_relied_on_are_there_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flwr.supercore.superexec.executor import SubprocessExecutor
    from flwr.superlink import main

    known()
    check_shapes("executor")
    with monkeypatch.context() as patch:
        patch.setattr(SubprocessExecutor, "launch", lambda self, spec, more: None)
        with pytest.raises(UnknownFlower, match="launch takes self, spec, more; known is self, spec"):
            check_shapes("executor")
    with monkeypatch.context() as patch:
        patch.setattr(main, "create_app", lambda config: None)
        with pytest.raises(UnknownFlower, match="create_app takes config; known is config, superlink_life"):
            known()
    with monkeypatch.context() as patch:
        patch.delattr(SubprocessExecutor, "reconcile")
        with pytest.raises(UnknownFlower, match=r"SubprocessExecutor\.reconcile is missing"):
            check_shapes("executor")
    with monkeypatch.context() as patch:
        patch.setattr(internals, "version", lambda name: "1.43.0")
        with pytest.raises(UnknownFlower, match="the superlink runs with flwr 1.42.x only"):
            known()


@pytest.fixture
def refused_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """refused_start() -> why the program does not start without Flower's secret; that it came to serve is an error."""

    def start() -> str:
        operator, _ = credentials(tmp_path)
        monkeypatch.setenv("FLWR_HOME", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["guard", "--operator", str(operator), "--", "--insecure"])
        monkeypatch.setattr(superlink.uvicorn, "run", None)
        assert superlink.main() == 3
        return capsys.readouterr().err

    return start


@pytest.mark.parametrize("name", ["FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API"])
def test_flowers_other_doors_stay_shut(
    refused_start: Callable[[], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert f"{name}: must not be set" in refused_start()


def test_without_flowers_secret_there_is_no_superlink(refused_start: Callable[[], str]) -> None:
    assert "anybody could take a task" in refused_start()


def test_as_a_process_it_refuses_too(tmp_path: Path) -> None:
    operator, _ = credentials(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "strategies.superlink.guard", "--operator", str(operator), "--", "--insecure"],
        env=os.environ | {"FLWR_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3 and "anybody could take a task" in done.stderr


def test_flower_reads_the_credential_as_its_own(tmp_path: Path) -> None:
    """`flwr` keeps tokens of accounts in a file, whose keys and form are Flower's."""
    from flwr.cli.auth_plugin import OidcCliPlugin
    from flwr.cli.constant import AUTHN_TYPE_STORE_KEY
    from flwr.supercore.credential_store import FileCredentialStore

    operator, fleet = credentials(tmp_path)
    hand_to_flower(operator, tmp_path, "127.0.0.1:1")
    store = FileCredentialStore(tmp_path / "credentials.yaml")
    assert store.get(AUTHN_TYPE_STORE_KEY % "127.0.0.1:1") == b"oidc"
    plugin = OidcCliPlugin("127.0.0.1:1")
    plugin.store = store
    plugin.load_tokens()
    assert (
        plugin.access_token == operator.read_text() != fleet.read_text() and len(operator.read_text()) == 64
    )
    assert [path.stat().st_mode & 0o777 for path in (operator, fleet, tmp_path / "credentials.yaml")] == [
        0o600
    ] * 3


def test_a_servapps_token_is_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "flwr-serverapp"
    program.write_text(f'#!/bin/sh\ncp "$4" {tmp_path}/read; echo "$@" > {tmp_path}/arguments\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    starter = superexec.Starter(tmp_path / "tasks")
    spec = SimpleNamespace(
        task_type="flwr-serverapp", runtime_api_address="127.0.0.1:1", token="hidden", insecure=False,
        root_certificates_path="ca.pem", parent_pid=1, suppress_output=True,
    )  # fmt: skip
    assert starter.start(spec)
    ((process, path),) = starter._running
    assert path.stat().st_mode & 0o777 == 0o600 and process.wait(10) == 0
    assert (tmp_path / "read").read_text() == "hidden" and "hidden" not in (
        tmp_path / "arguments"
    ).read_text()
    starter.clean()
    assert not path.exists() and not starter.start(SimpleNamespace(task_type="flwr-agentapp"))
