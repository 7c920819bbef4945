"""The rows of BEIR files: one line → one checked record, with the line's number.

Only a line feed ends a line, because text may hold any other line separator (U+2028, form feed).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA
from llara_core.data.zips import BAD_ZIP, open_binary
from llara_core.errors import DataError

_CHUNK = 50_000  # rows that stand as Python objects at a time: bounds memory on large corpora
_INT32 = 2**31


def read_corpus(file: Path) -> pa.Table:
    """Table of ``CORPUS_SCHEMA`` from a corpus file, plain or ``.gz``.

    Raises:
        DataError: the file is unreadable or empty, or a row is malformed.
    """
    table = _read_jsonl(file, CORPUS_SCHEMA, _corpus_row)
    if not table.num_rows:
        raise DataError("the corpus is empty; add documents", file=file, rule="corpus_not_empty")
    return table


def read_queries(file: Path) -> pa.Table:
    """Table of ``QUERIES_SCHEMA`` from a queries file, plain or ``.gz``.

    Raises:
        DataError: the file is unreadable, or a row is malformed.
    """
    return _read_jsonl(file, QUERIES_SCHEMA, _query_row)


def read_documents(file: Path) -> pa.Table:
    """Table of ``CORPUS_SCHEMA`` from JSON lines of unlabelled text, plain or ``.gz``; ids stay empty.

    A row holds ``text`` and perhaps ``title``; whatever else it holds (``id``, ``url``) is not read.

    Raises:
        DataError: the file is unreadable, or a row is malformed or has no ``text``.
    """
    return _read_jsonl(file, CORPUS_SCHEMA, _document_row)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank."""
    number = 0
    try:
        with open_binary(file) as stream:
            for number, raw in enumerate(stream, start=1):  # the message needs the number
                line = raw[3:] if number == 1 and raw.startswith(b"\xef\xbb\xbf") else raw
                if line.strip():
                    yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not valid UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start} of the line)",
            file=file, row=number, rule="valid_utf8",
        ) from None  # fmt: skip
    except (OSError, EOFError, zlib.error, *BAD_ZIP) as error:
        raise DataError(f"cannot be read after row {number}: {error}", file=file, rule="readable") from None


def _read_jsonl(
    file: Path, schema: pa.Schema, convert: Callable[[Mapping[str, Any]], tuple[Any, ...]]
) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    rows: list[tuple[Any, ...]] = []
    for number, line in _lines(file):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise _RowError("json_object", f"expected a JSON object, got {type(record).__name__}")
            rows.append((*convert(record), number))
        except json.JSONDecodeError as error:
            _fail(file, number, "valid_json", f"malformed JSON: {error.msg} at column {error.colno}")
        except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
            _fail(file, number, "valid_json", f"malformed JSON: {error}")
        except _RowError as error:
            _fail(file, number, error.rule, str(error))
        if len(rows) == _CHUNK:
            batches.append(_batch(rows, schema))
            rows = []
    if rows:
        batches.append(_batch(rows, schema))
    return pa.Table.from_batches(batches, schema=schema)


def _corpus_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    title = record.get("title")
    if title is None:
        title = ""
    metadata = record.get("metadata")
    group, position = None, None
    if isinstance(metadata, dict):  # the publisher's own otherwise: taken only where it has our shape
        if isinstance(metadata.get("group"), str):
            group = _clean("metadata.group", metadata["group"])
        if _is_int(metadata.get("position")) and abs(metadata["position"]) < _INT32:
            position = metadata["position"]
    return _row_id(record), _clean("title", title), _clean("text", record.get("text")), group, position


def _document_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    title = record.get("title")
    text = _clean("text", record.get("text"))
    return "", "" if title is None else _clean("title", title), text, None, None


def _query_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return _row_id(record), _clean("text", record.get("text"))


def _row_id(record: Mapping[str, Any], key: str = "_id") -> str:
    value = record.get(key)
    if _is_int(value):
        return str(value)
    if not isinstance(value, str):
        raise _RowError("has_id", f"expected a string under {key!r}, got {value!r:.60}")
    return _clean(key, value)


def _clean(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _RowError("has_text", f"expected a string under {key!r}, got {value!r:.60}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _RowError("valid_utf8", f"{key!r} holds half a surrogate pair, which is no character") from None
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_qrels(file: Path) -> pa.Table:
    """Table of ``QRELS_SCHEMA`` from a TSV file (it may lack the header) or JSON lines, plain or ``.gz``.

    JSON lines, as mteb's repositories have them, hold ``query-id``, ``corpus-id`` and ``score``.

    Raises:
        DataError: the file is unreadable, or a row has not three cells or no whole number as grade.
    """
    if ".jsonl" in file.suffixes:
        return _read_jsonl(file, QRELS_SCHEMA, _judgement_row)
    batches: list[pa.RecordBatch] = []
    rows: list[tuple[Any, ...]] = []
    first = True
    for number, line in _lines(file):
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != 3:
            expected = "expected 3 cells with tabs between (query-id, corpus-id, score)"
            _fail(file, number, "qrels_columns", f"{expected}, got {len(cells)}")
        score = _grade(cells[2])
        if score is None and not first:
            _fail(file, number, "grades_in_range", f"expected a whole number as score, got {cells[2]!r:.40}")
        if score is not None:
            rows.append((cells[0], cells[1], score, number))
        first = False
        if len(rows) == _CHUNK:
            batches.append(_batch(rows, QRELS_SCHEMA))
            rows = []
    if rows:
        batches.append(_batch(rows, QRELS_SCHEMA))
    return pa.Table.from_batches(batches, schema=QRELS_SCHEMA)


def _judgement_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    score = _grade(str(record.get("score")))
    if score is None:
        raise _RowError(
            "grades_in_range", f"expected a whole number under 'score', got {record.get('score')!r:.40}"
        )
    return _row_id(record, "query-id"), _row_id(record, "corpus-id"), score


def _grade(cell: str) -> int | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < _INT32 else None


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


class _RowError(Exception):
    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _fail(file: Path, row: int, rule: str, message: str) -> NoReturn:
    raise DataError(f"{message}; mend or remove the row", file=file, row=row, rule=rule)
