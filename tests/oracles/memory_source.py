"""Sources that lie in memory, for tests of ingestion: rows are bytes, parsed as JSON lines would be."""

from __future__ import annotations

import json
from functools import partial

from llara_core.data.raw import Fault, Raw, RowError, Source, SourceFile
from llara_core.data.records import corpus_entry, judgement_entry, query_entry

CONVERTERS = {"corpus": corpus_entry, "queries": query_entry, "qrels": judgement_entry}


def lines(rows):
    """Rows as bytes: mappings become JSON, bytes stay."""
    return [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]


def read(rows):
    offset = 0
    for number, line in enumerate(lines(rows), start=1):
        record, fault = None, None
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            fault = Fault("valid_utf8", str(error))
        except ValueError as error:
            fault = Fault("valid_json", str(error))
        if fault is None and not isinstance(record, dict):
            record, fault = None, Fault("json_object", "expected an object")
        yield Raw(number, record, line, fault, len(line), offset)
        offset += len(line) + 1


def memory_source(convert=None, **roles):
    """A source whose files are the keywords: ``corpus``, ``queries``, ``qrels_test``, ``pairs_train`` …"""
    files = []
    for name, rows in roles.items():
        role = name.replace("_", "/", 1) if name.startswith(("qrels_", "pairs_")) else name
        converter = convert or CONVERTERS[role.partition("/")[0]]
        files.append(SourceFile(role, f"{name}.jsonl", partial(read, rows), converter))
    return Source("memory", "test", files)


def document(name, text="some text", title=""):
    return {"_id": name, "title": title, "text": text}


def query(name, text="some words"):
    return {"_id": name, "text": text}


def judged(query_id, corpus_id, score=1):
    return {"query-id": query_id, "corpus-id": corpus_id, "score": score}


def small(documents=8, queries=4):
    """Rows of a sound collection, as keywords of ``memory_source``."""
    return {
        "corpus": [document(f"d{row}", f"text number {row}", f"title {row}") for row in range(documents)],
        "queries": [query(f"q{row}", f"what is {row}") for row in range(queries)],
        "qrels_test": [judged(f"q{row}", f"d{row}") for row in range(queries)],
    }


__all__ = ["RowError", "document", "judged", "memory_source", "query", "read", "small"]
