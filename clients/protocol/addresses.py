"""Where an agent's endpoint can be reached: a few `ip:port`, announced by the agent and forwarded by the server.

Neither is trusted: the peer that answers must hold the neighbour's key, or it gets nothing. A false address costs the
first packets of a handshake with a stranger, so the number of addresses is bounded.
"""

from __future__ import annotations

import ipaddress
import json

MAX_ADDRESSES = 8
MAX_TEXT = 64  # characters of one


class AddressError(ValueError):
    """No address of an endpoint; says what is wrong with it."""


def checked_address(text: object) -> str:
    """`1.2.3.4:567` or `[2001:db8::1]:567` itself.

    Raises
    ------
    AddressError
        It is neither, or an address no agent can be reached at.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise AddressError(f"address {text!r:.80}: must be a text of at most {MAX_TEXT} characters")
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise AddressError(f"address {text!r}: must be IP:PORT, IPv6 in brackets") from None
    if (address.version == 6) != (bare != host) or not port.isascii() or not port.isdecimal():
        raise AddressError(f"address {text!r}: must be IP:PORT, IPv6 in brackets")
    if not 0 < int(port) < 1 << 16 or address.is_multicast or address.is_unspecified:
        raise AddressError(f"address {text!r}: nobody can be reached there")
    return text


def checked_addresses(values: object) -> tuple[str, ...]:
    """A list of at most MAX_ADDRESSES of them. Raises AddressError."""
    if not isinstance(values, list) or len(values) > MAX_ADDRESSES:
        raise AddressError(f"addresses {values!r:.80}: must be a list of at most {MAX_ADDRESSES}")
    return tuple(checked_address(value) for value in values)


def read_addresses(text: str) -> tuple[str, ...]:
    """One agent's, out of JSON. Raises AddressError."""
    return checked_addresses(_json(text))


def read_address_book(text: str) -> dict[int, tuple[str, ...]]:
    """Agent number -> its addresses, out of JSON. Raises AddressError."""
    values = _json(text)
    if not isinstance(values, dict) or not all(name.isdecimal() and len(name) <= 10 for name in values):
        raise AddressError("addresses: must be an object of agent numbers")
    return {int(name): checked_addresses(found) for name, found in values.items()}


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AddressError(f"addresses: {error}") from None
