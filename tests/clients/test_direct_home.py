"""What of direct mail outlives processes: mail that was accepted, and who has accepted. Two agents in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from device import greeting, order
from flwr.app import RecordDict

from clients.home.home import Home
from clients.protocol.messages import ADDRESSES, CONFIG, OUTBOX, unpack_details, unpack_envelopes
from clients.service.service import Service
from clients.transport.endpoint import Endpoint
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe

pytest.importorskip("iroh")


class Pair:
    """Two agents, and the messages a server would send them."""

    def __init__(self, folder: Path) -> None:
        options = ("agents=2", "rounds=20", "learner.steps=0", "exchange.transport=iroh")
        self.recipe: Recipe = load_recipe("smoke", options)
        self.folder = folder
        self.roster: dict[int, str] = {}
        self.book: dict[int, list[str]] = {}
        self.services = {number: self.service(number) for number in (0, 1)}
        for number in (0, 1):
            config = self.hello(number).config_records[CONFIG]
            self.roster[number] = str(config["did"])
            self.book[number] = json.loads(str(config[ADDRESSES]))
        for number in (0, 1):
            self.ask("evaluate", number, 0)

    def service(self, number: int) -> Service:
        endpoint = partial(Endpoint, bind="127.0.0.1:0")
        home = self.folder / str(number)
        return Service(number, lambda run: Home(home), lasting=True, endpoint=endpoint)

    def restart(self, number: int) -> None:
        """As after a kill: nothing is left but the home."""
        self.services[number].stop()
        self.services[number] = self.service(number)

    def hello(self, number: int) -> RecordDict:
        return self.services[number].answer("hello", greeting(self.recipe))

    def ask(self, kind: str, number: int, round: int, mail: dict[str, bytes] | None = None) -> RecordDict:
        content = order(self.recipe, round, mail or {}, self.roster)
        content.config_records[CONFIG][ADDRESSES] = json.dumps(self.book)
        return self.services[number].answer(kind, content)

    def close(self) -> None:
        for service in self.services.values():
            service.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    found.close()


def _metrics(answer: RecordDict) -> dict[str, float]:
    return dict(unpack_details(answer)["metrics"])


def _outbox(answer: RecordDict) -> dict[str, bytes]:
    return unpack_envelopes(answer, OUTBOX)


def test_accepted_mail_is_merged_after_a_restart_and_offered_to_no_server(pair: Pair) -> None:
    first = pair.ask("train", 0, 1)
    assert _metrics(first)["delivered"] == 1 and _outbox(first) == {}
    assert _outbox(pair.hello(0)) == {}, "a server that lost its mail is given none"
    pair.restart(0)
    assert _outbox(pair.hello(0)) == {}
    pair.restart(1)
    own = pair.ask("train", 1, 1)
    assert "merged" not in _metrics(own), "the mail of a round belongs to the next one"
    second = pair.ask("train", 1, 2)
    assert _metrics(second)["merged"] == 1 and _metrics(second)["direct/0"] > 0
    assert list((pair.folder / "1" / "inbox").iterdir()) == []


def test_mail_that_is_not_accepted_stays_for_the_mailbox_until_it_is(pair: Pair) -> None:
    pair.services[1].close()  # between two runs: nobody may deliver
    first = pair.ask("train", 0, 1)
    assert _metrics(first)["fallback/unknown_sender"] == 1 and list(_outbox(first)) == ["0>1"]
    assert list(_outbox(pair.hello(0))) == ["1/0>1"], "nor is it lost with a server"
    pair.ask("evaluate", 1, 0)
    again = pair.ask("train", 0, 1)
    assert _metrics(again)["delivered"] == 1 and _outbox(again) == {}
    pair.ask("train", 1, 1)
    twice = pair.ask("train", 1, 2, mail={"0/1/0": _outbox(first)["0>1"]})
    assert _metrics(twice)["merged"] == 1, "it came both ways"


def test_who_cannot_be_reached_is_tried_less_and_less_until_it_is_somewhere_else(pair: Pair) -> None:
    pair.services[1].stop()
    why = []
    for round in range(1, 7):
        metrics = _metrics(pair.ask("train", 0, round))
        why += [name for name in metrics if name.startswith("fallback/")]
    tried, rests = "fallback/unreachable", "fallback/rests"
    assert why == [tried, tried, rests, tried, rests, rests]
    pair.services[1] = pair.service(1)
    pair.book[1] = json.loads(str(pair.hello(1).config_records[CONFIG][ADDRESSES]))
    pair.ask("evaluate", 1, 0)
    assert _metrics(pair.ask("train", 0, 7))["delivered"] == 1


def test_damage_on_disk_costs_mail_and_no_more(pair: Pair) -> None:
    pair.ask("train", 0, 1)
    (pair.folder / "1" / "inbox" / "0-1").write_bytes(b"\xff" * 9)
    (pair.folder / "0" / "delivered.json").write_text("[")
    pair.restart(0)
    assert list(_outbox(pair.hello(0))) == ["1/0>1"], "who knows; merging twice does no harm"
    pair.ask("train", 1, 1)
    metrics = _metrics(pair.ask("train", 1, 2))
    assert metrics["refused/malformed"] == 1 and "merged" not in metrics
    assert _metrics(pair.ask("train", 1, 3)).get("refused/malformed") is None
