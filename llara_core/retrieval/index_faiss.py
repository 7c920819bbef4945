"""The approximate part of an index: FAISS's IVF-PQ or HNSW, in shards, kept up to date without training.

An entry of a FAISS index is a slot; `slots` says which passage it stands for today, or -1 where that
passage is gone. FAISS only proposes passages: their scores are computed from the vectors themselves.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import MissingDependencyError
from llara_core.progress import Progress
from llara_core.retrieval.exact import faiss_module
from llara_core.retrieval.index_files import read_array
from llara_core.retrieval.index_rules import Kind
from llara_core.retrieval.index_vectors import Shards
from llara_core.retrieval.vector_rows import first_rows

logger = logging.getLogger(__name__)
_BLOCK = 65_536  # vectors added at a time
_TRAINING_PER_LIST, _TRAINING_PER_CENTROID = 64, 256  # vectors a list and a centroid are trained on, at most


class Approximate:
    """The FAISS indexes of a state.

    Args:
        kind: ``ivfpq`` or ``hnsw``.
        parameters: of ``index_rules``.
        indexes: one a shard.
        slots: per shard the passage's row [entries] int64, -1 for one that is gone.
    """

    def __init__(
        self, kind: Kind, parameters: Mapping[str, int], indexes: list[Any], slots: list[NDArray[np.int64]]
    ) -> None:
        self.kind, self.parameters, self.indexes, self.slots = kind, parameters, indexes, slots
        self._searched: list[Any] | None = None

    @classmethod
    def train(cls, kind: Kind, parameters: Mapping[str, int], vectors: Shards) -> Approximate:
        """Make the indexes of all vectors, one for each shard of theirs.

        The lists and centroids of IVF-PQ are trained once, on vectors spread evenly over the whole corpus,
        and shared, so that many shards propose what one would. Each shard of HNSW has a graph of its own.
        """
        faiss = require_faiss()
        dimension = vectors.parts[0].shape[1]
        if kind == "hnsw":
            empty = faiss.IndexHNSWFlat(dimension, parameters["m"], faiss.METRIC_INNER_PRODUCT)
            empty.hnsw.efConstruction = parameters["ef_construction"]
        else:
            lists, bits = parameters["nlist"], parameters["nbits"]
            empty = faiss.IndexIVFPQ(
                faiss.IndexFlatIP(dimension),
                dimension,
                lists,
                parameters["m"],
                bits,
                faiss.METRIC_INNER_PRODUCT,
            )
            wanted = max(_TRAINING_PER_LIST * lists, _TRAINING_PER_CENTROID << bits)
            sample = spread(len(vectors), wanted)
            logger.info("index: training %d lists and %d-bit codes on %d vectors", lists, bits, len(sample))
            empty.train(vectors.take(sample).astype(np.float32))
        indexes = [faiss.clone_index(empty) for _ in vectors.parts]
        made = cls(kind, parameters, indexes, [np.empty(0, np.int64) for _ in indexes])
        with Progress(f"index {kind}", total=len(vectors), unit="passages") as bar:
            for shard, (first, part) in enumerate(zip(vectors.firsts, vectors.parts, strict=False)):
                for start in range(0, len(part), _BLOCK):
                    rows = np.arange(start, min(start + _BLOCK, len(part)))
                    made._add(shard, rows + first, np.asarray(part[rows[0] : rows[-1] + 1], np.float32))
                    bar.update(len(rows))
        return made

    @classmethod
    def open(cls, state: Path, kind: Kind, parameters: Mapping[str, int]) -> Approximate:
        """Read the indexes of a state."""
        faiss = require_faiss()
        indexes = [faiss.read_index(str(path)) for path in sorted(state.glob("faiss-*.index"))]
        slots = [np.array(read_array(path)) for path in sorted(state.glob("slots-*.npy"))]
        return cls(kind, parameters, indexes, slots)

    def copy(self) -> Approximate:
        """Another one of the same content, to be changed."""
        faiss = require_faiss()
        indexes = [faiss.clone_index(index) for index in self.indexes]
        return Approximate(self.kind, self.parameters, indexes, [slots.copy() for slots in self.slots])

    def save(self, state: Path) -> None:
        """Write the indexes into the folder of a state."""
        faiss = require_faiss()
        for number, (index, slots) in enumerate(zip(self.indexes, self.slots, strict=True)):
            faiss.write_index(index, str(state / f"faiss-{number:05d}.index"))
            np.save(state / f"slots-{number:05d}.npy", slots, allow_pickle=False)

    def update(self, new_rows: NDArray[np.int64], added: NDArray[np.int64], vectors: Shards) -> None:
        """Turn this into the index of a changed corpus; nothing is trained.

        IVF-PQ forgets what is gone; HNSW cannot, and passes over it when it is met.

        Args:
            new_rows: [N before] int64, the row of each old passage in the new corpus, -1 where it is gone.
            added: the new corpus' other rows, [A] int64.
            vectors: of the new corpus.
        """
        faiss = require_faiss()
        self._searched = None
        for shard, slots in enumerate(self.slots):
            moved = np.where(slots >= 0, new_rows[np.maximum(slots, 0)], -1)
            gone = np.flatnonzero((slots >= 0) & (moved < 0))
            if self.kind == "ivfpq" and len(gone):
                self.indexes[shard].remove_ids(faiss.IDSelectorBatch(gone))
            self.slots[shard] = moved
        smallest = int(np.argmin([(slots >= 0).sum() for slots in self.slots]))
        for start in range(0, len(added), _BLOCK):
            rows = added[start : start + _BLOCK]
            self._add(smallest, rows, vectors.take(rows).astype(np.float32))

    def propose(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows [Q, count] of passages that are likely near each query [Q, D]; -1 where there are too few."""
        scores, rows = [], []
        for index, slots in zip(self._ready(), self.slots, strict=True):
            if not index.ntotal:
                continue
            some, found = index.search(queries, min(count, index.ntotal), params=self._how(count, slots))
            scores.append(np.where(found >= 0, some, -np.inf))
            rows.append(np.where(found >= 0, slots[np.maximum(found, 0)], -1))
        if not rows:
            return np.full((len(queries), 0), -1, np.int64)
        order = np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :count]
        return np.take_along_axis(np.concatenate(rows, axis=1), order, axis=1)

    def _add(self, shard: int, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        index, slots = self.indexes[shard], self.slots[shard]
        vectors = np.ascontiguousarray(vectors)
        if self.kind == "ivfpq":
            index.add_with_ids(vectors, np.arange(len(slots), len(slots) + len(rows)))
        else:
            index.add(vectors)  # numbers its entries itself, from 0
        self.slots[shard] = np.concatenate([slots, rows])

    def _how(self, count: int, slots: NDArray[np.int64]) -> Any:
        faiss = require_faiss()
        if self.kind == "ivfpq":
            return faiss.SearchParametersIVF(nprobe=self.parameters["nprobe"])
        width = max(self.parameters["ef_search"], count)
        if (slots >= 0).all():
            return faiss.SearchParametersHNSW(efSearch=width)
        return faiss.SearchParametersHNSW(
            efSearch=width, sel=faiss.IDSelectorBatch(np.flatnonzero(slots >= 0))
        )

    def _ready(self) -> list[Any]:
        """The indexes to search: IVF-PQ goes to the GPUs where FAISS has any."""
        if self._searched is None:
            faiss = require_faiss()
            self._searched = list(self.indexes)
            if self.kind == "ivfpq" and faiss.get_num_gpus():
                try:
                    self._searched = [faiss.index_cpu_to_all_gpus(index) for index in self.indexes]
                except RuntimeError as error:  # FAISS's GPU code knows some values of m only
                    logger.warning("index: searched on the CPU; FAISS cannot put it on a GPU: %s", error)
        return self._searched


def require_faiss() -> Any:
    """The FAISS module.

    Raises:
        MissingDependencyError: FAISS is not installed.
    """
    faiss = faiss_module()
    if faiss is None:
        raise MissingDependencyError(
            "approximate indexes need FAISS, which is not installed; install the extra `cpu` or `gpu`, or "
            "build a flat index, which needs nothing"
        )
    if sys.platform == "darwin" and "torch" in sys.modules:
        # The wheels of torch and FAISS for macOS each bring an OpenMP; two pools of threads in one
        # process abort or hang. On Linux both use the system's soname and share one.
        faiss.omp_set_num_threads(1)
    return faiss


def match(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each old passage [N] the row of the same text in the new corpus [M], or -1.

    A text that stands in several rows is paired in order, first with first; no new row is used twice.
    """
    groups = first_rows(np.concatenate([old, new]))
    keys_old, keys_new = (_numbered(part, len(groups)) for part in (groups[: len(old)], groups[len(old) :]))
    order = np.argsort(keys_new)
    if not len(order):
        return np.full(len(old), -1, np.int64)
    places = np.minimum(np.searchsorted(keys_new[order], keys_old), len(order) - 1)
    found = order[places]
    return np.where(keys_new[found] == keys_old, found, -1)


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` of `count` rows, evenly spread, ascending."""
    wanted = min(count, wanted)
    return np.arange(wanted, dtype=np.int64) * count // max(1, wanted)


def _numbered(groups: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """A number for each row that tells the group and the how-manieth of it the row is."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    nth = np.empty(len(order), np.int64)
    nth[order] = np.arange(len(order)) - starts[np.cumsum(new) - 1] if len(order) else 0
    return groups * (most + 1) + nth
