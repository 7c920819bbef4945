"""Characters that no text should hold, found in the bytes of a whole column at once.

Control characters, bidi overrides, U+FFFD and the beginnings of mojibake are told from one or a few
bytes of UTF-8. Comparing all bytes of a batch costs about a nanosecond a byte, regular expressions ten:
most texts have nothing to be found. Issue 5, point 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# First bytes of U+007F, U+0080-9F, accented Latin letters, some punctuation, and U+FFFD.
_FIRST = (0x7F, 0xC2, 0xC3, 0xE2, 0xEF)
_WHITE = (0x09, 0x0A, 0x0C, 0x0D)  # tab, line feed, form feed (it stands in source code), carriage return


@dataclass(frozen=True)
class Marks:
    """Which of N texts hold what: boolean arrays ``[N]``.

    Args:
        control: U+0000-8, U+000B, U+000E-1F or U+007F.
        late_control: U+0080-9F, which nobody types: bytes of Windows-1252 read as Latin-1.
        bidi: U+202A-E or U+2066-9, which reorder what a person sees but not what a machine reads.
        replacement: U+FFFD.
        doubtful: an accented Latin letter and right behind it another character beyond ASCII, as in
            ``Ã©``: perhaps mojibake.
    """

    control: NDArray[np.bool_]
    late_control: NDArray[np.bool_]
    bidi: NDArray[np.bool_]
    replacement: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]


def marks(column: pa.StringArray) -> Marks:
    """Find them in a column of N texts without nulls; valid UTF-8 is taken for granted."""
    offsets, data = bytes_of(column)
    found = {
        name: np.zeros(len(column), np.bool_)
        for name in ("control", "late_control", "bidi", "replacement", "doubtful")
    }
    places = _suspects(data)
    if places.size:
        # Two zero bytes behind the end, so that the last character can be looked behind of.
        padded = np.concatenate([data, np.zeros(2, np.uint8)])
        first, second, third = padded[places], padded[places + 1], padded[places + 2]
        at = {
            "control": ((first < 0x20) & ~np.isin(first, _WHITE)) | (first == 0x7F),
            "late_control": (first == 0xC2) & (second < 0xA0),
            "bidi": (first == 0xE2)
            & (
                ((second == 0x80) & (third >= 0xAA) & (third <= 0xAE))
                | ((second == 0x81) & (third >= 0xA6) & (third <= 0xA9))
            ),
            "replacement": (first == 0xEF) & (second == 0xBF) & (third == 0xBD),
            "doubtful": (first == 0xC3) & (third >= 0x80),
        }
        for name, here in at.items():
            rows = np.searchsorted(offsets, places[here], side="right") - 1
            found[name][rows] = True
    return Marks(**found)


def counts_of(column: pa.StringArray, *wanted: int) -> NDArray[np.int64]:
    """How many bytes of the wanted values each of N texts holds: ``[N]``."""
    offsets, data = bytes_of(column)
    here = data == wanted[0]
    for byte in wanted[1:]:
        here |= data == byte
    return np.diff(np.searchsorted(np.flatnonzero(here), offsets))


def bytes_of(column: pa.StringArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each of N texts begins in the bytes (``[N + 1]``, the last being the end), and the bytes."""
    _, offsets, values = column.buffers()
    if offsets is None or not len(column):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    ends = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    if values is None or ends[-1] == ends[0]:
        return ends - ends[0], np.zeros(0, np.uint8)
    return ends - ends[0], np.frombuffer(values, np.uint8)[ends[0] : ends[-1]]


def _suspects(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    here = data < 0x20
    for byte in _FIRST:
        here |= data == byte
    return np.flatnonzero(here)
