"""The public copy: the same bits at the trainer and at every worker, whatever is left out, late or lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl import refusals
from symphony_fl.exchange.broadcast import Copy, Publisher, Subscriber
from symphony_fl.exchange.codecs.codec import CODECS, build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.messages.chunks import cut
from symphony_fl.exchange.messages.session import Session
from symphony_fl.exchange.selection.selection import build_selection
from symphony_fl.identity.did_key import did_from_public_key, public_key_of

P = 2000
KEY = bytes([7] * 32)
TRAINER = did_from_public_key(public_key_of(KEY))
LAYOUT = Layout(("a",), ((P,),))


def session(kind: str, density: float = 0.1, coding: str = "sign") -> Session:
    selection = build_selection("dense" if kind == "values" else "topk", LAYOUT, density)
    return Session(b"r" * 16, b"b" * 16, b"l" * 16, kind, selection, build_codec(coding, 256))


def pair(
    kind: str, *, density: float = 0.1, coding: str = "sign", momentum: float = 0.0, chunk: int = 128,
    bandwidth: int = 0, whole_every: int = 0,
) -> tuple[Publisher, Subscriber]:  # fmt: skip
    initial = np.random.default_rng(0).standard_normal(P).astype(np.float32)
    agreed = session(kind, density, coding)
    return (
        Publisher(
            agreed, KEY, Copy(initial, momentum), chunk=chunk, bandwidth=bandwidth, whole_every=whole_every
        ),
        Subscriber(agreed, Copy(initial, momentum), chunk, last=1000),
    )


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one.view(np.uint32), other.view(np.uint32)))


@given(
    coding=st.sampled_from(sorted(CODECS)),
    momentum=st.sampled_from([0.0, 0.3, 0.9]),
    density=st.sampled_from([0.01, 0.1, 1.0]),
    lag=st.integers(0, 3),
    whole_every=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
@examples(40)
def test_the_copy_is_the_same_to_the_last_bit(
    coding: str, momentum: float, density: float, lag: int, whole_every: int, seed: int
) -> None:
    publisher, worker = pair(
        "difference", coding=coding, momentum=momentum, density=density, whole_every=whole_every
    )
    rng = np.random.default_rng(seed)
    theta, policies = publisher.copy.public.copy(), {0: publisher.copy.policy}
    for step in range(1, 8):
        theta = theta + rng.standard_normal(P).astype(np.float32) / 10
        sent = publisher.publish(theta, step)
        policies[step] = publisher.copy.policy
        for piece in rng.permutation(len(sent)):
            worker.take(sent[piece], TRAINER)
        assert worker.advance(step - lag, TRAINER) == 0
        assert worker.copy.version == max(0, step - lag)
        assert same(worker.copy.policy, policies[worker.copy.version])
        restored = Subscriber(worker.session, Copy(worker.copy.public, momentum), worker.chunk, 1000)
        restored.load(worker.arrays())
        worker = restored


def test_what_is_left_out_comes_later() -> None:
    """Error feedback: once the weights stand still, the copy reaches them."""
    publisher, _ = pair("difference", coding="sign")
    theta = publisher.copy.public + np.random.default_rng(1).standard_normal(P).astype(np.float32)
    first = publisher.residual(theta)
    for step in range(1, 150):
        publisher.publish(theta, step)
    assert publisher.residual(theta) < 0.01 * first


def test_momentum_averages_the_copies() -> None:
    publisher, _ = pair("difference", coding="float32", density=1.0, momentum=0.5)
    start = publisher.copy.public.copy()
    publisher.publish(start + 1, 1)
    publisher.publish(start + 3, 2)
    np.testing.assert_allclose(publisher.copy.policy - start, 0.5 * 0.5 * 1 + 0.5 * 3, rtol=1e-4)


def test_a_missing_change_is_noticed_and_waited_for() -> None:
    publisher, worker = pair("difference", chunk=4096)
    theta = publisher.copy.public
    sent = {step: publisher.publish(theta + np.float32(step), step)[0] for step in (1, 2, 3)}
    worker.take(sent[1], TRAINER)
    worker.take(sent[3], TRAINER)
    assert worker.advance(3, TRAINER) == 1 and worker.copy.version == 1, "3 was applied without 2"
    worker.take(sent[2], TRAINER)
    assert worker.advance(3, TRAINER) == 0 and worker.copy.version == 3
    assert same(worker.copy.public, publisher.copy.public)
    for data in sent.values():
        with pytest.raises(refusals.Replayed):
            worker.take(data, TRAINER)


def test_whoever_missed_a_change_or_is_new_catches_up_with_whole_weights() -> None:
    publisher, worker = pair("difference", chunk=4096, momentum=0.5, whole_every=3)
    theta, worker_of_old = publisher.copy.public, worker
    for step in range(1, 6):
        for piece in publisher.publish(theta + np.float32(step), step):
            if step != 2:  # lost for good
                worker.take(piece, TRAINER)
        worker.advance(step, TRAINER)
        assert worker.copy.version == {1: 1, 2: 1}.get(step, step)
    assert worker is worker_of_old and same(worker.copy.policy, publisher.copy.policy)


def test_of_whole_weights_the_newest_wins() -> None:
    publisher, worker = pair("values", density=1.0, coding="float32", chunk=1024)
    theta = publisher.copy.public
    for step in (1, 2, 3):
        sent = publisher.publish(theta + np.float32(step), step)
        for piece in sent[1:] if step == 1 else sent:  # of the first a chunk is lost
            worker.take(piece, TRAINER)
    assert worker.advance(3, TRAINER) == 0 and worker.copy.version == 3
    assert same(worker.copy.policy, theta + np.float32(3))
    assert worker.arrays().keys() == {"public", "policy", "version"}


def test_how_old_weights_are_follows_from_their_bytes() -> None:
    """A link of 2,000 bytes a step: 8,000 bytes of weights take over four steps, a change of 200 none."""
    ages = {}
    for kind in ("values", "difference"):
        coding = "float32" if kind == "values" else "sign"
        publisher, worker = pair(kind, coding=coding, chunk=1024, bandwidth=2000)
        theta, rng, found = publisher.copy.public, np.random.default_rng(0), []
        for step in range(1, 41):
            theta = theta + rng.standard_normal(P).astype(np.float32)
            sent = publisher.publish(theta, step)
            assert sum(map(len, sent)) <= 2000 + 2000
            for piece in sent:
                worker.take(piece, TRAINER)
            worker.advance(step, TRAINER)
            found.append(step - worker.copy.version)
        ages[kind] = np.mean(found[10:])
    assert ages["difference"] == 0 and 4 <= ages["values"] <= 8


def test_another_key_is_no_trainer() -> None:
    publisher, worker = pair("difference", chunk=4096)
    other = Publisher(publisher.session, bytes([8] * 32), Copy(publisher.copy.public, 0.0), chunk=4096)
    with pytest.raises(refusals.UnknownSender):
        worker.take(other.publish(publisher.copy.public + 1, 1)[0], TRAINER)


def test_a_publisher_goes_on_where_it_stopped() -> None:
    straight, _ = pair("values", density=1.0, coding="float32", chunk=1024, bandwidth=1500)
    stopped, _ = pair("values", density=1.0, coding="float32", chunk=1024, bandwidth=1500)
    theta = straight.copy.public
    for step in range(1, 12):
        weights = theta + np.float32(step)
        resumed = Publisher(stopped.session, KEY, Copy(theta, 0.0), chunk=1024, bandwidth=1500)
        resumed.load(stopped.arrays())
        assert resumed.publish(weights, step) == straight.publish(weights, step)
        stopped = resumed


def test_no_more_is_gathered_than_weights_can_take() -> None:
    publisher, worker = pair("difference", chunk=1024)
    longest = max(worker.whole.max_bytes, worker.session.max_bytes) // 1024 + 2
    first, *_ = cut(publisher.session.run, KEY, 1, bytes(1024 * longest), 1024)
    with pytest.raises(refusals.Oversized):
        worker.take(first, TRAINER)
