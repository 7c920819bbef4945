"""Small collections written out in a test."""

from __future__ import annotations

import pyarrow as pa

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection


def collection(
    corpus: dict[str, str],
    queries: dict[str, str],
    qrels: dict[str, dict[str, dict[str, int]]],
    name: str = "tiny",
) -> Collection:
    """Build a collection from document id to text, query id to text, and split to query to grades."""
    documents = [
        {"_id": key, "title": "", "text": text, "group": None, "position": None, "line": line}
        for line, (key, text) in enumerate(corpus.items(), start=1)
    ]
    asked = [{"_id": key, "text": text, "line": line} for line, (key, text) in enumerate(queries.items(), 1)]
    judged = {
        split: pa.Table.from_pylist(
            [
                {"query_id": query, "corpus_id": document, "score": grade, "line": 1}
                for query, grades in by_query.items()
                for document, grade in grades.items()
            ],
            QRELS_SCHEMA,
        )
        for split, by_query in qrels.items()
    }
    return Collection(
        name=name,
        corpus=pa.Table.from_pylist(documents, CORPUS_SCHEMA),
        queries=pa.Table.from_pylist(asked, QUERIES_SCHEMA),
        qrels=judged,
    )
