"""Whoever runs the SuperLink as an adversary: reads nothing, and whatever it tries is refused by name while honest mail
is merged."""

from __future__ import annotations

import numpy as np
import pytest
from edge_network import Network, Node

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.exchange.messages.sealed_box import SealedBoxes
from symphony_fl.identity.did_key import public_key_of
from symphony_fl.identity.signatures import sender_hint

FLOATS = "exchange.codec=float32"
RULES = [
    ("exchange.rule=average",),
    ("exchange.rule=epidemic", "exchange.selection=topk", "exchange.selection.density=0.1"),
]


@pytest.mark.parametrize("rule", RULES)
def test_encrypted_agents_end_where_plain_ones_do(rule: tuple[str, ...]) -> None:
    """Through parcels, and with the same pieces handed over by hand: the same bits, for `overhead` bytes more."""
    sealed, plain = Network(4, FLOATS, *rule), Network(4, FLOATS, *rule)
    for round in range(1, 6):
        for network in (sealed, plain):
            network.post(round)
        for node, other in zip(sealed.nodes, plain.nodes, strict=True):
            for each in (node, other):
                each.state.adapter = each.state.adapter + np.float32(0.01 * (each.number + round))
        for node in sealed.nodes:
            assert node.take(sealed.deliver(node.number))["merged"] > 0
        plain_mail = {node.number: plain.deliver(node.number) for node in plain.nodes}
        for node in plain.nodes:
            pieces, refused = node.encryption.open(node.state, plain_mail[node.number])
            assert refused == {}
            node.state.adapter = node.exchange.merge(node.state, pieces).adapter
    for node, other in zip(sealed.nodes, plain.nodes, strict=True):
        assert np.array_equal(node.state.adapter, other.state.adapter)


def test_the_relay_reads_nothing() -> None:
    network = Network(3, FLOATS)
    network.post(1)
    node = network.nodes[0]
    (envelope,) = node.plain.values()
    seen = b"".join(data for other in (1, 2) for data in network.mailbox.mail(other).values())
    assert sender_hint(public_key_of(node.key)) in envelope, "else this tests nothing"
    windows = [envelope[start : start + 6] for start in range(len(envelope) - 6)]
    assert not any(window in seen for window in windows)
    counts = np.bincount(np.frombuffer(seen, np.uint8), minlength=256)
    expected = len(seen) / 256
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 400  # chi-squared, 255 degrees of freedom: mean 255, sd 23


def test_what_encryption_costs_is_counted() -> None:
    network = Network(4, FLOATS)
    network.post(1)
    for node in network.nodes:
        (envelope,) = node.plain.values()
        sent = [
            len(data)
            for other in network.nodes
            for label, data in network.mailbox.mail(other.number).items()
            if label.startswith(f"{node.number}/")
        ]
        assert node.figures == {"sealing_bytes": float(sum(sent) - 2 * len(envelope))}
        assert node.figures["sealing_bytes"] <= 2 * 38


def test_every_attempt_of_the_relay_is_refused_by_name_and_honest_mail_is_merged() -> None:
    network = Network(4, FLOATS)
    network.post(1)
    victim = network.nodes[0]  # neighbours 1 and 3
    earlier = network.deliver(0)
    assert victim.take(earlier) == {"merged": 2}
    other_mail = network.deliver(1) | network.deliver(2) | network.deliver(3)
    network.post(2)
    genuine = network.deliver(0)
    (own,) = [d for label, d in network.mailbox.mail(1).items() if label.startswith("0/")]
    (from_1,) = [data for label, data in genuine.items() if label.startswith("1/")]
    changed = bytearray(from_1)
    changed[40] ^= 1
    renumbered = bytearray(from_1)
    renumbered[8] += 1
    impostor = SealedBoxes(victim.exchange.session.run, bytes([99]) * 32)
    stranger_run = SealedBoxes(b"another run here", network.nodes[1].key)
    attacks = {
        "1/2/10": bytes(changed),  # bad_seal
        "1/3/11": bytes(renumbered),  # bad_seal: an old parcel as a new one
        "3/2/12": from_1,  # bad_seal: said to come from another
        "1/2/13": impostor.seal(victim.did, 2, [b"forged"]),  # bad_seal
        "1/2/14": stranger_run.seal(victim.did, 2, [b"of another run"]),  # bad_seal
        "1/2/15": own,  # misdirected: reflected
        "0/2/16": own,  # unknown_sender: from itself
        "7/2/17": from_1,  # unknown_sender
        "1/2/18": next(iter(network.nodes[1].plain.values())),  # not_sealed, though rightly signed
        "1/2/19": from_1[:20],  # truncated
        **{f"1/9/{20 + place}": data for place, data in enumerate(other_mail.values())},  # misdirected
        **{f"{label}0": data for label, data in earlier.items()},  # replayed
    }
    before = victim.state.adapter.copy()
    counts = victim.take(attacks | genuine | {f"{label}1": data for label, data in genuine.items()})
    assert counts == {
        "refused/bad_seal": 5,
        "refused/misdirected": 1 + len(other_mail),
        "refused/unknown_sender": 2,
        "refused/not_sealed": 1,
        "refused/truncated": 1,
        "refused/replayed": 2 + 2,
        "merged": 2,
    }
    assert not np.array_equal(before, victim.state.adapter)


@pytest.mark.parametrize("rule", RULES)
def test_mail_in_another_order_is_accepted_by_its_own_number_once(rule: tuple[str, ...]) -> None:
    network = Network(2, FLOATS, *rule)
    mail: list[dict[str, bytes]] = []
    for round in range(1, 5):
        network.post(round)
        mail.append(network.deliver(0))
    victim = network.nodes[0]
    assert victim.take(mail[2])["merged"] == 1
    held_back = victim.take(mail[0] | mail[1])
    merged = (
        2 if "epidemic" in rule[0] else 0
    )  # that rule takes late updates; averaging refuses what is older
    assert held_back["merged"] == merged
    assert held_back.get("refused/replayed", 0) == 2 - merged
    again = victim.take(mail[0] | mail[1] | mail[2])
    assert again == {"refused/replayed": 3, "merged": 0}
    assert victim.take(mail[3])["merged"] == 1


def test_what_was_had_survives_in_the_home() -> None:
    network = Network(2, FLOATS)
    network.post(1)
    mail, victim = network.deliver(0), network.nodes[0]
    assert victim.take(mail)["merged"] == 1
    reopened = Node(0, 2, FLOATS)
    reopened.state = victim.state
    reopened.open(b"")
    assert reopened.take(mail) == {"refused/replayed": 1, "merged": 0}


def test_a_neighbour_whose_key_is_not_known_gets_nothing() -> None:
    node = Node(0, 3)
    node.known_keys.admit(node.state, {1: Node(1, 3).did}, b"")
    assert list(node.hand_over(1)) == ["0>1"]


def test_a_server_that_averages_adapters_cannot_be_blind() -> None:
    with pytest.raises(RecipeError, match="exchange.encryption: must be 'none' for strategy 'fedavg'"):
        check_recipe(load_recipe("fedavg", ["exchange.encryption=edge"]))
