"""A tiny model from scratch and what it is made of, for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from llara_core.config import FromScratchSettings, ModelSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.model.prepare import prepare_base

SMALL = FromScratchSettings(
    vocabulary_size=400, hidden_size=32, intermediate_size=48, layers=1, heads=2, max_positions=128
)
WORDS = [
    "def parse_json_file(path):",
    "class HTTPServer: pass",
    "return the sum of two numbers",
    "open a file",
]


def collection() -> Collection:
    corpus = pa.Table.from_pylist(
        [{"_id": f"d{i}", "title": "", "text": t} for i, t in enumerate(WORDS)], CORPUS_SCHEMA
    )
    queries = pa.Table.from_pylist([{"_id": "q0", "text": "zebra"}], QUERIES_SCHEMA)
    qrels = pa.Table.from_pylist([{"query_id": "q0", "corpus_id": "d0", "score": 1}], QRELS_SCHEMA)
    return Collection("tiny", corpus, queries, {"test": qrels})


def settings(**changes: object) -> ModelSettings:
    return ModelSettings(**{"from_scratch": SMALL, "query_length": 8, "passage_length": 16, **changes})


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_base(settings(), collection(), tmp_path_factory.mktemp("model") / "base", seed=0)
