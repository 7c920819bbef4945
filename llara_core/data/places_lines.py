"""The rows of files of lines, none of them lost: what cannot be parsed comes with the reason.

Only a line feed ends a line, because text may hold any other line separator (U+2028, form feed, NEL).
Files are read in blocks that are split at once, which is several times as fast as reading by line.
Issue 5, points 1, 3 and 8.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from llara_core.data.places_open import open_place
from llara_core.data.places_unpack import Damaged, Limits
from llara_core.data.places_where import shown
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, RowError
from llara_core.errors import DataError

_BLOCK = 1 << 18  # bytes
LONGEST = 64 << 20  # bytes of a row
DEEPEST = 200  # brackets within brackets in one row; as deep as pydantic_core's parser goes
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SIGNS = re.compile(rb'\\.|["{}\[\]]', re.DOTALL)  # escaped characters are passed over
_DEFAULT = Limits()

Parse = Callable[[bytes], Mapping[str, Any] | None]


def read_lines(place: str | Path, *, longest: int = LONGEST, limits: Limits = _DEFAULT) -> Iterator[Raw]:
    r"""Every line of a file as it stands, without its line feed (a ``\r`` before it is kept).

    Lines of white space alone are no rows and are left out; they count as lines. A UTF-8 byte order mark
    at the beginning is left out. Of a line above ``KEPT_BYTES`` only the beginning is handed on (``size``
    tells): whoever parses lines uses ``read_rows``, which sees them whole.

    Args:
        place: a path, a member of a zip, or a URL, packed or not: see ``open_place``.
        longest: bytes; a longer line is handed on with the fault ``row_length``, within bounded memory.
        limits: how much a packed file may become.

    Yields:
        ``Raw`` with ``record`` None. Where packed data end early or are damaged, every row before comes
        first, and then one with the fault ``readable``, which holds what there was of the broken line.

    Raises:
        DataError: the file cannot be opened or read, is a bomb, changes while it is read (see
            ``open_place``), or is UTF-16 (``valid_utf8``).
        MissingDependencyError: the package for this kind of URL is not installed.
    """
    return read_rows(place, _nothing, longest=longest, limits=limits)


def read_json_lines(place: str | Path, *, longest: int = LONGEST, limits: Limits = _DEFAULT) -> Iterator[Raw]:
    r"""Every row of a file of JSON lines, parsed or with the reason why not.

    What Python's ``json`` accepts is accepted, and means the same: of a key that stands twice the last
    counts; ``NaN`` and ``Infinity`` are numbers; whole numbers are exact up to 4,300 digits; ``\u0000``
    and half a surrogate pair are let through as they stand (it is for the rules to judge text). Not
    accepted: more than ``DEEPEST`` brackets within brackets, bytes that are no UTF-8, raw control
    characters in a string.

    Args, raises: as ``read_lines``.

    Yields:
        ``Raw`` with a mapping as ``record``, or with the fault ``valid_json``, ``valid_utf8``,
        ``json_object`` (valid, but no object), ``row_length`` or ``readable``.
    """
    return read_rows(place, parse_json, longest=longest, limits=limits)


def read_rows(
    place: str | Path, parse: Parse, *, longest: int = LONGEST, limits: Limits = _DEFAULT
) -> Iterator[Raw]:
    """As ``read_lines``, each line parsed by a function.

    Args:
        place: what to read.
        parse: the line's bytes, without the line feed → the record; raises ``RowError``, which becomes the
            row's fault. It is not asked about blank lines and over-long ones.
        longest: bytes of the longest line that is parsed.
        limits: how much a packed file may become.
    """
    number = offset = 0
    for lines, whole, broken in _lines(place, longest, limits):
        for line in lines:
            size = whole or len(line)
            if not number and line.startswith(_BOM):
                line, size, offset = line[3:], size - 3, 3  # noqa: PLW2901
            number += 1
            record, fault = None, None
            if broken is not None:
                fault = Fault("readable", f"cannot be read after row {number - 1}: {broken.reason}")
            elif size > longest:
                fault = Fault("row_length", f"the row has {size:,} bytes; expected at most {longest:,}")
            elif not line or line.isspace():
                offset += size + 1
                continue
            else:
                try:
                    record = parse(line)
                except RowError as error:
                    fault = Fault(error.rule, str(error))
            yield Raw(number, record, line if size <= KEPT_BYTES else line[:KEPT_BYTES], fault, size, offset)
            offset += size + 1


def parse_json(line: bytes) -> Mapping[str, Any]:
    """One JSON object; see ``read_json_lines`` for what is accepted.

    Raises:
        RowError: ``valid_json``, ``valid_utf8`` or ``json_object``.
    """
    try:
        record = from_json(line, cache_strings="keys")  # texts seldom come twice
    except ValueError:
        record = _parse_slowly(line)
    if type(record) is not dict:
        raise RowError("json_object", f"expected a JSON object, got {type(record).__name__}")
    return record


def _parse_slowly(line: bytes) -> Any:
    """What the fast parser refused: Python's own decides, and says what is wrong and where."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise RowError(
            "valid_utf8", f"not valid UTF-8 (byte 0x{wrong:02x} at offset {error.start} of the line)"
        ) from None
    if _too_deep(line):  # where Python's parser gives up depends on the caller's stack
        raise RowError("valid_json", f"malformed JSON: more than {DEEPEST} brackets within brackets")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError("valid_json", f"malformed JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        raise RowError("valid_json", f"malformed JSON: {error}") from None


def _too_deep(line: bytes) -> bool:
    """Whether there are more than ``DEEPEST`` brackets within brackets, those in strings not counted."""
    depth, in_string = 0, False
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return False
    for found in _SIGNS.finditer(line):
        sign = found[0]
        if sign == b'"':
            in_string = not in_string
        elif not in_string and len(sign) == 1:
            depth += 1 if sign in b"[{" else -1
            if depth > DEEPEST:
                return True
    return False


def _nothing(_line: bytes) -> None:
    return None


class _Unfinished:
    """A line that goes on in the next block, held whole unless it becomes too long."""

    def __init__(self, longest: int) -> None:
        self._longest, self._parts, self._size = longest, [b""], 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._parts.append(piece)
        if self._size > self._longest:
            kept = b"".join(self._parts[:-1])
            self._parts = [kept[:KEPT_BYTES] if len(kept) >= KEPT_BYTES else (kept + piece)[:KEPT_BYTES]]

    def take(self) -> tuple[bytes, int]:
        """What is held of the line, and its size where that is not all of it."""
        line, size = b"".join(self._parts), self._size
        self._parts, self._size = [b""], 0
        return line, size if size > len(line) else 0


def _lines(
    place: str | Path, longest: int, limits: Limits
) -> Iterator[tuple[list[bytes], int, Damaged | None]]:
    """Many lines; or one, with its size where not all of it is held, or with what cut it off."""
    last = _Unfinished(longest)
    with open_place(place, limits=limits) as stream:
        for block in _blocks(stream, place):
            if isinstance(block, Damaged):
                line, size = last.take()
                yield [line], size, block
                return
            lines = block.split(b"\n")
            last.add(lines[0])
            if len(lines) > 1:
                line, size = last.take()
                yield [line], size, None
                last.add(lines[-1])
                yield lines[1:-1], 0, None
    line, size = last.take()
    if line:
        yield [line], size, None


def _blocks(stream: io.BufferedReader[Any], place: str | Path) -> Iterator[bytes | Damaged]:
    """Blocks as they come; a fault where packed data end early."""
    try:
        first = True
        while block := stream.read1(_BLOCK):
            if first and block.startswith(_UTF16):
                raise DataError(
                    "not valid UTF-8: it is UTF-16; expected UTF-8: convert it, e.g. iconv -f UTF-16 "
                    "-t UTF-8",
                    file=shown(place),
                    row=1,
                    rule="valid_utf8",
                )
            first = False
            yield block
    except Damaged as error:
        yield error
