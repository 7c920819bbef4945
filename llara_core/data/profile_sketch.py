"""Hashes of texts and what they tell: distinct texts, samples, and how much two versions share."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from llara_core.errors import DataError

SLICE_ROWS, SLICE_BYTES = 65_536, 8 << 20  # looked at at once
_Z95 = 1.96  # half the width of a 95% interval, in standard errors
_SEPARATOR = pa.scalar(
    b"\x1f", pa.large_binary()
)  # between columns; ingestion lets no text with it through unmarked
_NULL = b"\x00"


def slices(table: pa.Table, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a table in order, some thousands at a time and seldom more than 8 MiB.

    A single row may be larger: a row is never cut.
    """
    for batch in table.select(list(columns)).to_batches(max_chunksize=SLICE_ROWS):
        yield from _halves(batch)


def _halves(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows <= 1 or batch.nbytes <= SLICE_BYTES:
        if batch.num_rows:
            yield batch
        return
    middle = batch.num_rows // 2
    yield from _halves(batch.slice(0, middle))
    yield from _halves(batch.slice(middle))


def text_hashes(columns: Sequence[pa.Array]) -> NDArray[np.uint64]:
    """BLAKE2b of every row, cut to 64 bits; the same on every machine.

    Args:
        columns: strings [N] each; null is another value than the empty string.

    Returns:
        uint64 [N]. Among ten million different texts two share a hash with a chance of 3 in a million.
    """
    plain = [pc.fill_null(column.cast(pa.large_binary()), _NULL) for column in columns]
    joined = plain[0] if len(plain) == 1 else pc.binary_join_element_wise(*plain, _SEPARATOR)
    offsets, data = binary_buffers(joined)
    view = data.data
    digests = bytearray()
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        digests += blake2b(view[start:stop], digest_size=8).digest()
    return np.frombuffer(digests, np.dtype("<u8")).astype(np.uint64)


def binary_buffers(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each value of a large string or binary array begins and ends [N + 1], and the bytes."""
    _, offsets, data = column.buffers()
    size = len(column) + 1
    if not len(column):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    where = np.frombuffer(offsets, np.int64, count=size, offset=8 * column.offset)
    return where, np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def pack(values: NDArray[Any]) -> str:
    """Numbers as a string for JSON: little-endian, zlib, base64."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes(), 6)).decode()


def unpack(packed: str, dtype: DTypeLike) -> NDArray[Any]:
    """What ``pack`` packed; the caller knows the type.

    Raises:
        DataError: it was packed by something else.
    """
    kind = np.dtype(dtype)
    try:
        data = zlib.decompress(base64.b64decode(packed, validate=True))
        return np.frombuffer(data, kind.newbyteorder("<")).astype(kind)
    except (ValueError, zlib.error) as error:
        raise DataError(f"a packed part of the profile cannot be read ({error}); profile again") from None


def unseen_share(
    before: NDArray[np.uint64], after: NDArray[np.uint64], *, all_before: bool, all_after: bool
) -> dict[str, Any]:
    """Share of the texts of ``after`` that ``before`` has not, from the smallest hashes of both.

    A hash of ``after`` can be decided where it is not above the largest kept of ``before``: up to there
    ``before`` shows everything it has. Hashes are as good as drawn by lot, so what holds of the decided
    ones holds of all, but for the error of a sample.

    Args:
        before: the smallest hashes of the one version, sorted, distinct.
        after: of the other.
        all_before: these are all the hashes it has.
        all_after: likewise.

    Returns:
        ``share``, ``error`` (half a 95% interval, Wilson's; 0 where exact), ``exact``, ``compared`` (hashes
        decided). Share and error are None where there is nothing to compare.
    """
    decided = after if all_before or not len(before) else after[after <= before[-1]]
    count = len(decided)
    if not count:
        return {"share": None, "error": None, "exact": False, "compared": 0}
    new = int(np.isin(decided, before, assume_unique=True, invert=True).sum())
    # All of `after` is known, and `before` was complete up to every hash that was asked for.
    exact = all_after and count == len(after)
    return {
        "share": new / count,
        "error": 0.0 if exact else _wilson(new, count),
        "exact": exact,
        "compared": count,
    }


def _wilson(hits: int, count: int) -> float:
    """The further end of Wilson's 95% interval of a share, as a distance from it."""
    share, square = hits / count, _Z95 * _Z95
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z95 * np.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return float(max(middle + half - share, share - middle + half))
