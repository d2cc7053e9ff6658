"""Canonical msgpack: how everything that is signed here is written, and how what anybody may have sent is read.

An array that begins with the number of its format. A value has one form only, so nothing that verifies can be written
in two ways; numbers with a fraction have single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from symphony_fl.refusals import Malformed, WrongVersion

_BUFFER = 4096  # bytes to begin with; msgpack would take 256 KiB for a header of 65


def pack(fields: Sequence[object]) -> bytes:
    """The canonical bytes."""
    packer = msgpack.Packer(use_single_float=True, use_bin_type=True, buf_size=_BUFFER)
    return bytes(packer.pack(fields))


def unpack(data: bytes, what: str, version: int) -> list[Any]:
    """The array behind canonical bytes, its first field the version; `what` names it in errors.

    Memory is bounded by a multiple of the bytes given.

    Raises
    ------
    WrongVersion
        It announces another version.
    Malformed
        Anything else but the bytes that `pack` writes.
    """
    try:
        fields = msgpack.unpackb(data, raw=False, use_list=True, max_map_len=0, max_ext_len=0)
        canonical = isinstance(fields, list) and pack(fields) == data
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"{what}: {type(error).__name__}") from None
    if not isinstance(fields, list) or not fields:
        raise Malformed(f"{what}: not an array")
    if type(fields[0]) is not int or fields[0] != version:
        raise WrongVersion(f"{what} of version {str(fields[0])[:20]}, this is {version}")
    if not canonical:
        raise Malformed(f"{what}: not in canonical form")
    return fields
