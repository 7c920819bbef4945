"""Parsed rows → entries: what every format asks of a row, and how it says that a row does not hold it.

A converter takes the record of one row and gives the values of ``raw.SourceFile``, or raises ``RowError``
with the rule broken. Nothing is read here, and nothing is dropped. Issue 5, point 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llara_core.data.raw import RowError

_INT32 = 2**31
PLACE = "\0place"  # key under which a reader puts "file:row", where rows have no ids of their own

Convert = Callable[[Mapping[str, Any]], tuple[Any, ...]]
Passage = tuple["str | None", str, str]  # id, title, text


def corpus_entry(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """BEIR's document: ``_id, title, text`` and perhaps ``metadata.group``, ``metadata.position``.

    Raises:
        RowError: a value is missing or of the wrong type.
    """
    metadata = record.get("metadata")
    group, position = None, None
    if isinstance(metadata, dict):  # the publisher's own otherwise: taken only where it has our shape
        if isinstance(metadata.get("group"), str):
            group = string("metadata.group", metadata["group"])
        if is_int(metadata.get("position")) and abs(metadata["position"]) < _INT32:
            position = metadata["position"]
    return (
        identifier(record, "_id"),
        optional(record, "title"),
        string("text", record.get("text")),
        group,
        position,
    )


def query_entry(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """BEIR's query: ``_id, text``.

    Raises:
        RowError: a value is missing or of the wrong type.
    """
    return identifier(record, "_id"), string("text", record.get("text"))


def judgement_entry(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """BEIR's judgement: ``query-id, corpus-id, score``.

    Raises:
        RowError: an id is missing, or the score is no whole number.
    """
    return judgement(record, "query-id", "corpus-id", "score")


def document_entry(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Unlabelled text: ``text`` and perhaps ``title``; its id is its place, whatever else the row holds.

    Raises:
        RowError: there is no text.
    """
    return record[PLACE], optional(record, "title"), string("text", record.get("text")), None, None


def documents(
    id: str | None,
    text: str,
    title: str | None = None,
    group: str | None = None,
    position: str | None = None,
) -> Convert:
    """A converter of documents whose values stand under these keys (None: there is no such value).

    Without ``id``, a document is called by its place (``articles.csv:12``).
    """

    def convert(record: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            record[PLACE] if id is None else identifier(record, id),
            "" if title is None else optional(record, title),
            string(text, record.get(text)),
            None if group is None else optional(record, group) or None,
            None if position is None else whole(position, record.get(position)),
        )

    return convert


def queries(id: str, text: str) -> Convert:
    """A converter of queries whose values stand under these keys."""

    def convert(record: Mapping[str, Any]) -> tuple[Any, ...]:
        return identifier(record, id), string(text, record.get(text))

    return convert


def judgements(query: str, document: str, score: str | None) -> Convert:
    """A converter of judgements whose values stand under these keys; without a score the grade is 1."""

    def convert(record: Mapping[str, Any]) -> tuple[Any, ...]:
        if score is None:
            return identifier(record, query), identifier(record, document), 1
        return judgement(record, query, document, score)

    return convert


def judgement(record: Mapping[str, Any], query: str, document: str, score: str) -> tuple[str, str, int]:
    """Query id, document id and grade.

    Raises:
        RowError: an id is missing, or the score is no whole number.
    """
    value = grade(record.get(score))
    if value is None:
        raise RowError(
            "grades_in_range", f"expected a whole number under {score!r}, got {record.get(score)!r:.40}"
        )
    return identifier(record, query), identifier(record, document), value


def grade(cell: Any) -> int | None:
    """The whole number that a cell holds (``1``, ``"1"``, ``1.0``), or None."""
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < _INT32 else None


def whole(key: str, value: Any) -> int | None:
    """The whole number under a key; None where there is none.

    Raises:
        RowError: it is no whole number of 32 bits.
    """
    if value is None or value == "":
        return None
    number = grade(value)
    if number is None:
        raise RowError("columns", f"expected a whole number under {key!r}, got {value!r:.40}")
    return number


def identifier(record: Mapping[str, Any], key: str) -> str:
    """An id, as a string; numbers are taken, as publishers write them.

    Raises:
        RowError: it is missing, or neither a string nor a whole number.
    """
    value = record.get(key)
    if is_int(value):
        return str(value)
    if not isinstance(value, str):
        raise RowError("has_id", f"expected a string under {key!r}, got {value!r:.60}")
    return string(key, value)


def optional(record: Mapping[str, Any], key: str) -> str:
    """A string that may be missing or null: "" then.

    Raises:
        RowError: it is something else than a string.
    """
    value = record.get(key)
    return "" if value is None else string(key, value)


def string(key: str, value: Any) -> str:
    """The value, if it is a string of whole characters.

    Raises:
        RowError: it is not.
    """
    if not isinstance(value, str):
        raise RowError("has_text", f"expected a string under {key!r}, got {value!r:.60}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError("valid_utf8", f"{key!r} holds half a surrogate pair, which is no character") from None
    return value


def texts(key: str, value: Any, *, required: bool = False) -> list[Passage]:
    """Passages from a string or a list of strings; null and a missing key are none.

    Args:
        key: where they stand, for messages.
        value: what stands there.
        required: whether there must be one.

    Raises:
        RowError: it is neither, or there is none though one is required.
    """
    listed: Sequence[Any] = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    if required and not listed:
        raise RowError("has_positive", f"expected a passage under {key!r}, got {value!r:.60}")
    return [(None, "", string(key, one)) for one in listed]


def is_int(value: Any) -> bool:
    """Whether a value is a whole number, which ``True`` is not."""
    return isinstance(value, int) and not isinstance(value, bool)
