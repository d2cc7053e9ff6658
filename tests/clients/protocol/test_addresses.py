"""Addresses of endpoints come from the network: bounded, and read in one spelling."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from clients.protocol.addresses import (
    MAX_ADDRESSES,
    AddressError,
    checked_address,
    checked_addresses,
    read_address_book,
    read_addresses,
)
from clients.protocol.messages import (
    ADDRESSES,
    CONFIG,
    MessageError,
    unpack_address_book,
    unpack_addresses,
)

GOOD = ("127.0.0.1:1", "10.1.2.3:65535", "[::1]:4433", "[2001:db8::7]:80")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_kept_as_it_is(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    try:
        assert checked_address(text) == text
    except AddressError as error:
        assert "nobody can be reached" in str(error)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1", "::1:80", "[1.2.3.4]:5", "host:1",
     "224.0.0.1:5", "0.0.0.0:5", "[::]:5", "1.2.3.4:\u0661", "1.2.3.4:5 ", "1.2.3.4:" + "0" * 80, 7, None],
)  # fmt: skip
def test_what_is_none_is_refused(text: object) -> None:
    with pytest.raises(AddressError, match="address"):
        checked_address(text)


@given(st.text(max_size=80))
def test_any_text_is_addresses_or_refused(text: str) -> None:
    for read in (read_addresses, read_address_book):
        try:
            read(text)
        except AddressError:
            continue


def test_there_are_few_of_them() -> None:
    assert checked_addresses(list(GOOD)) == GOOD
    with pytest.raises(AddressError, match=f"at most {MAX_ADDRESSES}"):
        checked_addresses(["127.0.0.1:1"] * (MAX_ADDRESSES + 1))
    with pytest.raises(AddressError):
        read_address_book(json.dumps({"-1": []}))


def test_messages_without_addresses_have_none_and_bad_ones_are_refused() -> None:
    assert unpack_addresses(RecordDict()) == () and unpack_address_book(RecordDict()) == {}
    book = RecordDict({CONFIG: ConfigRecord({ADDRESSES: json.dumps({"3": GOOD})})})
    assert unpack_address_book(book) == {3: GOOD}
    for value in ("{", "[1]", "7", 7, "[" * 100_000):
        content = RecordDict({CONFIG: ConfigRecord({ADDRESSES: value})})
        with pytest.raises(MessageError, match="config"):
            unpack_addresses(content)
        with pytest.raises(MessageError, match="config"):
            unpack_address_book(content)
