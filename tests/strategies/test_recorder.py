"""What agents report on evaluation rounds, through real Flower messages into a real history and MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from empty_store import empty_store
from flwr.app import Message, MessageType, Metadata, RecordDict
from flwr.app.message.message import make_message
from mlflow import MlflowClient

from clients.protocol.messages import pack_report
from strategies.recorder import Recorder
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History
from symphony_fl.tracking.tracker import Tracker

GOOD = {"accuracy/mean": 0.6, "accuracy/sort": 1.0, "accuracy/add": 0.2}


@dataclass
class Books:
    """A recorder and where it writes."""

    recorder: Recorder
    history: History
    tracker: Tracker

    def logged(self, agent: int | None) -> dict[str, float]:
        """Last values of an agent's metrics, or of the network's."""
        client = MlflowClient(tracking_uri=self.tracker.uri)
        parent = client.get_run(self.tracker.parent)
        if agent is None:
            return dict(parent.data.metrics)
        where = f"tags.mlflow.parentRunId = '{self.tracker.parent}' and tags.agent = '{agent}'"
        (child,) = client.search_runs([parent.info.experiment_id], where)
        return dict(child.data.metrics)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests."""
    return empty_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def books(tmp_path: Path, uri: str) -> Iterator[Books]:
    history = History(tmp_path / "history.jsonl")
    tracker = Tracker(uri, load_recipe("smoke", []), "test", tmp_path)
    recorder = Recorder(history, tracker, agents=2, rounds=5, evaluate_every=5, skills=["sort", "add"])
    yield Books(recorder, history, tracker)
    history.close()


def _reply(metrics: dict[str, float], solved: object = "01") -> Message:
    """As it comes off the wire: only a running ServerApp may make one with `Message(...)`."""
    content = RecordDict(pack_report({}, {"metrics": metrics, "adapter": "aa", "solved": solved}))
    metadata = Metadata(1, "a", 7, 1, "b", "", 0.0, 60.0, MessageType.EVALUATE)
    return make_message(metadata, content)


def test_specialisation_is_logged_on_evaluation_rounds(books: Books) -> None:
    assert books.recorder.report("evaluate", 5, 0, _reply(GOOD))
    assert books.recorder.report(
        "evaluate", 5, 1, _reply({**GOOD, "accuracy/sort": 0.0, "accuracy/add": 0.6})
    )
    books.recorder.round_finished(5)
    network = books.logged(None)
    assert network["affinity/mean_abs"] == pytest.approx(0.35)
    assert 0 < network["diversity"] < 1 and 0 < network["specialisation"] < 1
    first, second = books.logged(0), books.logged(1)
    assert (first["affinity/sort"], first["affinity/add"]) == pytest.approx((0.5, -0.2))
    assert (second["affinity/sort"], second["affinity/add"]) == pytest.approx((-0.5, 0.2))
    assert second["specialisation"] == 1.0
    assert network["specialisation"] == pytest.approx((first["specialisation"] + 1.0) / 2)


def test_rounds_without_an_evaluation_have_no_such_figures(books: Books) -> None:
    assert books.recorder.report("train", 1, 0, _reply({"reward/local": 0.5}))
    books.recorder.round_finished(1)
    assert "diversity" not in books.logged(None) and "specialisation" not in books.logged(0)


@pytest.mark.parametrize("solved", [7, "012", "0 1", None])
def test_outcomes_that_are_none_are_refused(books: Books, solved: object) -> None:
    assert not books.recorder.report("evaluate", 5, 0, _reply(GOOD, solved))
    assert books.recorder.report("evaluate", 5, 1, _reply(GOOD))
    assert [event.solved for event in books.history.events("evaluate")] == ["01"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("accuracy/sort", None), ("accuracy/sort", 1.01), ("accuracy/add", -0.1), ("accuracy/mean", None),
     ("accuracy/mean", 1e9)],
)  # fmt: skip
def test_an_evaluation_that_is_not_whole_is_refused_and_the_round_goes_on(
    books: Books, name: str, value: float | None
) -> None:
    metrics = {key: number for key, number in GOOD.items() if key != name}
    if value is not None:
        metrics[name] = value
    assert not books.recorder.report("evaluate", 5, 0, _reply(metrics))
    assert books.recorder.report("evaluate", 5, 1, _reply(GOOD))
    books.recorder.round_finished(5)
    assert [event.agent for event in books.history.events("evaluate")] == [1]
    assert books.logged(0)["refused/message"] == 1
    assert books.logged(None)["diversity"] == 0.0, "one agent is not diverse"


def test_direct_mail_is_booked_on_its_edge_by_the_receivers_word(tmp_path: Path, books: Books) -> None:
    recorder = Recorder(
        books.history, books.tracker, agents=2, rounds=5, evaluate_every=5, skills=["sort"], direct=True
    )
    assert recorder.report("train", 1, 0, _reply({"direct/1": 700.0, "fallback/unreachable": 1.0}))
    for name, value in (("2", 1.0), ("x", 1.0), ("9" * 5000, 1.0), ("1", -1.0), ("1", 1e18)):
        assert not recorder.report("train", 1, 1, _reply({f"direct/{name}": value}))
    recorder.round_finished(1)
    booked = books.history.metrics("bytes", 1, 0)
    assert booked["bytes/direct"] == booked["bytes/received"] == booked["bytes/edge/1-0"] == 700
    assert booked["bytes/superlink"] == 0 < booked["bytes/flower"]
    assert books.history.metrics("bytes", 1, 1)["bytes/sent"] == 700
    assert books.history.summary(2)["fallback"] == {"unreachable": 1}
    assert books.recorder.report("train", 2, 0, _reply({"direct/1": 700.0}))
    books.recorder.round_finished(2)
    assert "bytes/direct" not in books.history.metrics("bytes", 2, 0), "a run whose mail the server sees"
