"""Rows as they were read, before any rule was asked: what readers give and ingestion takes (issue 5).

A reader never drops a row. What it cannot parse it hands on with the reason, so that ingestion can
put it aside, count it and keep it for repair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llara_core.data.places_where import is_url, shown

KEPT_BYTES = 1 << 20  # of a row that is kept for repair; a longer one is kept by its place in the file


class Fault(NamedTuple):
    """Why a row cannot be used."""

    rule: str  # name of the broken rule
    reason: str  # what was found and what was expected


class Raw(NamedTuple):
    """One row of one file."""

    number: int  # 1-based line or row in the file
    record: Mapping[str, Any] | None  # parsed; None where it could not be
    raw: bytes  # the row as it was read, at most KEPT_BYTES of it
    fault: Fault | None = None
    size: int = 0  # bytes of the whole row
    offset: int = -1  # where the row begins in the unpacked file; -1: unknown


class RowError(Exception):
    """A parsed row that does not hold what its format asks for.

    Args:
        rule: name of the broken rule.
        message: what was found and what was expected.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class SourceFile:
    """One file of a source and how its rows become entries.

    Args:
        role: what the entries are, and which values ``convert`` returns:
            ``corpus`` → (id, title, text, group | None, position | None);
            ``queries`` → (id, text);
            ``qrels/<split>`` → (query_id, corpus_id, grade);
            ``pairs/<split>`` → (query_id | None, query, positives, negatives), the last two being
            sequences of (id | None, title, text);
            ``rows`` → (text, next_text): adaptation rows made by somebody else;
            ``negatives`` → (query_id, corpus_id).
        file: where it lies, for messages and records: a URL loses its password and query here.
        read: opens the file and yields every row in it; may be called again.
        convert: a parsed record → the values above; raises ``RowError``.
    """

    role: str
    file: str
    read: Callable[[], Iterator[Raw]]
    convert: Callable[[Mapping[str, Any]], tuple[Any, ...]]

    def __post_init__(self) -> None:
        """Keep secrets of an address out of every count, page and row that names the file."""
        if is_url(self.file):
            object.__setattr__(self, "file", str(shown(self.file)))


@dataclass(frozen=True)
class Source:
    """What a place holds: files in the order in which they are read, none of them read yet.

    Args:
        name: short name of the collection.
        format: name of the format, a key of ``formats.FORMATS``.
        files: corpus first, then queries, then judgements or pairs.
        facts: JSON-able remarks for the record of a run: place, pinned revision, …
    """

    name: str
    format: str
    files: Sequence[SourceFile]
    facts: Mapping[str, Any] = field(default_factory=dict)
