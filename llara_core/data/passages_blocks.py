"""The pieces of a document that are not cut without need: sentences, headings, table rows, code.

What Markdown calls a block is told by its lines; any other text is one paragraph after another.
Issue 5, point 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from llara_core.data.passages_sentences import sentences

_LINE = re.compile(r"[^\n]*\n?")
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"[ ]{0,3}#{1,6}(?:[ \t]|$)")
_UNDERLINE = re.compile(r"[ ]{0,3}(?:={2,}|-{2,})[ \t]*$")  # turns the line above into a heading
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022\u2023\u25e6]|\d{1,9}[.)]|\(?[a-z][.)])[ \t]+\S")


class Piece(NamedTuple):
    """A stretch of a document, without white space around it."""

    start: int  # in characters of the document
    end: int
    leads: bool = False  # belongs to what follows: a heading, a line that ends with a colon
    table: int = -1  # number of the table whose row it is
    whole: int = -1  # number of the table or code block that stays whole where it fits
    header: tuple[int, int] | None = None  # of a table's row: where its header stands


class _Line(NamedTuple):
    start: int
    end: int  # without the line feed
    text: str


def pieces(text: str) -> list[Piece]:
    """The pieces of a document, in order; between them is only white space.

    - Headings (``#`` or underlined) and lines that end with a colon lead what follows.
    - A table (lines with ``|``, or with tabs) gives its rows; its header is the row above ``|---|``.
    - A fenced code block gives its lines, and is to stay whole where it fits.
    - Each item of a list gives its sentences; a paragraph gives its sentences.
    """
    found: list[Piece] = []
    lines = _lines(text)
    row = block = 0
    while row < len(lines):
        kind, stop = _block(lines, row)
        inside = lines[row:stop]
        block += 1
        if kind == "code":
            filled = (line for line in inside if line.text.strip())
            found += (Piece(*_bare(line), leads=line is inside[0], whole=block) for line in filled)
        elif kind == "table":
            found += _table(inside, block)
        elif kind == "heading":
            found.append(Piece(_bare(inside[0])[0], _bare(inside[-1])[1], leads=True))
        elif kind != "blank":
            found += _prose(text, inside[0].start, inside[-1].end)
        row = stop
    return found


def _lines(text: str) -> list[_Line]:
    return [
        _Line(match.start(), match.end() - match[0].endswith("\n"), match[0].rstrip("\r\n"))
        for match in _LINE.finditer(text)
        if match[0]
    ]


def _block(lines: list[_Line], row: int) -> tuple[str, int]:
    """The kind of the block that begins at a line, and the line after it."""
    line = lines[row].text
    kind, stop = "paragraph", row + 1
    if not line.strip():
        kind = "blank"
    elif fence := _FENCE.match(line):
        kind, stop = "code", _closing(lines, row + 1, fence[1])
    elif _HEADING.match(line):
        kind = "heading"
    elif (end := _table_end(lines, row)) > row + 1:
        kind, stop = "table", end
    elif stop < len(lines) and _UNDERLINE.match(lines[stop].text) and not _ITEM.match(line):
        kind, stop = "heading", row + 2
    else:
        stop = _paragraph_end(lines, row)
    return kind, stop


def _closing(lines: list[_Line], row: int, fence: str) -> int:
    """The line after a code block's end, or after the document's."""
    for number in range(row, len(lines)):
        if lines[number].text.strip().startswith(fence) and not lines[number].text.strip().strip(fence[0]):
            return number + 1
    return len(lines)


def _table_end(lines: list[_Line], row: int) -> int:
    """The line after the table that begins here; ``row`` itself where none does.

    Tables are two lines or more that all begin with ``|``, that have a line ``---|---`` below the first,
    or that all hold the same number of tabs.
    """
    first = lines[row].text
    stop = row + 1
    if first.lstrip().startswith("|") or (
        "|" in first and stop < len(lines) and "|" in lines[stop].text and _is_delimiter(lines[stop].text)
    ):
        while stop < len(lines) and "|" in lines[stop].text:
            stop += 1
    elif tabs := first.strip().count("\t"):
        while stop < len(lines) and lines[stop].text.strip("\r\n ").count("\t") == tabs:
            stop += 1
    return stop


def _paragraph_end(lines: list[_Line], row: int) -> int:
    for number in range(row + 1, len(lines)):
        line = lines[number].text
        if not line.strip() or _HEADING.match(line) or _FENCE.match(line) or _ITEM.match(line):
            return number
        if line.lstrip().startswith("|") and _table_end(lines, number) > number + 1:
            return number
    return len(lines)


def _table(lines: list[_Line], block: int) -> Iterator[Piece]:
    """The rows; a header and the line below it lead them, and each row knows the header."""
    header = None
    if len(lines) > 1 and _is_delimiter(lines[1].text):
        header = (_bare(lines[0])[0], _bare(lines[1])[1])
        yield Piece(*header, leads=True, table=block, whole=block)
    for line in lines[2:] if header else lines:
        yield Piece(*_bare(line), table=block, whole=block, header=header)


def _is_delimiter(line: str) -> bool:
    """Whether this is the line ``|:---|---|`` below a table's header."""
    return "-" in line and not line.strip("|:- \t")


def _prose(text: str, start: int, end: int) -> Iterator[Piece]:
    for first, last in sentences(text, start, end):
        yield Piece(first, last, leads=text[last - 1] in ":\uff1a")


def _bare(line: _Line) -> tuple[int, int]:
    """Where the line's text begins and ends without white space."""
    left = len(line.text) - len(line.text.lstrip())
    return line.start + left, line.start + len(line.text.rstrip())
