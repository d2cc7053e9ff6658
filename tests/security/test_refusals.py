"""What leaves a device when a message cannot be answered: fields and what is allowed, nothing of the device."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from device import fork_agent, greeting, order
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from clients.client_app import app
from clients.protocol.error_replies import Refused, refusing
from clients.protocol.multiplex import FAILED, PER_NODE, batch_for, each_agent, pack_content, unpack_batch
from clients.transport.agent_client import AgentRefused, call_agent
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.errors import MAX_TOLD, LocalError, PublicError, told

SECRET = "hf_0123456789secret"
SMOKE = load_recipe("smoke", ("agents=2", "rounds=6"))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An agent process with a secret in its environment and two models its owner listed, one of which is no model."""
    folder = tmp_path_factory.mktemp("device")
    os.environ["PLANTED"] = SECRET
    listed = folder / "listed"
    process = fork_agent(
        folder, 0, "--model", str(listed), "--model", "tiny2", "--source", f"nq={listed}:train"
    )
    yield folder
    process.kill()
    process.wait()
    del os.environ["PLANTED"]


def _refused(device: Path, kind: str, content: RecordDict) -> str:
    with pytest.raises(AgentRefused) as refused:
        call_agent(device / "agent.sock", kind, content)
    said = str(refused.value)
    for local in (SECRET, str(device), "/", "Traceback", "line ", os.path.expanduser("~"), str(os.getpid())):
        assert local not in said.replace("10/", ""), said
    assert len(said) <= MAX_TOLD and said.isprintable()
    return said


def _greeting(text: str, recipe: Recipe = SMOKE) -> RecordDict:
    content = greeting(recipe, "some-run")
    content.config_records["config"]["recipe"] = text
    return content


def _changed(section: str, key: str, value: object) -> Recipe:
    """A recipe as a hostile server makes it: nothing of it is checked there."""
    recipe = load_recipe(
        "smoke", ("agents=2", "rounds=6", "tasks.skills=[nq,sort]", "learner.max_new_tokens=32")
    )
    changed = getattr(recipe, section).model_copy(update={key: value})
    return recipe.model_copy(update={section: changed})


def test_no_value_of_the_environment_comes_back(device: Path) -> None:
    for text in ("${oc.env:PLANTED}", "${oc.env:HOME}", "${oc.decode:${oc.env:PLANTED}}"):
        said = _refused(device, "hello", _greeting(json.dumps({"strategy": text})))
        assert said.startswith("RecipeError: recipe 'received': ")
        for key in ("strategy", "name", "description"):
            values = json.loads(SMOKE.to_json()) | {key: text}
            assert f"{key} = " in _refused(device, "hello", _greeting(json.dumps(values)))


def test_what_exists_on_the_device_cannot_be_told_from_what_does_not(device: Path) -> None:
    (device / "model").mkdir(exist_ok=True)
    (device / "model" / "config.json").write_text("{}")
    said = set()
    for name in (device / "model", device / "nothing", device):
        recipe = _changed("model", "name", str(name))
        with pytest.raises(AgentRefused) as refused:
            call_agent(device / "agent.sock", "hello", greeting(recipe, "some-run"))
        said.add(str(refused.value).replace(str(name), "NAME"))
        recipe = _changed("tasks", "sources", [f"nq={name}:train"])
        with pytest.raises(AgentRefused) as refused:
            call_agent(device / "agent.sock", "hello", greeting(recipe, "some-run"))
        said.add(str(refused.value).replace(str(name), "NAME"))
    assert len(said) == 2, said
    assert not (device / "homes").exists()


def test_of_what_the_owner_listed_nothing_more_is_told_than_that_it_cannot_be_used(device: Path) -> None:
    listed = device / "listed"
    for step in ("missing", "empty", "broken"):
        if step == "empty":
            listed.mkdir()
        if step == "broken":
            (listed / "config.json").write_text(f'{{"model_type": "{SECRET}"}}')
            (listed / "model.safetensors").write_bytes(b"broken")
            (listed / "train.jsonl").write_text(f'{{"question": "{SECRET}"}}\n')
        said = _refused(device, "hello", greeting(_changed("model", "name", str(listed)), "some-run"))
        assert said.startswith(
            ("LocalRecipeError: model: cannot be used here", "ModelError; the device's log")
        ), said
        said = _refused(
            device, "hello", greeting(_changed("tasks", "sources", [f"nq={listed}:train"]), "some-run")
        )
        assert said == "LocalRecipeError: tasks.sources: cannot be used here"
    assert SECRET in (device / "agent.log").read_text(), "the owner is told all of it"
    assert not list((device / "homes").iterdir())


