"""FlagEmbedding's files: training pairs (``query, pos, neg``) and LLaRA's adaptation rows.

Scores of a teacher (``pos_scores``, ``neg_scores``), ``prompt`` and ``type`` are not read: the pipeline
scores and words its prompts itself. Source: FlagEmbedding's documentation of its fine-tuning data, and
LLaRA's released toy data (``input, output_summarize, output_predict``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llara_core.data.format_base import Format, Request
from llara_core.data.format_pairs import need, open_rows
from llara_core.data.format_tables import Table
from llara_core.data.raw import RowError, Source
from llara_core.data.records import Convert, Passage, string, texts


def open_flag_embedding(request: Request) -> Source:
    """A file of ``query, pos, neg``, or a folder of them.

    Raises:
        DataError: there is no such file, or no row has these fields.
    """
    columns = request.columns
    query, pos, neg = (
        columns.get(ours, own) for ours, own in (("query", "query"), ("positive", "pos"), ("negative", "neg"))
    )

    def convert(table: Table) -> Convert:
        need(table, query, pos)
        return partial(_pair, query=query, pos=pos, neg=neg)

    return open_rows(request, "flag_embedding", convert)


def open_adaptation_rows(request: Request) -> Source:
    """A file of ``input, output_summarize, output_predict``, or a folder of them.

    Raises:
        DataError: there is no such file, or no row has these fields.
    """
    columns = request.columns
    text, following = columns.get("text", "input"), columns.get("next_text", "output_predict")

    def convert(table: Table) -> Convert:
        need(table, text, following)
        return partial(_row, text=text, following=following)

    return open_rows(request, "flag_embedding_rows", convert, role="rows")


def _pair(record: Mapping[str, Any], query: str, pos: str, neg: str) -> tuple[Any, ...]:
    return (
        None,
        string(query, record.get(query)),
        _with_ids(record, pos, texts(pos, record.get(pos), required=True)),
        _with_ids(record, neg, texts(neg, record.get(neg))),
    )


def _with_ids(record: Mapping[str, Any], key: str, passages: list[Passage]) -> list[Passage]:
    """The passages, under the ids that the row may give beside them (``pos_id``, ``neg_id``)."""
    ids = record.get(f"{key}_id")
    if not isinstance(ids, list) or not all(isinstance(one, str) and one.strip() for one in ids):
        return passages
    if len(ids) != len(passages):
        raise RowError("has_id", f"{len(passages)} passages under {key!r} but {len(ids)} under '{key}_id'")
    return [(id_, title, text) for id_, (_, title, text) in zip(ids, passages, strict=True)]


def _row(record: Mapping[str, Any], text: str, following: str) -> tuple[Any, ...]:
    # The released toy data end in "\n" here and "\t\n" there; stripped, each next text is the next row's.
    row = string(text, record.get(text)).strip(), string(following, record.get(following)).strip()
    summarized = record.get("output_summarize")
    if isinstance(summarized, str) and summarized.strip() != row[0]:
        raise RowError(
            "rebuilds_input", f"'output_summarize' differs from {text!r}, which is what an embedding rebuilds"
        )
    for key, value in zip((text, following), row, strict=True):
        if not value:
            raise RowError("has_text", f"expected text under {key!r}, got none")
    return row


FLAG_EMBEDDING = Format(
    name="flag_embedding",
    files="*.jsonl (also .csv, .parquet), one file or a folder; train, dev, test in a name gives the split",
    row='{"query": "what is lava", "pos": ["Molten rock …"], "neg": ["A tail of dust …"]}',
    recognised="by the fields query and pos",
    becomes="distinct passages: corpus; queries; judgements of grade 1; given negatives. Scores are not read",
    open=open_flag_embedding,
)
FLAG_EMBEDDING_ROWS = Format(
    name="flag_embedding_rows",
    files="*.jsonl, one file or a folder",
    row='{"input": "…", "output_summarize": "…", "output_predict": "what comes next"}',
    recognised="by the fields input and output_predict",
    becomes="adaptation rows (text, next text), taken as they are; their texts are the corpus",
    open=open_adaptation_rows,
)
