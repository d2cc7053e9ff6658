"""Mail that was accepted directly: there after a kill, bounded for every sender by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.home.inbox import INBOX_ROUNDS, Inbox
from clients.protocol.addressing import mail_order, narrowed, recipients_in
from symphony_fl.refusals import NoRoom


def test_it_outlives_the_process_and_what_was_half_written_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    inbox = Inbox(folder)
    inbox.put(1, 4, b"four", 100)
    inbox.put(2, 3, b"three", 100)
    (folder / ".1-5.new").write_bytes(b"half")
    again = Inbox(folder)
    assert again.names(None) == [(2, 3), (1, 4)] and again.body((1, 4)) == b"four"
    assert sorted(path.name for path in folder.iterdir()) == ["1-4", "2-3"]
    assert again.names(before=4) == [(2, 3)], "a later round's mail waits for a later message"
    again.forget([(2, 3)])
    assert Inbox(folder).names(None) == [(1, 4)]


def test_a_sender_that_floods_crowds_out_its_own_mail_only(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.put(1, 1, bytes(60), 100)
    assert inbox.room(1, 2, 100) == 40
    with pytest.raises(NoRoom):
        inbox.put(1, 2, bytes(41), 100)
    inbox.put(1, 1, bytes(100), 100)  # the same round once more takes the place of the first
    inbox.put(2, 1, bytes(100), 100)
    for round in range(1, INBOX_ROUNDS + 1):
        inbox.put(3, round, b"", 100)
    assert inbox.room(3, INBOX_ROUNDS + 1, 100) == 0 and inbox.room(3, INBOX_ROUNDS, 100) == 100
    inbox.forget([(3, 1)])
    assert inbox.room(3, INBOX_ROUNDS + 1, 100) == 100


def test_a_full_disk_is_a_refusal(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    (tmp_path / "inbox").rmdir()  # as good as full: nothing can be written
    with pytest.raises(NoRoom, match="not written"):
        inbox.put(1, 1, b"x", 100)
    assert inbox.names(None) == []


def test_labels_of_what_is_left_and_the_order_of_mail() -> None:
    assert [narrowed(label, [2, 3]) for label in ("0", "1>2,3,4", "letter")] == [
        "0>2,3",
        "1>2,3",
        "letter>2,3",
    ]
    assert recipients_in(narrowed("letter", [3]), (1, 3)) == [3]
    labels = ["10/2/0", "9/2/1", "9/2/0", "1/3/0", "x", "1/2", "\u0661/1/1"]
    assert sorted(labels, key=mail_order)[-4:] == ["9/2/0", "9/2/1", "10/2/0", "1/3/0"]
