"""Whose key is whose: pins and first words are kept, swaps are refused by name, and a key signed over to is taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from edge_network import Network, Node

from clients.agents.known_keys import KEPT
from clients.home.home import Home
from clients.home.pins import Pins, PinsError, read_pins
from symphony_fl.config.recipe import load_recipe
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.identity.rotation import ROTATION_BYTES, seal_rotation

FRESH = bytes([77]) * 32
FRESH_DID = did_from_public_key(public_key_of(FRESH))
MALLORY = did_from_public_key(public_key_of(bytes([66]) * 32))
LOW_ORDER = did_from_public_key((1).to_bytes(32, "little"))


def _pins(network: Network) -> Pins:
    return Pins(dict(network.roster), "edge", "", "peers.json")


def test_the_first_key_heard_is_kept_and_a_swap_is_counted() -> None:
    node = Network(3).nodes[0]
    known = dict(node.state.roster)
    assert node.known_keys.admit(node.state, {1: MALLORY, 2: known["2"]}, b"") == {"refused/wrong_peer": 1}
    assert node.state.roster == known


@pytest.mark.parametrize(
    "roster",
    [
        {2: "did:key:zNot"},
        {2: ""},
        {2: LOW_ORDER},
        {3: MALLORY},
        {-1: MALLORY},
        {0: MALLORY},
        {2: Node(1, 3).did},
    ],
)
def test_words_of_a_roster_that_nobody_can_go_by(roster: dict[int, str]) -> None:
    node = Node(0, 3)
    node.known_keys.admit(node.state, {1: Node(1, 3).did}, b"")
    known = dict(node.state.roster)
    assert node.known_keys.admit(node.state, roster, b"") == {"refused/wrong_peer": 1}
    assert node.state.roster == known


def test_with_pins_a_relay_in_the_middle_is_refused_from_the_first_message() -> None:
    """Without pins a relay that lies from the first roster on stands in the middle; with them it does not."""
    network = Network(3)
    lies = network.roster | {1: MALLORY}
    trusting, pinned = Node(0, 3), Node(0, 3, pins=_pins(network))
    assert trusting.known_keys.admit(trusting.state, lies, b"") == {}
    assert trusting.state.roster["1"] == MALLORY
    assert pinned.known_keys.admit(pinned.state, lies, b"") == {"refused/wrong_peer": 1}
    network.post(1)
    assert pinned.take(network.deliver(0))["merged"] == 2, "honest mail is merged all the same"


def test_pins_also_say_who_is_no_member() -> None:
    network = Network(3)
    pins = Pins({0: network.roster[0], 1: network.roster[1]}, "", "", "peers.json")
    node = Node(0, 3, pins=pins)
    assert node.known_keys.admit(node.state, network.roster, b"") == {"refused/wrong_peer": 1}
    assert set(node.state.roster) == {"0", "1"}


def test_a_rotated_key_is_taken_and_the_old_one_refused_afterwards() -> None:
    network = Network(3)
    reader, writer = network.nodes[0], network.nodes[1]
    network.post(1)
    reader.take(network.deliver(0))
    old_did, statement = writer.did, seal_rotation(writer.key, FRESH, 1)
    network.post(2)
    late = network.deliver(0)  # under the old key, and held back by the relay
    writer.key = FRESH
    writer.open(statement)
    roster = network.roster | {1: FRESH_DID}
    assert reader.known_keys.admit(reader.state, roster, b"") == {"refused/wrong_peer": 1}, (
        "not on a relay's word"
    )
    for node in (network.nodes[0], network.nodes[2]):
        assert node.known_keys.admit(node.state, roster, statement) == {}
    assert reader.state.roster["1"] == FRESH_DID and reader.state.last_seen[FRESH_DID] == 1
    assert old_did not in reader.state.last_seen
    counts = reader.take(late)
    assert counts == {"refused/bad_seal": 1, "merged": 1}, "agent 2's is merged, the old key's is not"
    assert reader.known_keys.admit(reader.state, network.roster, b"") == {"refused/wrong_peer": 1}, (
        "no way back"
    )
    network.post(3)
    assert reader.take(network.deliver(0))["merged"] == 2


def test_a_rotation_survives_in_the_home_and_pins_of_the_earlier_key_stay_good() -> None:
    network = Network(3)
    pins = _pins(network)
    node = Node(0, 3, pins=pins)
    statement = seal_rotation(network.nodes[1].key, FRESH, 1)
    assert node.known_keys.admit(node.state, network.roster | {1: FRESH_DID}, statement) == {}
    node.open(b"")
    assert node.state.roster["1"] == FRESH_DID
    # A loop back to the first key, and the first statement once more: it is older than what led here.
    back = seal_rotation(FRESH, network.nodes[1].key, 2)
    assert node.known_keys.admit(node.state, network.roster, back + statement) == {}
    assert node.known_keys.admit(node.state, network.roster | {1: FRESH_DID}, statement) == {
        "refused/wrong_peer": 1
    }
    node.open(b"")
    assert node.state.roster["1"] == network.roster[1]
    assert node.state.arrays[KEPT].size == 2 * ROTATION_BYTES


def test_bad_statements_are_counted_and_move_nobody() -> None:
    network = Network(3)
    node, known = network.nodes[0], dict(network.nodes[0].state.roster)
    swapped = network.roster | {1: MALLORY}
    genuine = seal_rotation(network.nodes[1].key, FRESH, 1)
    forged = genuine[:36] + public_key_of(bytes([66]) * 32) + genuine[68:]
    taken = seal_rotation(network.nodes[1].key, network.nodes[2].key, 1)  # to another agent's key
    cases = {forged: "bad_rotation", genuine[:100]: "truncated", genuine: "wrong_peer"}
    for statement, name in cases.items():
        assert f"refused/{name}" in node.known_keys.admit(node.state, swapped, statement)
    assert "refused/wrong_peer" in node.known_keys.admit(node.state, {1: network.roster[2]}, taken)
    assert "refused/oversized" in node.known_keys.admit(node.state, {}, bytes(ROTATION_BYTES * 4097))
    assert node.state.roster == known and KEPT not in node.state.arrays


def test_pins_for_another_key_than_the_homes_are_refused_at_opening() -> None:
    network = Network(3)
    with pytest.raises(PinsError, match=r"agents\.0 = did:key.*this home's key is did:key"):
        Node(0, 3, key=FRESH, pins=_pins(network))
    rotated = Node(0, 3, pins=_pins(network))
    statement = seal_rotation(rotated.key, FRESH, 1)
    rotated.key = FRESH
    rotated.open(statement)  # pins that name this agent's earlier key are good
    assert rotated.state.roster["0"] == FRESH_DID


def test_pins_are_read_and_hold_the_recipe(tmp_path: Path) -> None:
    assert read_pins(tmp_path) is None
    recipe = load_recipe("smoke", ["exchange.encryption=edge"])
    values = {"agents": {"0": MALLORY}, "encryption": "edge", "recipe": recipe.digest}
    (tmp_path / "peers.json").write_text(json.dumps(values))
    home = Home(tmp_path)
    for overrides, said in (
        (["rounds=9", "exchange.encryption=edge"], "digest"),
        ([], "exchange.encryption = 'none'"),
    ):
        with pytest.raises(PinsError, match=said):
            home.found("run", load_recipe("smoke", overrides).to_json())
    assert not (tmp_path / "founding.json").exists(), "a refused recipe must not keep the right one out"
    home.found("run", recipe.to_json())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"agents": []}', '{"agents": {"0": "did:key:z1"}}', '{"agents": {"x": "%s"}}',
     '{"agents": {"0": "%s", "1": "%s"}}', '{"agents": {}, "encryption": "none"}', '{"agents": {}, "recipe": 1}',
     '{"agents": {}, "peers": 1}', "[" * 100000],
)  # fmt: skip
def test_pins_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "peers.json").write_text(text.replace("%s", MALLORY))
    with pytest.raises(PinsError, match=r"peers\.json: "):
        read_pins(tmp_path)


def test_rotations_do_not_disturb_what_was_merged() -> None:
    node = Network(2).nodes[0]
    before = node.state.adapter.copy()
    node.known_keys.admit(node.state, {1: FRESH_DID}, seal_rotation(bytes([2]) * 32, FRESH, 1))
    assert np.array_equal(node.state.adapter, before)
