"""Tables as people have them: documents in one file, questions with their answers in another.

What the formats read is laid out as a collection already. Here two plain tables become one: every question
with the document that answers it, named by id or given as text; or, where there are no questions at all,
every document's title with its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llara_core.data.format_base import check_columns
from llara_core.data.format_tables import Table, document_file, find, open_table
from llara_core.data.places import name_of
from llara_core.data.raw import Raw, RowError, Source, SourceFile
from llara_core.data.records import identifier, string
from llara_core.errors import ConfigError

_QUESTIONS = ("query", "question", "title", "text")
_ANSWERS = ("positive", "answer", "answers", "passage", "response")
_ANSWER_IDS = ("corpus-id", "corpus_id", "docid", "doc_id", "document_id", "passage_id", "answer_id")


def with_questions(documents: Source, pairs: str, columns: Mapping[str, str], split: str = "train") -> Source:
    """A source of documents with the questions of another table.

    Args:
        documents: of ``formats.open_source``; only its corpus is taken.
        pairs: place of a table (CSV, TSV, JSON lines, Parquet) of questions with answers.
        columns: ours → the file's own: ``query`` is the question; ``corpus_id`` the id of the document that
            answers it, or ``positive`` the text of the answer, which becomes a document.
        split: that the judgements make.

    Returns:
        The source; questions are called by a hash of their text, so the same question asked twice is one
        query with two answers.

    Raises:
        DataError: the table cannot be opened.
        ConfigError: its columns do not tell question and answer; says how to name them.
    """
    check_columns(columns)
    table = open_table(pairs, columns)
    question = _column("query", _QUESTIONS, table, columns)
    if question is None:
        raise ConfigError(_unknown("question", "query", table))
    corpus = [one for one in documents.files if one.role == "corpus"]
    answer_id = _column("corpus_id", _ANSWER_IDS, table, columns) if "positive" not in columns else None
    if answer_id is not None:
        files = [
            SourceFile("queries", table.file, table.read, partial(_query, question)),
            SourceFile(f"qrels/{split}", table.file, table.read, partial(_judgement, question, answer_id)),
        ]
    else:
        answer = _column("positive", _ANSWERS, table, columns)
        if answer is None:
            raise ConfigError(_unknown("answer", "corpus_id (an id) or positive (a text)", table))
        files = [SourceFile(f"pairs/{split}", table.file, table.read, partial(_pair, question, answer))]
    return replace(documents, files=[*corpus, *files], facts={**documents.facts, "pairs": str(pairs)})


def with_titles(documents: str, columns: Mapping[str, str], name: str | None = None) -> Source:
    """A table of documents whose titles ask for their texts, where nothing better is at hand.

    The title stands in the query alone: a passage that begins with its own query teaches nothing.

    Args:
        documents: place of a table with titles.
        columns: ours → the file's own.
        name: of the collection; None: the file's.

    Raises:
        DataError: the table cannot be opened, or has no column for the text.
        ConfigError: it has no column for the title.
    """
    check_columns(columns)
    table = open_table(documents, columns)
    title = find("title", table, columns)
    if title is None:
        raise ConfigError(_unknown("title", "title", table))
    whole = document_file(table, table.file, columns)
    untitled = replace(whole, convert=partial(_untitled, whole.convert))
    asked = partial(_filled, whole.read, title)
    return Source(
        name or name_of(documents).split(".")[0],
        "titles",
        [
            untitled,
            SourceFile("queries", table.file, asked, partial(_query, title)),
            SourceFile("qrels/train", table.file, asked, partial(_titled, whole.convert, title)),
        ],
        {"place": documents, "columns": dict(columns)},
    )


def _column(key: str, known: tuple[str, ...], table: Table, columns: Mapping[str, str]) -> str | None:
    if key in columns:
        if columns[key] not in table.fields:
            raise ConfigError(_unknown(f"{key} named {columns[key]!r}", key, table))
        return columns[key]
    lower = {field.lower(): field for field in reversed(table.fields)}
    return next((lower[one] for one in known if one in lower and lower[one] not in columns.values()), None)


def _unknown(what: str, key: str, table: Table) -> str:
    return (
        f"{table.file}: no column for the {what}; there are: {', '.join(table.fields[:12])}. "
        f"Name it: {key} = one of them"
    )


def _id(text: str) -> str:
    return f"q-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _query(question: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    text = string(question, record.get(question))
    return _id(text), text


def _judgement(question: str, answer: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    return _id(string(question, record.get(question))), identifier(record, answer), 1


def _pair(question: str, answer: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    text = string(answer, record.get(answer))
    if not text.strip():
        raise RowError("has_positive", f"the answer under {answer!r} is empty; write one or remove the row")
    return None, string(question, record.get(question)), [(None, "", text)], []


def _untitled(
    convert: Callable[[Mapping[str, Any]], tuple[Any, ...]], record: Mapping[str, Any]
) -> tuple[Any, ...]:
    name, _title, *rest = convert(record)
    return (name, "", *rest)


def _titled(
    convert: Callable[[Mapping[str, Any]], tuple[Any, ...]], title: str, record: Mapping[str, Any]
) -> tuple[Any, ...]:
    return _id(string(title, record.get(title))), convert(record)[0], 1


def _filled(read: Callable[[], Iterator[Raw]], column: str) -> Iterator[Raw]:
    """Rows with something in a column; the others, and the broken ones, are told about as documents."""
    for raw in read():
        value = None if raw.record is None else raw.record.get(column)
        if raw.fault is None and isinstance(value, str) and value.strip():
            yield raw