def test_errors_that_nobody_foresaw_are_a_name_and_a_reference(device: Path) -> None:
    said = _refused(device, "hello", greeting(_changed("model", "device", "abacus"), "some-run"))
    name, _, reference = said.partition("; the device's log has more under ")
    assert name == "ModelError" and len(reference) == 8
    line = next(line for line in (device / "agent.log").read_text().splitlines() if reference in line)
    assert "hello refused" in line


def test_other_runs_and_their_recipes_are_not_told_of(device: Path) -> None:
    call_agent(device / "agent.sock", "hello", greeting(SMOKE, "private-run"))
    other = load_recipe("smoke", ("agents=2", "rounds=7"))
    for kind, content in (
        ("hello", greeting(other, "private-run")),
        ("train", order(other, 1, {}, {}, "private-run")),
        ("train", order(other, 1, {}, {}, "unknown-run")),
    ):
        assert SMOKE.digest not in _refused(device, kind, content)
    assert not (device / "homes" / "unknown-run").exists()


@pytest.mark.parametrize(
    "error", [OSError(2, "No such file", "/home/me/x"), KeyError(SECRET), ValueError("/a/b")]
)
def test_what_is_not_allowed_to_be_told_is_not(error: Exception) -> None:
    said = told(error, "01234567")
    assert said == f"{type(error).__name__}; the device's log has more under 01234567"


def test_what_is_told_is_one_bounded_printable_line() -> None:
    assert told(PublicError("a\n\x1b[2Jb\ud800" + "c" * 9999), "0").startswith("PublicError: a ?[2Jb?ccc")
    assert len(told(PublicError("c" * 9999), "0")) == MAX_TOLD
    assert told(LocalError("/home/me/x", "field: wrong"), "0") == "LocalError: field: wrong"
    assert told(LocalError("/home/me/x"), "7") == "LocalError; the device's log has more under 7"


def _ask(config: dict[str, str | int], kind: str, content: RecordDict, to: ClientApp = app) -> Message:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 7, 1
    message = Message(content, 7, kind)
    message.metadata.__dict__["_message_id"] = "1"
    return to(message, Context(1, 7, config, RecordDict(), {"run-dir": "/proc/nowhere"}))  # type: ignore[arg-type]


def test_the_client_app_of_a_device_tells_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Flower sends the text of what a ClientApp raises."""
    tmp_path.chmod(0o755)  # not private: the socket is refused, by a message that names the folder
    hello = greeting(SMOKE)
    logger = logging.getLogger("flwr")
    logger.propagate = True
    with pytest.raises(Refused) as refused:
        _ask({"partition-id": 0, "socket": str(tmp_path / "agent.sock")}, "query.hello", hello)
    assert str(refused.value).startswith("FrameError; the device's log has more under")
    assert str(tmp_path) in caplog.text
    (tmp_path / "home").write_text("no folder")
    with pytest.raises(Refused) as refused:
        _ask({"partition-id": 0, "home": str(tmp_path / "home")}, "query.hello", hello)
    assert str(tmp_path) not in str(refused.value)
    named = greeting(_changed("model", "name", str(tmp_path)))
    with pytest.raises(Refused, match="must be tiny or smollm2"):
        _ask({"partition-id": 0, "home": str(tmp_path / "other")}, "query.hello", named)


def test_in_simulation_the_user_is_told_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"model.name = '{tmp_path}': not a model folder"):
        _ask({"partition-id": 0}, "query.hello", greeting(_changed("model", "name", str(tmp_path))))


def test_where_a_run_would_choose_a_folder_of_a_node_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/flwr-clientapp"])
    with pytest.raises(Refused, match="^NodeError; the device's log has more under"):
        _ask({"partition-id": 0}, "query.hello", greeting(SMOKE))


def test_of_many_agents_on_a_node_each_tells_no_more() -> None:
    many = ClientApp(mods=[refusing, each_agent, refusing])

    @many.train()
    def train(message: Message, context: Context) -> Message:
        raise OSError(2, "No such file", f"/home/me/{SECRET}")

    parts = {slot: pack_content(RecordDict()) for slot in ("0", "1", "7", "-1", "x")}
    reply = _ask({"partition-id": 0, "home": "/agents"}, "train", batch_for(parts, 2), many)
    reasons = {slot: data.decode() for slot, data in unpack_batch(reply.content).items()}
    assert set(reasons) == {slot + FAILED for slot in parts}
    assert all(SECRET not in reason and "/" not in reason for reason in reasons.values()), reasons
    assert reasons["0" + FAILED].startswith("Refused: FileNotFoundError; the device's log has more")
    assert all("must be below" in reasons[slot + FAILED] for slot in ("7", "-1", "x"))
    broken = RecordDict({**batch_for(parts, 2), "config": ConfigRecord({PER_NODE: "two"})})
    with pytest.raises(Refused, match="MessageError: config.agents-per-node = 'two': must be int"):
        _ask({"partition-id": 0, "home": "/agents"}, "train", broken, many)
