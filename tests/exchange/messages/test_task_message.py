from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import KINDS, announce_huge, damage

from examples import examples, few_or
from symphony_fl import refusals
from symphony_fl.exchange.messages.envelope import open_envelope
from symphony_fl.exchange.messages.header import HEADER_LIMIT
from symphony_fl.exchange.messages.task_message import (
    _DOMAIN,
    LETTER_LIMIT,
    MARK,
    MAX_TASKS,
    MAX_TEXT,
    SharedTask,
    TaskMessage,
    fitting,
    is_task_message,
    open_task_message,
    seal_task_message,
)
from symphony_fl.identity.did_key import did_from_public_key, load_private_key, public_key_of
from symphony_fl.identity.signatures import signed_message

RUN = b"R" * 16
KEYS = tuple(bytes([n + 1] * 32) for n in range(3))
DIDS = tuple(did_from_public_key(public_key_of(key)) for key in KEYS)
TASK = SharedTask("reverse", 3, "abc", 0.5, 4)

text_within = st.text(max_size=MAX_TEXT // 4)  # a character is 4 bytes of UTF-8 at most
shared_tasks = st.builds(
    SharedTask,
    skill=st.text(max_size=8),
    difficulty=st.integers(0, 255),
    text=text_within,
    success=st.floats(0, 1, width=32),
    attempts=st.integers(1, 65535),
)


def opened(data: bytes, **newest: int) -> TaskMessage:
    """What a neighbour that knows the first two agents makes of it."""
    return open_task_message(
        data, RUN, DIDS[:2], {DIDS[int(a[1:])]: n for a, n in newest.items()}, max_round=20
    )


def signed(fields: Any, agent: int = 0) -> bytes:
    """A known sender that signs what no honest one would."""
    body = MARK + (fields if isinstance(fields, bytes) else msgpack.packb(fields, use_single_float=True))
    return body + load_private_key(KEYS[agent]).sign(signed_message(_DOMAIN, RUN, body))


def fields_of(data: bytes) -> list[Any]:
    fields = msgpack.unpackb(data[len(MARK) : -64])
    assert isinstance(fields, list)
    return fields


def refused(data: bytes, error: type[refusals.Refusal], **newest: int) -> None:
    with pytest.raises(refusals.Refusal) as caught:
        opened(data, **newest)
    assert type(caught.value) is error, repr(caught.value)


@given(st.lists(shared_tasks, max_size=MAX_TASKS), st.integers(0, 20))
def test_what_is_opened_is_what_was_sealed(tasks: list[SharedTask], round: int) -> None:
    tasks = fitting(tasks)
    data = seal_task_message(RUN, KEYS[1], round, tasks)
    assert is_task_message(data) and len(data) <= LETTER_LIMIT
    assert opened(data) == TaskMessage(DIDS[1], round, tuple(tasks))


def test_a_letter_of_small_tasks_is_small() -> None:
    assert len(seal_task_message(RUN, KEYS[0], 3, [TASK] * 4)) <= 190


def test_what_does_not_fit_stays_at_home() -> None:
    long, longest = SharedTask("r", 1, "x" * (MAX_TEXT + 1), 0.5, 4), SharedTask("r", 1, "ß" * 256, 0.5, 4)
    assert fitting([long, TASK]) == [TASK]
    assert len(fitting([TASK] * 40)) == MAX_TASKS
    most = fitting([longest] * 40)
    assert len(most) == 31, "32 of 512 bytes are more than 16 KiB"
    assert LETTER_LIMIT - 530 < len(seal_task_message(RUN, KEYS[0], 1, most)) <= LETTER_LIMIT
    with pytest.raises(ValueError, match="16384"):
        seal_task_message(RUN, KEYS[0], 1, [longest] * 32)


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([TASK] * 33, "33 tasks"),
        ([SharedTask("reverse", 3, "x" * 513, 0.5, 4)], "513 bytes"),
        ([SharedTask("reverse", 256, "abc", 0.5, 4)], "difficulty = 256"),
        ([SharedTask("reverse", 3, "abc", 1.5, 4)], "success = 1.5"),
        ([SharedTask("reverse", 3, "abc", 0.5, 0)], "attempts = 0"),
        ([SharedTask("reverse", 3, "\ud800", 0.5, 4)], "surrogates"),
    ],
)
def test_an_honest_sender_does_not_seal_what_would_be_refused(tasks: list[SharedTask], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        seal_task_message(RUN, KEYS[0], 1, tasks)
    with pytest.raises(ValueError, match="round -1"):
        seal_task_message(RUN, KEYS[0], -1, [])


def test_every_named_refusal() -> None:
    data = seal_task_message(RUN, KEYS[0], 3, [TASK, TASK])

    def changed(place: int, value: object, agent: int = 0) -> bytes:
        fields = fields_of(data)
        fields[place] = value
        return signed(fields, agent)

    def with_task(*row: object) -> bytes:
        return changed(4, [list(row)])

    row = ["reverse", 3, "abc", 0.5, 4]
    assert opened(with_task(*row)).tasks == (TASK,)
    refused(data[:60], refusals.Truncated)
    refused(data[:-1], refusals.Malformed)
    refused(data + bytes(LETTER_LIMIT), refusals.Oversized)
    refused(changed(4, [row] * 1000), refusals.Oversized)
    refused(changed(4, [row] * 33), refusals.TooMany)
    refused(with_task("reverse", 3, "x" * 513, 0.5, 4), refusals.TooLong)
    refused(with_task("r" * 33, 3, "abc", 0.5, 4), refusals.TooLong)
    refused(with_task("reverse", 3, "abc", float("nan"), 4), refusals.NotFinite)
    refused(with_task("reverse", 3, "abc", 1.25, 4), refusals.Malformed)
    refused(with_task("reverse", -1, "abc", 0.5, 4), refusals.Malformed)
    refused(with_task("reverse", 3, "abc", 0.5, 0), refusals.Malformed)
    refused(with_task("reverse", True, "abc", 0.5, 4), refusals.Malformed)
    refused(with_task("reverse", 3, "abc", "cba", 0.5, 4), refusals.Malformed)  # an answer has no place
    refused(changed(0, 2), refusals.WrongVersion)
    refused(changed(0, True), refusals.WrongVersion)
    refused(changed(1, b"none"), refusals.WrongRun)
    refused(changed(2, b"somebody"), refusals.UnknownSender)
    refused(seal_task_message(RUN, KEYS[2], 3, [TASK]), refusals.UnknownSender)
    refused(signed(fields_of(data), agent=1), refusals.BadSignature)
    refused(data[:-64] + bytes(64), refusals.BadSignature)
    refused(seal_task_message(b"RRRR" + b"x" * 12, KEYS[0], 3, [TASK]), refusals.BadSignature)
    refused(data, refusals.Replayed, a0=3)
    refused(data, refusals.Replayed, a0=9)
    refused(changed(3, 21), refusals.FromTheFuture)
    refused(changed(3, 1 << 31), refusals.Malformed)
    refused(signed(msgpack.packb(fields_of(data))), refusals.Malformed)  # rates as 64 bits
    huge = [*fields_of(data)[:4], [[*row[:3], 1e300, 4]]]
    refused(signed(msgpack.packb(huge)), refusals.Malformed)  # no float of 32 bits
    assert opened(data, a0=2, a1=20).round == 3


def test_letters_and_envelopes_are_not_mistaken_for_each_other(make_run: Callable[..., Any]) -> None:
    run = make_run()
    envelope, letter = run.seal().data, seal_task_message(run.session.run, run.keys[0], 3, [TASK])
    assert int.from_bytes(MARK[:2], "big") > HEADER_LIMIT and not is_task_message(envelope)
    with pytest.raises(refusals.Oversized):
        open_envelope(letter, run.expectation())
    with pytest.raises(refusals.Malformed):
        open_task_message(envelope, run.session.run, run.dids, {}, 20)
    # The same bytes signed as an envelope are no letter's signature.
    body = letter[:-64]
    posed = signed_message(b"symphony-fl/envelope/1\0", RUN, body)
    refused(body + load_private_key(KEYS[0]).sign(posed), refusals.BadSignature)


def test_names_are_unique_and_each_is_met() -> None:
    names = [error.name for error in refusals.TASK_MESSAGE_REFUSALS]
    assert len(set(names)) == len(names) and {"too_many", "too_long", "replayed"} <= set(names)


@examples(300)
@given(data=st.binary(max_size=300), head=st.integers(0, 120))
def test_any_bytes_are_refused(data: bytes, head: int) -> None:
    whole = seal_task_message(RUN, KEYS[0], 3, [TASK, TASK])
    for sample in (data, MARK + data, whole[:head] + data):
        with pytest.raises(refusals.Refusal):
            opened(sample)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32)
    | st.binary(max_size=9)
    | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=20,
)


