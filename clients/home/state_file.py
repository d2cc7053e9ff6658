"""An agent's state as one safetensors file, with a checksum, in few bytes.

- Arrays that hold the same bits are stored once: a round starts from the adapter, unless mail came since.
- Every integer of an array takes as many bytes as its largest needs. On the grid of `exchange/fixed_point.py` that is
  five or six of eight for any adapter, since the grid's range is far beyond what adapters reach.

Both restore every bit. Each array of a loaded state is its own copy: changing one changes no other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clients.home.founding import HomeError

FORMAT = "symphony-home-5"
OLDER = ("symphony-home-1", "symphony-home-2", "symphony-home-3", "symphony-home-4")  # had other checksums


class DamagedError(HomeError):
    """A file of the home that does not hold what was once committed."""


@dataclass
class State:
    """Everything of an agent that must survive, as of a whole round.

    Attributes
    ----------
    adapter : float32 [P], the flat adapter
    arrays : named arrays of the learner (optimizer/...) and of the exchange rule (rule/...)
    outbox : round -> label -> envelope sent in it (labels: `clients/protocol/addressing.py`); the last rounds only
    relay : label -> envelopes of others, forwarded unchanged with the next round's
    round : rounds of local improvement finished
    last_seen : did:key -> newest round merged from that sender
    heard : did:key -> this agent's round when it last merged that sender's (agents without a round barrier)
    roster : agent number -> did:key, pinned when first heard
    tasks : JSON objects of the neighbours' tasks taken for the next round (`clients/agents/task_sharing.py`)
    letters : did:key -> newest round of which a task message was opened
    debts : did:key -> [this agent's round, seconds]: executor time its tasks used
    reports : round -> its reply, given (again) when that round is asked for; the last rounds only
    """

    adapter: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    outbox: dict[int, dict[str, bytes]] = field(default_factory=dict)
    relay: dict[str, bytes] = field(default_factory=dict)
    round: int = 0
    last_seen: dict[str, int] = field(default_factory=dict)
    roster: dict[str, str] = field(default_factory=dict)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    letters: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    debts: dict[str, list[float]] = field(default_factory=dict)


def packed(state: State) -> tuple[bytes, str]:
    """(the content of a file, its checksum)."""
    tensors: dict[str, np.ndarray] = {
        "adapter": np.ascontiguousarray(state.adapter, np.float32),
        **state.arrays,
    }
    for number, envelopes in state.outbox.items():
        tensors |= _texts(f"outbox/{number}/", envelopes)
    tensors |= _texts("relay/", state.relay)
    meta: dict[str, Any] = {
        "outbox": {str(number): list(envelopes) for number, envelopes in state.outbox.items()},
        "relay": list(state.relay),
        "round": state.round,
        "last_seen": state.last_seen,
        "roster": state.roster,
        "reports": {str(number): report for number, report in state.reports.items()},
        "tasks": state.tasks,
        "letters": state.letters,
        "heard": state.heard,
        "debts": state.debts,
    }
    return _file(meta, tensors)


def read_state(path: Path) -> tuple[State, str]:
    """(what `packed` was given, the file's checksum).

    Raises
    ------
    DamagedError
        It does not parse, is not there, or does not have the checksum it was committed with.
    HomeError
        It is of another version.
    """
    meta, arrays, checksum = _read(path)
    adapter = arrays.pop("adapter")
    outbox = {
        int(number): {label: arrays.pop(f"outbox/{number}/{label}").tobytes() for label in labels}
        for number, labels in meta["outbox"].items()
    }
    relay = {label: arrays.pop(f"relay/{label}").tobytes() for label in meta["relay"]}
    reports = {int(number): report for number, report in meta["reports"].items()}
    names = ("round", "last_seen", "roster", "tasks", "letters", "heard", "debts")
    kept = {name: meta[name] for name in names}
    return State(adapter, arrays, outbox, relay, reports=reports, **kept), checksum


def packed_mail(mail: Mapping[str, bytes], after: str) -> bytes:
    """Mail that came after the commit of that checksum."""
    return _file({"after": after, "mail": list(mail)}, _texts("mail/", mail))[0]


def read_mail(path: Path) -> tuple[dict[str, bytes], str]:
    """(label -> envelope, the checksum of the commit they came after). Raises as `read_state` does."""
    meta, arrays, _ = _read(path)
    return {label: arrays[f"mail/{label}"].tobytes() for label in meta["mail"]}, str(meta["after"])


def _texts(prefix: str, texts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    return {prefix + label: np.frombuffer(text, np.uint8) for label, text in texts.items()}


def _file(meta: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[bytes, str]:
    """(the content of a file of named arrays, its checksum)."""
    stored: dict[str, np.ndarray] = {}
    digests: dict[str, bytes] = {}
    first: dict[bytes, str] = {}  # digest -> name
    same: dict[str, str] = {}
    whole = [name for name, tensor in tensors.items() if tensor.dtype == np.int64 and tensor.ndim]
    for name, tensor in tensors.items():
        narrow = _narrowed(tensor) if name in whole else tensor
        found = _digest(narrow)
        if found in first and (name in whole) == (first[found] in whole):
            same[name] = first[found]
            continue
        stored[name], digests[name] = narrow, found
        first.setdefault(found, name)
    text = json.dumps({"format": FORMAT, "same": same, "whole": whole, **meta})
    checksum = _checksum(text, digests)
    return save(stored, {"state": text, "sha256": checksum}), checksum


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """(metadata, arrays, checksum) of a file that `_file` made."""
    if os.path.lexists(path) and not path.is_file():
        raise DamagedError(f"{path}: damaged (is no file)")
    try:
        with safe_open(path, framework="numpy") as file:
            text, checksum = file.metadata()["state"], file.metadata()["sha256"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        meta: dict[str, Any] = dict(json.loads(text))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise DamagedError(f"{path}: damaged ({error})") from None
    intact = _checksum(text, {name: _digest(array) for name, array in arrays.items()}) == checksum
    if meta.get("format") != FORMAT and (intact or str(meta.get("format")) in OLDER):
        raise HomeError(f"{path}: format {meta['format']!r}, this version reads {FORMAT!r}")
    if not intact:
        raise DamagedError(f"{path}: damaged (its content is not what was committed)")
    arrays |= {name: arrays[other].copy() for name, other in meta["same"].items()}
    return meta, arrays | {name: _widened(arrays[name]) for name in meta["whole"]}, checksum


def _narrowed(numbers: np.ndarray) -> np.ndarray:
    """int64 [...] in as few bytes as the largest needs: uint8 [..., bytes], the lowest first."""
    low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    width = 1 + max(high.bit_length(), (~low).bit_length()) // 8
    return np.ascontiguousarray(_octets(np.ascontiguousarray(numbers, "<i8"))[..., :width])


def _widened(octets: np.ndarray) -> np.ndarray:
    """What `_narrowed` was given."""
    width = octets.shape[-1]
    numbers = np.zeros(octets.shape[:-1], "<i8")
    _octets(numbers)[..., :width] = octets
    numbers <<= 64 - 8 * width
    numbers >>= 64 - 8 * width  # the highest bit fills up what was left out
    return numbers.astype(np.int64, copy=False)


def _octets(numbers: np.ndarray) -> np.ndarray:
    """A view of int64 [...] as uint8 [..., 8]."""
    return numbers.view(np.uint8).reshape(*numbers.shape, 8)


def _digest(tensor: np.ndarray) -> bytes:
    """SHA-256 of an array with its type and shape."""
    total = hashlib.sha256(f"{tensor.dtype} {tensor.shape} ".encode())
    total.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return total.digest()


def _checksum(text: str, digests: Mapping[str, bytes]) -> str:
    """SHA-256 over the metadata and every array, in the order of names."""
    total = hashlib.sha256(text.encode())
    for name in sorted(digests):
        total.update(name.encode() + b"\0" + digests[name])
    return total.hexdigest()
