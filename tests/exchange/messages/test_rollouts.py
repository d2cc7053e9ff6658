"""Rollouts on the wire: what is sealed is what is opened; damage and impossible completions are refused by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import KINDS, announce_huge, damage

from examples import examples
from symphony_fl import refusals
from symphony_fl.exchange.messages.rollouts import (
    Form,
    Rollouts,
    check_completions,
    open_rollouts,
    seal_rollouts,
)
from symphony_fl.identity.did_key import did_from_public_key, public_key_of

KEYS = tuple(bytes([n + 1] * 32) for n in range(3))
DIDS = tuple(did_from_public_key(public_key_of(key)) for key in KEYS)
FORM = Form(run=b"R" * 16, vocabulary=50, end=1, longest=4, rows=6)


def some(rng: np.random.Generator, form: Form = FORM, rows: int = 6) -> Rollouts:
    """Completions as sampling gives them."""
    lengths = rng.integers(1, form.longest + 1, rows)
    ids = rng.integers(2, form.vocabulary, int(lengths.sum()))
    for last, length in zip(np.cumsum(lengths) - 1, lengths, strict=True):
        if length < form.longest or rng.random() < 0.5:
            ids[last] = form.end
    logprobs = -rng.random(ids.size, np.float32)
    return Rollouts(3, 1, 2, b"p" * 16, lengths, ids, logprobs)


@given(seed=st.integers(0, 2**32 - 1), vocabulary=st.sampled_from([50, 1 << 16, 1 << 17]))
@examples(50)
def test_what_is_sealed_is_what_is_opened(seed: int, vocabulary: int) -> None:
    form = replace(FORM, vocabulary=vocabulary)
    ours = some(np.random.default_rng(seed), form)
    data = seal_rollouts(form, KEYS[0], ours)
    assert len(data) <= form.max_bytes
    did, theirs = open_rollouts(data, form, DIDS[:2])
    check_completions(theirs, form, 6)
    assert did == DIDS[0]
    assert (theirs.step, theirs.part, theirs.version, theirs.policy) == (3, 1, 2, b"p" * 16)
    for name in ("lengths", "ids", "logprobs"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_damage_is_refused_by_name() -> None:
    outcomes: Counter[str] = Counter()

    @given(kind=st.integers(0, KINDS), seed=st.integers(0, 2**32 - 1))
    @examples(200)
    def hurt_one(kind: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        whole, other = (seal_rollouts(FORM, KEYS[0], some(rng)) for _ in range(2))
        hurt = bytearray(whole)
        if kind == KINDS:
            announce_huge(hurt, int(rng.integers(4, len(hurt) - 5)), rng)
        else:
            damage(hurt, kind, rng, [other])
        if bytes(hurt) in (whole, other):
            return
        outcomes["hurt"] += 1
        with pytest.raises(refusals.ROLLOUT_REFUSALS[:7]):
            open_rollouts(bytes(hurt), FORM, DIDS[:2])

    hurt_one()
    assert outcomes["hurt"] > 10


def test_who_may_not_send() -> None:
    ours = some(np.random.default_rng(0))
    with pytest.raises(refusals.UnknownSender):
        open_rollouts(seal_rollouts(FORM, KEYS[2], ours), FORM, DIDS[:2])
    with pytest.raises(refusals.WrongRun):
        open_rollouts(seal_rollouts(replace(FORM, run=b"S" * 16), KEYS[0], ours), FORM, DIDS[:2])
    with pytest.raises(refusals.Oversized):
        open_rollouts(seal_rollouts(FORM, KEYS[0], ours), replace(FORM, rows=1, longest=1), DIDS[:2])


def rollouts(lengths: list[int], ids: list[int], logprobs: list[float] | None = None) -> Rollouts:
    given = np.array([-1.0] * len(ids) if logprobs is None else logprobs, np.float32)
    return Rollouts(3, 1, 2, b"p" * 16, np.array(lengths), np.array(ids), given)


def test_completions_that_sampling_cannot_give() -> None:
    check_completions(rollouts([2, 4, 4], [9, 1, 9, 9, 9, 9, 9, 9, 9, 1]), FORM, 3)
    for wrong, error in (
        (rollouts([2], [9, 1]), refusals.WrongTask),
        (rollouts([2, 1], [9, 50, 1]), refusals.BadTokens),  # no such token
        (rollouts([2, 1], [9, 9, 1]), refusals.BadTokens),  # stops before its end
        (rollouts([4, 1], [9, 1, 9, 1, 1]), refusals.BadTokens),  # goes on after its end
        (rollouts([2, 1], [9, 1, 1], [-1, float("nan"), -1]), refusals.NotFinite),
        (rollouts([2, 1], [9, 1, 1], [-1, float("-inf"), -1]), refusals.NotFinite),
        (rollouts([2, 1], [9, 1, 1], [-1, 0.1, -1]), refusals.NotFinite),
    ):
        with pytest.raises(error):
            check_completions(wrong, FORM, 2)


def test_lengths_must_fit_the_tokens() -> None:
    for lengths in ([2, 2], [0, 3], [5], []):
        data = seal_rollouts(FORM, KEYS[0], rollouts(lengths, [9, 1, 1]))
        with pytest.raises(refusals.Malformed):
            open_rollouts(data, FORM, DIDS[:2])
    assert msgpack.unpackb(data[4:-64])[0] == 1
