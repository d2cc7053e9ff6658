"""The header of an envelope: a positional msgpack array in canonical form, about 65 bytes.

At 5 kB an envelope's header matters, so run, base model, layout and sender travel as the first bytes of their digests:
enough to name a mismatch. The signature covers all bytes of the run's (`envelope.py`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symphony_fl.exchange.flat import DIGEST_BYTES
from symphony_fl.identity.canonical import pack, unpack
from symphony_fl.identity.signatures import SENDER_HINT_BYTES
from symphony_fl.refusals import Malformed, NotFinite

VERSION = 1
HINT_BYTES = 4
HEADER_LIMIT = 4096
"""Bytes; a header with the most reports fits."""
MAX_REPORTS = 64
MAX_REPORT_NAME = 32
ROUND_LIMIT = 1 << 31

KINDS = {"values": 0, "deltas": 1, "difference": 2}
"""What the values of an update are: entries of the adapter, of its change, or of its distance to a public copy."""
SELECTION_CODES = {"dense": 0, "random": 1, "cyclic": 2, "topk": 3, "threshold": 4}
CODING_CODES = {
    "float32": 0,
    "bfloat16": 1,
    "float16": 2,
    "int8": 3,
    "int4": 4,
    "int2": 5,
    "sign": 6,
}

_OTHERS_FROM = 128


def code_of(name: str, codes: Mapping[str, int]) -> int:
    """How a header names a selection or a coding: by its code, else, of a plug-in, by a byte of its name's hash. Both
    ends know which one the run has; the code only shows where they disagree."""
    if name in codes:
        return codes[name]
    return _OTHERS_FROM + hashlib.sha256(name.encode()).digest()[0] % _OTHERS_FROM


@dataclass(frozen=True)
class RewardReport:
    """What a sender says it earned: `mean` over `count` tasks, under a name such as a skill's."""

    name: str
    mean: float
    count: int


@dataclass(frozen=True)
class Header:
    """The fields of an envelope's header, in the order of the wire after the version."""

    run: bytes
    sender: bytes
    round: int
    base: bytes
    layout: bytes
    kind: int
    selection: int
    coding: int
    count: int
    index_bytes: int
    compressed: int
    adapter: bytes
    rewards: tuple[RewardReport, ...]

    def pack(self) -> bytes:
        """The canonical bytes."""
        return _pack(self)


def _pack(header: Header) -> bytes:
    reports = [[report.name, report.mean, report.count] for report in header.rewards]
    fields = [
        VERSION,
        header.run,
        header.sender,
        header.round,
        header.base,
        header.layout,
        header.kind,
        header.selection,
        header.coding,
        header.count,
        header.index_bytes,
        header.compressed,
        header.adapter,
        reports,
    ]
    return pack(fields)


def unpack_header(data: bytes) -> Header:
    """The header behind canonical bytes.

    Raises
    ------
    WrongVersion
        It announces another version.
    Malformed
        Anything else but the bytes that `pack` writes.
    NotFinite
        A reported reward is.
    """
    header = _checked(unpack(data, "header", VERSION))
    if not all(math.isfinite(report.mean) for report in header.rewards):
        raise NotFinite("a reported reward is not finite")
    return header


def _checked(fields: list[Any]) -> Header:
    if len(fields) != 14:
        raise Malformed(f"header: {len(fields)} fields, expected 14")
    (
        _,
        run,
        sender,
        round,
        base,
        layout,
        kind,
        selection,
        coding,
        count,
        index_bytes,
        compressed,
        adapter,
        rewards,
    ) = fields
    for value, length in (
        (run, HINT_BYTES),
        (sender, SENDER_HINT_BYTES),
        (base, HINT_BYTES),
        (layout, HINT_BYTES),
        (adapter, DIGEST_BYTES),
    ):
        if not isinstance(value, bytes) or len(value) != length:
            raise Malformed(f"header: a digest is not {length} bytes")
    for value, limit in (
        (round, ROUND_LIMIT),
        (kind, 256),
        (selection, 256),
        (coding, 256),
        (count, 1 << 31),
        (index_bytes, 1 << 40),
        (compressed, 2),
    ):
        if type(value) is not int or not 0 <= value < limit:
            raise Malformed("header: a number is out of range")
    return Header(
        run, sender, round, base, layout, kind, selection, coding, count, index_bytes, compressed, adapter,
        _reports(rewards),
    )  # fmt: skip


def _reports(rewards: Any) -> tuple[RewardReport, ...]:
    if not isinstance(rewards, list) or len(rewards) > MAX_REPORTS:
        raise Malformed(f"header: the reports are no list of at most {MAX_REPORTS}")
    found = []
    for entry in rewards:
        if not isinstance(entry, list) or [type(part) for part in entry] != [str, float, int]:
            raise Malformed("header: a report is not (name, mean, count)")
        if len(entry[0]) > MAX_REPORT_NAME or not 0 <= entry[2] < 1 << 31:
            raise Malformed("header: a report's name or count is out of range")
        found.append(RewardReport(*entry))
    return tuple(found)


def check_reports(rewards: Sequence[RewardReport]) -> tuple[RewardReport, ...]:
    """The reports as a sender may send them; raises ValueError for too many, too long names or non-finite means."""
    if len(rewards) > MAX_REPORTS:
        raise ValueError(f"{len(rewards)} reward reports, at most {MAX_REPORTS} fit an envelope")
    for report in rewards:
        if len(report.name) > MAX_REPORT_NAME or not math.isfinite(report.mean):
            raise ValueError(f"reward report {report.name[:40]!r}: name too long, or mean not finite")
    return tuple(RewardReport(report.name, float(report.mean), int(report.count)) for report in rewards)
