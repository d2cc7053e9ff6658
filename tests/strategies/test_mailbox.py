"""The mailbox delivers each envelope to each neighbour, forgets only what arrived, and is bounded."""

from __future__ import annotations

import pytest

from strategies import mailbox as module
from strategies.mailbox import Mailbox


def test_every_recipient_gets_a_copy_and_mail_stays_until_confirmed() -> None:
    box = Mailbox()
    box.post(0, 1, [1, 3], {"0": b"abc"})
    assert list(box.mail(1).values()) == [b"abc"] == list(box.mail(3).values())
    assert box.mail(2) == {}
    assert list(box.mail(1)) == list(box.mail(1)), "looking does not take away"
    assert box.confirm(1, list(box.mail(1))) == {0: 3}
    assert box.mail(1) == {} and list(box.mail(3).values()) == [b"abc"]


def test_confirming_twice_counts_once() -> None:
    box = Mailbox()
    box.post(2, 5, [0], {"0": b"xy", "1": b"z"})
    labels = list(box.mail(0))
    assert box.confirm(0, labels) == {2: 3}
    assert box.confirm(0, labels) == {}


def test_posting_the_same_round_again_does_not_double_it() -> None:
    box = Mailbox()
    box.post(0, 1, [1], {"0": b"abc"})
    box.post(0, 1, [1], {"0": b"abc"})
    assert len(box.mail(1)) == 1


def test_mail_stays_in_the_order_of_rounds_when_an_old_one_is_posted_again() -> None:
    box = Mailbox()
    for number in (1, 2, 1):
        box.post(0, number, [1], {"0": b"abc"})
    assert list(box.mail(1)) == ["0/1/0", "0/2/0"]


def test_oversized_envelopes_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENVELOPE", 10)
    box = Mailbox()
    assert box.post(0, 1, [1], {"0": b"x" * 11, "1": b"x" * 10}) == 1
    assert [len(data) for data in box.mail(1).values()] == [10]


def test_an_absent_recipient_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    box = Mailbox()
    for number in range(1, 10):
        box.post(0, number, [1], {"0": b"x"})
    assert list(box.mail(1)) == ["0/7/0", "0/8/0", "0/9/0"]


def test_labels_narrow_down_the_recipients_and_never_widen_them() -> None:
    box = Mailbox()
    box.post(0, 1, [1, 3], {"0>3": b"to 3", "1>2,7": b"to nobody", "2": b"to all"})
    assert list(box.mail(1).values()) == [b"to all"]
    assert list(box.mail(3).values()) == [b"to 3", b"to all"]
    assert box.mail(2) == box.mail(7) == {}


def test_nor_can_it_with_few_large_envelopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10)
    box = Mailbox()
    for number in range(1, 6):
        box.post(0, number, [1], {"0": b"1234"})
        box.post(0, number, [1], {"0": b"1234"})
    assert list(box.mail(1)) == ["0/4/0", "0/5/0"]
    assert box.confirm(1, ["0/4/0", "0/5/0"]) == {0: 8}
    box.post(0, 6, [1], {"0": b"1234567890"})
    assert list(box.mail(1)) == ["0/6/0"], "what was delivered is not counted any more"


def test_who_sends_too_much_drives_out_its_own_mail_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1000)
    box = Mailbox()
    box.post(0, 1, [9], {"0": b"a", "1": b"b"})
    box.post(1, 1, [9], {"0": b"c"})
    box.post(2, 1, [9], {str(number): b"x" for number in range(50)})
    found = box.mail(9)
    assert list(found) == ["0/1/0", "0/1/1", "1/1/0", *(f"2/1/{number}" for number in range(43, 50))]
    box.post(3, 1, [9], {"0": b"y" * 900, "1": b"z" * 900})
    assert "3/1/0" not in box.mail(9) and "3/1/1" in box.mail(9), "bytes are counted, too"
    assert [label for label in box.mail(9) if label[0] in "01"] == ["0/1/0", "0/1/1", "1/1/0"]
    assert box.confirm(9, list(box.mail(9)))[0] == 2 and box.mail(9) == {}
