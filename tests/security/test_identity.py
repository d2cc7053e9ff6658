"""An identity that is damaged, lost or exchanged is refused by name: never a new one, never an unexpected error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from device import fork_agent, greeting, health

from clients.home import homes as homes_module
from clients.home.founding import FOUNDING, HomeError
from clients.home.home import COPY, STATE, Home
from clients.home.homes import Homes
from clients.home.pins import PinsError
from clients.home.state_file import State
from clients.service.service import Service
from clients.transport.agent_client import AgentRefused, call_agent
from symphony_fl.cli.main import main
from symphony_fl.config.recipe import load_recipe
from symphony_fl.edge.keys import certificates, identity, node_key
from symphony_fl.identity.key_file import KeyFileError, open_key_file, rotate_key
from symphony_fl.storage.private import EdgeError

RECIPE = load_recipe("smoke", ("agents=2", "rounds=6"))
ADAPTER = np.zeros(8, np.float32)
Harm = Callable[[Path], None]


def _gone(path: Path) -> None:
    path.unlink()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARMS = [_gone, _dangling, _folder, _pipe, _empty, _flipped]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    open_key_file(home / "key")
    return home


def test_no_flipped_bit_of_a_key_is_taken_for_one(folder: Path) -> None:
    rotate_key(folder / "key")
    whole = (folder / "key").read_bytes()
    did = open_key_file(folder / "key").did
    for place in range(len(whole)):
        harmed = bytearray(whole)
        harmed[place] ^= 1 << (place % 8)
        (folder / "key").write_bytes(harmed)
        with pytest.raises(KeyFileError, match="key: "):
            open_key_file(folder / "key")
    (folder / "key").write_bytes(whole)
    assert open_key_file(folder / "key").did == did


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_key_is_refused_and_stays_as_it_is(folder: Path, harm: Harm) -> None:
    harm(folder / "key")
    before = sorted((path.name, path.lstat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(KeyFileError, match="home/key: "):
        open_key_file(folder / "key")
    with pytest.raises(KeyFileError):
        identity(folder)
    assert sorted((path.name, path.lstat().st_mtime_ns) for path in folder.iterdir()) == before


def test_a_key_of_another_agent_is_refused_until_its_owner_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    theirs = open_key_file(other / "key")
    (folder / "key").write_bytes((other / "key").read_bytes())
    with pytest.raises(KeyFileError, match="symphony key .*home --accept"):
        open_key_file(folder / "key")
    assert main(["key", str(folder)]) == 2
    assert main(["key", str(folder), "--accept"]) == 0
    assert capsys.readouterr().out.strip() == theirs.did == open_key_file(folder / "key").did
    (folder / "key").unlink()
    assert main(["key", str(folder)]) == 2
    assert main(["key", str(folder), "--accept"]) == 0
    assert open_key_file(folder / "key").did != theirs.did


def test_key_and_record_lost_together_are_missed_beside_a_state(tmp_path: Path) -> None:
    Home(tmp_path / "homes" / "run").commit(State(adapter=ADAPTER))
    for place in (tmp_path, tmp_path / "homes" / "run"):
        place.chmod(0o700)
        with pytest.raises(KeyFileError, match="missing, though this is the folder of an agent with a state"):
            open_key_file(place / "key")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(KeyFileError, match=r"has a state and no identity\.json"):
        open_key_file(tmp_path / "key")


def test_a_raw_key_is_taken_into_a_new_home_only_and_gets_a_checksum(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    for place in (new, folder):
        (place / "key").write_bytes(bytes(range(32)))
        (place / "key").chmod(0o600)
    assert open_key_file(new / "key").private_key == bytes(range(32))
    assert len((new / "key").read_bytes()) == 72
    with pytest.raises(KeyFileError, match="but this folder is of did:key"):
        open_key_file(folder / "key")


def test_killed_between_key_and_record_it_goes_on(folder: Path) -> None:
    did = open_key_file(folder / "key").did
    record = (folder / "identity.json").read_bytes()
    (folder / "identity.json").unlink()
    assert open_key_file(folder / "key").did == did
    rotated = rotate_key(folder / "key").did
    (folder / "identity.json").write_bytes(record)  # a kill after the new key, before its record
    assert open_key_file(folder / "key").did == rotated
    assert json.loads((folder / "identity.json").read_text())["did"] == rotated


@pytest.mark.parametrize("harm", [_dangling, _folder, _empty, _pipe])
def test_a_harmed_record_is_refused(folder: Path, harm: Harm) -> None:
    harm(folder / "identity.json")
    with pytest.raises(KeyFileError, match=r"identity\.json: damaged"):
        open_key_file(folder / "key")


@pytest.mark.parametrize("harm", HARMS[:5])
def test_pins_that_were_there_are_missed(folder: Path, harm: Harm) -> None:
    pins = folder / "peers.json"
    pins.write_text(json.dumps({"agents": {"0": open_key_file(folder / "key").did}}))
    assert Home(folder).pins() is not None
    pins.write_text(json.dumps({"agents": {}}))  # its owner may change it
    assert Home(folder).pins() is not None
    harm(pins)
    with pytest.raises(PinsError, match=r"peers\.json: "):
        Home(folder).pins()
    with pytest.raises(PinsError):
        Home(folder).found("run", RECIPE.to_json())
    assert not (folder / FOUNDING).exists()
    if harm is _gone:
        with pytest.raises(KeyFileError, match="do without by: symphony key"):
            identity(folder)
        assert main(["key", str(folder), "--accept"]) == 0
        assert Home(folder).pins() is None


@pytest.mark.parametrize("harm", HARMS)
def test_what_a_home_was_founded_for_is_missed_beside_its_state(tmp_path: Path, harm: Harm) -> None:
    home = Home(tmp_path)
    home.found("run", RECIPE.to_json())
    home.commit(State(adapter=ADAPTER))
    harm(tmp_path / FOUNDING)
    for use in (home.founding, lambda: home.found("run", RECIPE.to_json())):
        with pytest.raises(HomeError, match=r"founding\.json: (missing|damaged)"):
            use()


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", "[" * 100_000, '{"run": 1, "recipe_json": 2, "sha256": 3}']
)
def test_a_founding_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FOUNDING).write_text(text)
    with pytest.raises(HomeError, match="damaged"):
        Home(tmp_path).founding()


@pytest.mark.parametrize("harm", [_dangling, _folder, _pipe])
def test_a_state_that_is_no_file_is_no_new_one(tmp_path: Path, harm: Harm) -> None:
    home = Home(tmp_path)
    home.commit(State(adapter=ADAPTER))
    for name in (STATE, COPY):
        harm(tmp_path / name)
    with pytest.raises(HomeError, match="damaged"):
        home.open()


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["node.key", "node.pub"])
def test_a_harmed_pair_of_a_node_is_refused(folder: Path, harm: Harm, name: str) -> None:
    node_key(folder)
    harm(folder / name)
    if (harm, name) == (_gone, "node.pub"):
        assert node_key(folder)[1].exists(), "it follows from the private key"
        return
    with pytest.raises(EdgeError, match=name):
        node_key(folder)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_harmed_certificates_of_a_network_are_refused(folder: Path, harm: Harm, name: str) -> None:
    certificates(folder, [])
    harm(folder / name)
    with pytest.raises(EdgeError, match="restore it|cannot be read|is no file"):
        certificates(folder, [])


def test_keys_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificates(folder, []), certificates(other, [])
    for name in ("ca.pem", "server.key"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes((other / name).read_bytes())
        with pytest.raises(EdgeError, match="damaged|not the key of"):
            certificates(folder, [])
        (folder / name).write_bytes(kept)
    certificates(folder, [])


def test_a_greeting_that_fails_makes_nothing(tmp_path: Path) -> None:
    service = Service(0, Homes(tmp_path).home_of, lasting=True)
    tmp_path.chmod(0o700)
    for harm in (
        {"run": "../x"},
        {"run": 3},
        {"nonce": b"short"},
        {"nonce": "text"},
        {"digest": "0000"},
        {"recipe": "{}"},
        {"recipe": RECIPE.to_json().replace('"device":"cpu"', '"device":"abacus"')},
    ):
        content = greeting(RECIPE, "a-run")
        for key, value in harm.items():
            content.config_records["config"][key] = value
        with pytest.raises(Exception):  # noqa: B017 - by which name is tested elsewhere
            service.answer("hello", content)
        assert not [path for path in tmp_path.glob("homes/*")], harm
    with pytest.raises(HomeError):
        service.answer("train", greeting(RECIPE, "unknown"))
    assert not (tmp_path / "homes").exists()


def test_a_home_that_cannot_be_opened_takes_up_no_place(tmp_path: Path) -> None:
    """The greeting is right as far as can be read, and the model cannot be loaded."""
    tmp_path.chmod(0o700)
    service = Service(0, Homes(tmp_path).home_of, lasting=True)
    strange = load_recipe("smoke", ("agents=2", "model.device=abacus"))
    with pytest.raises(ValueError, match="abacus"):
        service.answer("hello", greeting(strange, "a-run"))
    assert list((tmp_path / "homes").iterdir()) == []
    with pytest.raises(HomeError):
        service.answer("train", greeting(strange, "a-run"))


def test_homes_that_were_not_trained_in_give_way_and_others_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes_module, "MAX_HOMES", 4)
    homes = Homes(tmp_path)
    for number in range(12):
        home = homes.home_of(f"run-{number}")
        assert home.make()
        home.commit(State(adapter=ADAPTER, round=int(number in (2, 3))))
        os.utime(home.folder, (number, number))
    kept = sorted(path.name for path in (tmp_path / "homes").iterdir())
    assert kept == ["run-10", "run-11", "run-2", "run-3"], (
        "bounded, the oldest first, what was trained in stays"
    )
    for name in ("run-10", "run-11"):
        Home(tmp_path / "homes" / name).commit(State(adapter=ADAPTER, round=1))
    with pytest.raises(HomeError, match="remove those that are over"):
        homes.home_of("one-more").make()
    assert not homes.home_of("run-2").make(), "known runs go on"
    (tmp_path / "homes" / "run-3" / STATE).write_bytes(b"harmed")
    (tmp_path / "homes" / "run-3" / COPY).write_bytes(b"harmed")
    with pytest.raises(HomeError):
        Homes(tmp_path).home_of("one-more").make()


def test_a_device_on_its_socket_is_not_locked_out_and_refuses_a_harmed_key(tmp_path: Path) -> None:
    """The deployed way: agent process and messenger."""
    device = tmp_path / "device"
    process = fork_agent(device, 0)
    path = device / "agent.sock"
    try:
        for number in range(70):
            with pytest.raises(AgentRefused):
                broken = greeting(RECIPE, f"run-{number}")
                broken.config_records["config"]["nonce"] = b""
                call_agent(path, "hello", broken)
        assert not (device / "homes").exists()
        first = call_agent(path, "hello", greeting(RECIPE, "first")).config_records["config"]["did"]
        for name in ("key", "identity.json", "peers.json"):
            assert name == "peers.json" or (device / name).exists()
        whole = (device / "key").read_bytes()
        for harm in HARMS:
            harm(device / "key")
            with pytest.raises(
                AgentRefused, match="^KeyFileError; the device's log has more under [0-9a-f]{8}$"
            ):
                call_agent(path, "hello", greeting(RECIPE, "second"))
            (device / "key").rmdir() if (device / "key").is_dir() else (device / "key").unlink(
                missing_ok=True
            )
            (device / "key").write_bytes(whole)
            (device / "key").chmod(0o600)
        assert call_agent(path, "hello", greeting(RECIPE, "second")).config_records["config"]["did"] == first
        assert health(device)["errors"] == 70 + len(HARMS)
        assert sorted(home.name for home in (device / "homes").iterdir()) == ["first", "second"]
    finally:
        process.kill()
        process.wait()
