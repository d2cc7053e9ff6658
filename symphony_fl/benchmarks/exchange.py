"""What the exchange costs: bytes against the entropy bound, time against torch.topk and memcpy, memory in copies.

One row per size, density, selection and coding, all on the same vector in the same process:

    entries, density, selection, coding
    index_bits, entropy_bits    bits per sent entry for its index, and the least any code of a random subset needs
    envelope_bytes              the whole envelope: header, indices, values, signature
    encode_seconds              select + seal: ranking, coding, compressing, signing
    decode_seconds              open_envelope: every check, then indices and values
    topk_seconds                torch.topk of as many entries of the vector's magnitudes
    memcpy_seconds              copying the vector once
    peak_copies                 most memory held at once by encode or decode, in sizes of the vector

Times are the best of `repeats`, as is usual on shared machines: noise only adds.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.codecs.indices import encode_indices
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.messages.envelope import open_envelope, seal
from symphony_fl.exchange.messages.session import Expectation, Session
from symphony_fl.exchange.selection.selection import build_selection
from symphony_fl.identity.did_key import did_from_public_key, public_key_of

SIZES = (26_112, 540_672, 8_000_000, 16_000_000)
"""The tiny model's adapter, a small one, and the paper's range of 8 to 16 million."""
CASES = (
    ("topk", 0.001, "int4"),
    ("topk", 0.01, "bfloat16"),
    ("topk", 0.01, "int4"),
    ("topk", 0.05, "sign"),
    ("random", 0.005, "bfloat16"),
    ("cyclic", 0.05, "int8"),
    ("dense", 1.0, "sign"),
)
"""Selection, density, coding."""
_KEY = bytes(range(32))


def run(
    sizes: Sequence[int] = SIZES,
    cases: Sequence[tuple[str, float, str]] = CASES,
    repeats: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The rows above, for Gaussian vectors float32 [entries]."""
    return [row(size, *case, repeats=repeats, seed=seed) for size in sizes for case in cases]


def row(
    entries: int, selection: str, density: float, coding: str, *, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """One row."""
    change = np.random.default_rng(seed).standard_normal(entries, dtype=np.float32)
    session = _terms(entries, selection, density, coding)
    expectation = Expectation(session, [did_from_public_key(public_key_of(_KEY))])

    def encode() -> bytes:
        indices = session.selection.select(change, 1)
        sealed = seal(session, _KEY, round=1, indices=indices, values=change[indices], adapter=bytes(16))
        return sealed.data

    data = encode()
    update = open_envelope(data, expectation)
    count = int(update.indices.size)
    index_bits = 0.0 if session.selection.shared else 8 * len(encode_indices(update.indices, entries)) / count
    return {
        "entries": entries,
        "density": density,
        "selection": selection,
        "coding": coding,
        "index_bits": index_bits,
        "entropy_bits": 0.0 if session.selection.shared else subset_entropy(count, entries),
        "envelope_bytes": len(data),
        "encode_seconds": best_time(encode, repeats),
        "decode_seconds": best_time(lambda: open_envelope(data, expectation), repeats),
        "topk_seconds": best_time(lambda: _torch_topk(change, count), repeats),
        "memcpy_seconds": best_time(change.copy, repeats),
        "peak_copies": max(peak_bytes(encode), peak_bytes(lambda: open_envelope(data, expectation)))
        / change.nbytes,
    }


def subset_entropy(count: int, size: int) -> float:
    """Bits per index that a random subset of `count` among `size` needs at least: H(p) / p."""
    p = count / size
    return 0.0 if p == 1.0 else -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / p


def best_time(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that numpy and Python held at once beyond what was there before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _torch_topk(change: np.ndarray, count: int) -> torch.Tensor:
    return torch.topk(torch.from_numpy(change).abs(), count, sorted=False).indices


def _terms(entries: int, selection: str, density: float, coding: str) -> Session:
    layout = Layout(("adapter",), ((entries,),))
    return Session(
        run=bytes(16),
        base=bytes(16),
        layout=layout.digest,
        kind="deltas",
        selection=build_selection(selection, layout, density, seed=1),
        codec=build_codec(coding),
    )
