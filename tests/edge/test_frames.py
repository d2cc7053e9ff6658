"""Frames: what was sent comes out, and nothing else does harm."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symphony_fl.edge.frames import (
    MAGIC,
    MAX_BODY,
    Disconnected,
    FrameError,
    check_peer,
    check_place,
    encode_head,
    receive_frame,
    send_frame,
)

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


def _received(data: bytes) -> tuple[str, bytes]:
    """What `receive_frame` makes of these bytes and the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=lambda: (ours.sendall(data), ours.shutdown(socket.SHUT_WR)))
        writer.start()
        try:
            return receive_frame(theirs)
        finally:
            theirs.close()
            writer.join()


@settings(max_examples=50, deadline=None)
@given(word=WORDS, body=st.binary(max_size=5000))
def test_what_was_sent_comes_out(word: str, body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(ours, word, body)
        assert receive_frame(theirs) == (word, body)


@settings(max_examples=200, deadline=None)
@given(word=WORDS, body=st.binary(max_size=50), cut=st.integers(0, 60), junk=st.binary(max_size=20))
def test_a_damaged_frame_is_refused_or_read_as_a_frame(word: str, body: bytes, cut: int, junk: bytes) -> None:
    whole = encode_head(word, len(body)) + body
    damaged = whole[:cut] + junk + whole[cut + len(junk) :]
    try:
        found, content = _received(damaged)
    except FrameError:
        assert not damaged.startswith(whole), "a frame that is whole is read"
        return
    assert damaged.startswith(encode_head(found, len(content)) + content)


@pytest.mark.parametrize("end", range(len(encode_head("train", 3)) + 3))
def test_a_connection_that_ends_early_is_told_apart(end: int) -> None:
    with pytest.raises(Disconnected):
        _received((encode_head("train", 3) + b"abc")[:end])


def test_what_is_out_of_bounds_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="at most"):
        _received(MAGIC + b"\x05train" + (MAX_BODY + 1).to_bytes(8, "big"))
    with pytest.raises(FrameError, match="begins with"):
        _received(b"SFL2\x05train" + bytes(8))
    for word in ("", "x" * 65, "träin"):
        with pytest.raises(FrameError):
            encode_head(word, 0)


def test_our_own_process_is_a_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        check_peer(ours)


def test_a_socket_lies_in_a_private_folder_with_a_short_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    check_place(tmp_path / "agent.sock")
    with pytest.raises(FrameError, match="choose a shorter folder"):
        check_place(tmp_path / ("x" * 100))
    tmp_path.chmod(0o750)
    with pytest.raises(FrameError, match="must be 0700"):
        check_place(tmp_path / "agent.sock")