def test_signed_nonsense_from_a_known_sender_never_crashes() -> None:
    outcomes: Counter[str] = Counter()

    @examples(300)
    @given(fields=st.lists(anything, max_size=6), place=st.integers(0, 4), value=anything)
    @example(fields=[], place=3, value=7)
    @example(fields=[], place=4, value=[])
    def send(fields: list[Any], place: int, value: Any) -> None:
        with pytest.raises(refusals.Refusal):
            opened(signed(msgpack.packb(fields, use_single_float=True)))
        altered = fields_of(seal_task_message(RUN, KEYS[0], 3, [TASK]))
        altered[place] = value
        try:
            letter = opened(signed(altered))
        except refusals.Refusal:
            outcomes["refused"] += 1
            return
        outcomes["opened"] += 1
        assert letter == TaskMessage(DIDS[0], letter.round, letter.tasks) and place in (0, 3, 4)

    send()
    assert outcomes["opened"] and outcomes["refused"]


def test_thousands_of_mutations_none_accepted_none_crashes() -> None:
    rng = np.random.default_rng(22)
    letters = [
        seal_task_message(
            RUN, KEYS[agent], round, [SharedTask("sort", level, "abc" * level, 0.25, 8) for level in levels]
        )
        for agent in (0, 1)
        for round, levels in ((3, (1, 2)), (4, range(1, 33)))
    ]
    seen: dict[str, int] = {}
    for _ in range(few_or(6000)):
        data = bytearray(letters[int(rng.integers(len(letters)))])
        kind = int(rng.integers(5))
        if kind < KINDS:
            damage(data, kind, rng, letters)
        else:
            announce_huge(data, int(rng.integers(len(data) - 5)), rng)
        if bytes(data) in letters:
            continue
        with pytest.raises(refusals.Refusal) as caught:
            opened(bytes(data))
        seen[caught.value.name] = seen.get(caught.value.name, 0) + 1
    assert {"malformed", "bad_signature", "truncated", "unknown_sender", "wrong_run"} <= set(seen)
    assert set(seen) <= {error.name for error in refusals.TASK_MESSAGE_REFUSALS}
