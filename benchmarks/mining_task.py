"""What both ways of ``mining.py`` are given: one made collection, and its vectors in either way's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection

DIMENSION, NEGATIVES, WINDOW = 256, 8, 81  # 81: what the peer takes by itself for 8 negatives and 1 positive
VOCABULARY, WORDS = 20_000, 60
OURS, OURS_PLAIN = "llara, near-duplicates left out", "llara"
PEER, PEER_FAISS = "sentence-transformers", "sentence-transformers, FAISS"
WAYS = (OURS_PLAIN, OURS, PEER, PEER_FAISS)
Triples = set[tuple[str, str]]


class Task:
    """A made collection: a query's vector is its positive's with noise, as of a model that knows its task.

    Args:
        passages: N.
        queries: Q, at most N; query i's positive is passage i.
        folder: of the caches.
    """

    def __init__(self, passages: int, queries: int, folder: Path) -> None:
        random = np.random.default_rng(0)
        words = np.array([f"word{number}" for number in range(VOCABULARY)])
        drawn = (random.zipf(1.3, (passages, WORDS)) - 1) % VOCABULARY
        self.passages = [f"{row} " + " ".join(words[some]) for row, some in enumerate(drawn)]
        self.queries = [
            f"query {row} " + " ".join(words[some[:8]]) for row, some in enumerate(drawn[:queries])
        ]
        vectors = random.standard_normal((passages, DIMENSION), dtype=np.float32)
        self.vectors = _unit(vectors + random.standard_normal((1, DIMENSION), dtype=np.float32))
        noise = random.standard_normal((queries, DIMENSION), dtype=np.float32)
        self.asked = _unit(self.vectors[:queries] + np.float32(0.9 / DIMENSION**0.5) * noise)
        self.folder = folder
        self.collection = self._collection()

    def ways(self, names: Sequence[str]) -> dict[str, Callable[[], Triples]]:
        """Functions that mine, by name; only what they need is imported."""
        return {name: self._peer(name) if name in (PEER, PEER_FAISS) else self._ours(name) for name in names}

    def _ours(self, name: str) -> Callable[[], Triples]:
        from llara_core.retrieval.mining import mine

        # Lists of ranks as the peer's: without taking back, without BM25.
        settings = MineSettings(
            negatives=NEGATIVES, bm25_depth=0, dense_depth=WINDOW, take_back=False,
            near_duplicate=0.8 if name == OURS else None,
        )  # fmt: skip

        def way() -> Triples:
            mined = mine(self.collection, self, settings, cache=self.folder / "ours")
            return _pairs(mined.table)

        return way

    def _peer(self, name: str) -> Callable[[], Triples]:
        import torch
        from datasets import Dataset
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import mine_hard_negatives

        torch.set_num_threads(1)
        model: Any = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")
        model.get_embedding_dimension = lambda: DIMENSION
        self._fill_peers_cache(model.model_card_data.base_model or "")
        positives = self.passages[: len(self.queries)]
        pairs = Dataset.from_dict({"query": self.queries, "positive": positives})

        def way() -> Triples:
            mined = mine_hard_negatives(
                pairs, model, corpus=self.passages, relative_margin=0.05, num_negatives=NEGATIVES,
                range_max=WINDOW, use_faiss=name == PEER_FAISS, cache_folder=str(self.folder / "peer"),
                output_format="triplet", output_scores=True, verbose=False,
            )  # fmt: skip
            columns = (column.to_pylist() for column in (mined.data["query"], mined.data["negative"]))
            return {
                (f"q{query.split()[1]}", f"d{text.split()[0]}") for query, text in zip(*columns, strict=True)
            }

        return way

    def _fill_peers_cache(self, model: str) -> None:
        folder = self.folder / "peer"
        folder.mkdir(parents=True, exist_ok=True)
        for kind, texts, vectors in (
            ("query", self.queries, self.asked), ("corpus", self.passages, self.vectors),
        ):  # fmt: skip
            name = hashlib.sha256(
                repr((model, None, None, texts)).encode(), usedforsecurity=False
            ).hexdigest()
            np.save(folder / f"{kind}_embeddings_{name}.npy", vectors, allow_pickle=False)

    def _collection(self) -> Collection:
        count, asked = len(self.passages), len(self.queries)
        lines, few = pa.array(range(count), pa.int32()), pa.array(range(asked), pa.int32())
        ids, queries = pa.array([f"d{row}" for row in range(count)]), [f"q{row}" for row in range(asked)]
        columns = [
            ids,
            pa.array([""] * count),
            pa.array(self.passages),
            pa.nulls(count, pa.string()),
            lines,
            lines,
        ]
        judged = [pa.array(queries), ids[:asked], pa.array([1] * asked, pa.int32()), few]
        return Collection(
            "made",
            pa.table(columns, CORPUS_SCHEMA),
            pa.table([pa.array(queries), pa.array(self.queries), few], QUERIES_SCHEMA),
            {"train": pa.table(judged, QRELS_SCHEMA)},
        )

    # What the miner needs of an encoder; the vectors are there already.
    dimension, fingerprint = DIMENSION, "made"

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors [Q, D] of queries."""
        return self.asked[[int(text.split()[1]) for text in texts]]

    def encode_passages(self, passages: list[str]) -> NDArray[np.float32]:
        """Vectors [N, D] of passages."""
        return self.vectors[[int(text.split()[0]) for text in passages]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _pairs(table: pa.Table) -> Triples:
    return set(zip(table["query_id"].to_pylist(), table["corpus_id"].to_pylist(), strict=True))
