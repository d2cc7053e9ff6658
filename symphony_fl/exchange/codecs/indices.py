"""Indices of a data-dependent selection: the gaps between them, coded near their entropy.

Two coders, the shorter result travels:
 - Golomb's code (1966), the best prefix code for the geometric gaps of a random subset (Gallager and van Voorhis 1975,
   at most 0.04 bits per index above the entropy), with one parameter for all or one per block of 256 gaps. Its header
   is tiny, so it wins on short lists, and on long ones whose density changes with the layer.
 - pcodec (numbers binned by tANS), which wins on long lists of less regular gaps.
Decoding accepts only what an encoder writes: exact lengths, zero padding, ascending indices below P.
"""

from __future__ import annotations

import numpy as np
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, PagingSpec, wrapped

from symphony_fl.exchange.codecs.golomb import CodeError, golomb_decode, golomb_encode, golomb_length

_PCO_16, _PCO_32 = 2, 3
"""First byte of a pcodec list, by the width of its gaps; smaller ones are Golomb's."""
_PCO_TYPES: dict[int, np.dtype] = {_PCO_16: np.dtype(np.uint16), _PCO_32: np.dtype(np.uint32)}
_PCO_LEVEL = 8
_PCO_MOST = 1 << 24
"""Numbers in one chunk of pcodec, its own limit."""
MAX_SIZE = 1 << 31
"""P must stay below this."""


class IndicesError(ValueError):
    """Bytes that are no list of `count` ascending, unique indices below P."""


def encode_indices(indices: np.ndarray, size: int) -> bytes:
    """Codes int64 [k], ascending and unique, each in 0 .. size-1, k >= 1.

    Raises
    ------
    IndicesError
        They are not.
    """
    if indices.size == 0 or size > MAX_SIZE or int(indices[0]) < 0 or int(indices[-1]) >= size:
        raise IndicesError(f"indices must be 1 or more of 0 .. {size - 1}")
    gaps = np.diff(indices, prepend=np.int64(-1)) - 1
    if gaps.min() < 0:
        raise IndicesError("indices must ascend")
    binned = _pco_encode(gaps)
    if binned is not None and len(binned) < golomb_length(gaps):
        return binned
    return golomb_encode(gaps)


def decode_indices(data: bytes, count: int, size: int) -> np.ndarray:
    """The inverse: int64 [count]. Memory is bounded by the data's length and `count`.

    Raises
    ------
    IndicesError
        The bytes are not what `encode_indices` writes for `count` indices below `size`.
    """
    if not data or not 1 <= count <= size <= MAX_SIZE:
        raise IndicesError("empty, or a count outside 1 .. P")
    try:
        kind = _PCO_TYPES.get(data[0])
        gaps = golomb_decode(data, count, size) if kind is None else _pco_decode(data[1:], count, kind)
    except CodeError as error:
        raise IndicesError(str(error)) from None
    indices = np.cumsum(gaps + 1) - 1  # gaps are at least 0, so this ascends
    if int(indices[-1]) >= size or int(indices[-1]) < count - 1:
        raise IndicesError(f"an index is beyond {size - 1}")
    return indices


def _pco_encode(gaps: np.ndarray) -> bytes | None:
    if gaps.size > _PCO_MOST:
        return None
    kind = _PCO_16 if int(gaps.max()) < 1 << 16 else _PCO_32
    config = ChunkConfig(
        compression_level=_PCO_LEVEL,
        mode_spec=ModeSpec.classic(),
        delta_spec=DeltaSpec.no_op(),
        paging_spec=PagingSpec.exact_page_sizes([gaps.size]),
    )
    file = wrapped.FileCompressor()
    chunk = file.chunk_compressor(gaps.astype(_PCO_TYPES[kind]), config)
    return b"".join([bytes([kind]), file.write_header(), chunk.write_meta(), chunk.write_page(0)])


def _pco_decode(data: bytes, count: int, kind: np.dtype) -> np.ndarray:
    gaps = np.zeros(count, dtype=kind)
    try:
        file, start = wrapped.FileDecompressor.new(data)
        chunk, used = file.chunk_decompressor(data[start:], "u16" if kind.itemsize == 2 else "u32")
        start += used
        progress, used = chunk.read_page_into(data[start:], count, gaps)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CodeError(f"pcodec: {error}") from None
    except BaseException as error:
        # A panic of the Rust library is no Exception. A peer must not end a round with one.
        if type(error).__name__ != "PanicException":
            raise
        raise CodeError("pcodec: panic") from None
    if progress.n_processed != count or not progress.finished or start + used != len(data):
        raise CodeError("pcodec: too few gaps, or bytes left over")
    return gaps.astype(np.int64)
