"""Writing a state of an index: from nothing, or from the state before it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.retrieval import index_files as files
from llara_core.retrieval.exact import faiss_module
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.index_faiss import Approximate, match
from llara_core.retrieval.index_rules import REBUILD_SHARE, Kind, choose
from llara_core.retrieval.index_search import measure_recall
from llara_core.retrieval.index_vectors import Shards, open_shards, write_vectors
from llara_core.retrieval.vectors import Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """What the folder of an index holds.

    Args:
        manifest: what ``index.json`` says.
        ids: column of ids [N], memory-mapped.
        hashes: uint8 [N, 16], of the passages.
        vectors: [N, D].
        approximate: the FAISS indexes; None where the index is flat.
    """

    manifest: Mapping[str, Any]
    ids: Any
    hashes: NDArray[np.uint8]
    vectors: Shards
    approximate: Approximate | None


def open_state(folder: Path, verify: bool | None = None) -> State:
    """Check and open the state that the manifest names; see ``index_files.check_files``."""
    manifest = files.read_manifest(folder)
    state = files.check_files(folder, manifest, verify)
    kind, parameters = manifest["kind"], manifest["parameters"]
    return State(
        manifest,
        files.read_ids(state / files.IDS),
        np.load(state / files.HASHES, allow_pickle=False),
        open_shards(state, manifest["fingerprint"]["dimension"], manifest["dtype"]),
        None if kind == "flat" else Approximate.open(state, kind, parameters),
    )


def write_state(
    folder: Path,
    encoder: Encoder,
    ids: Sequence[str],
    passages: Sequence[str],
    facts: Mapping[str, Any],
    old: State | None,
    cache: Path,
) -> None:
    """Write a new state into the folder of an index, and the manifest last."""
    ids = _checked(ids, passages)
    hashes = passage_hashes(passages)
    asked = facts["asked"]
    kind, parameters = choose(asked["kind"], len(ids), encoder.dimension, asked["parameters"])
    with files.new_state(folder) as state:
        before = None if old is None else (old.hashes, old.vectors)
        vectors, encoded = write_vectors(
            state, encoder, passages, hashes, before, facts["shards"], facts["dtype"], cache
        )
        files.write_ids(state / files.IDS, ids)
        np.save(state / files.HASHES, hashes, allow_pickle=False)
        approximate, trained = _approximate(old, kind, parameters, hashes, vectors)
        recall: dict[str, Any] | None = None
        if approximate is not None:
            approximate.save(state)
            recall = measure_recall(vectors, approximate)
            parameters = dict(approximate.parameters)
        counts = _counts(old, ids, hashes) | {"encoded": encoded}
        faiss = faiss_module() if approximate is not None else None
        manifest = {
            "fingerprint": {
                "model": encoder.fingerprint,
                "template": facts["template"],
                "dimension": encoder.dimension,
                "corpus": files.corpus_hash(ids, hashes),
            },
            "documents": len(ids),
            "kind": kind,
            "parameters": parameters,
            "asked": asked,
            "dtype": facts["dtype"],
            "shards": facts["shards"],
            "faiss": None if faiss is None else faiss.__version__,
            "recall": recall,
            "since_training": trained,
            "counts": counts,
        }
        files.write_manifest(folder, state, manifest)
    logger.info("index: %s; %s", describe(manifest), ", ".join(f"{n} {word}" for word, n in counts.items()))


def _approximate(
    old: State | None, kind: Kind, parameters: dict[str, int], hashes: NDArray[np.uint8], vectors: Shards
) -> tuple[Approximate | None, int]:
    """The approximate part of a new state, and how many of its passages came or went since its training."""
    if kind == "flat":
        return None, 0
    before = None if old is None else old.approximate
    if old is not None and before is not None and before.kind == kind:
        moved = match(old.hashes, hashes)
        added = np.setdiff1d(np.arange(len(hashes)), moved[moved >= 0])
        changed = int(old.manifest["since_training"]) + len(added) + int((moved < 0).sum())
        if changed <= REBUILD_SHARE * len(hashes):
            before = before.copy()
            before.update(moved, added, vectors)
            return before, changed
        logger.info("index: %d passages came or went since its training; it is trained again", changed)
    return Approximate.train(kind, parameters, vectors), 0


def describe(manifest: Mapping[str, Any]) -> str:
    """One line on an index: kind, parameters, size, recall."""
    shown = " ".join(f"{name}={value}" for name, value in manifest["parameters"].items())
    recall = manifest["recall"]
    parts = [
        f"{manifest['kind']}{' ' if shown else ''}{shown}",
        f"{manifest['documents']} passages of {manifest['fingerprint']['dimension']} dimensions",
        f"{manifest['shards']} shard{'s' if manifest['shards'] > 1 else ''} of {manifest['dtype']}",
    ]
    if recall is not None:
        parts.append(f"recall@{recall['depth']} {recall['recall']:.3f} on {recall['queries']} vectors")
    return ", ".join(parts)


def _checked(ids: Sequence[str], passages: Sequence[str]) -> list[str]:
    ids = list(ids)
    if len(ids) != len(passages):
        raise DataError(f"index: expected one id a passage, got {len(ids)} ids and {len(passages)} passages")
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"index: the id {twice!r} stands for several passages", rule="unique_ids")
    return ids


def _counts(old: State | None, ids: list[str], hashes: NDArray[np.uint8]) -> dict[str, int]:
    """How the corpus differs from the one before, by id."""
    before = (
        {}
        if old is None
        else dict(zip(old.ids.to_pylist(), (row.tobytes() for row in old.hashes), strict=True))
    )
    kept = changed = 0
    for one, row in zip(ids, hashes, strict=True):
        known = before.pop(one, None)
        kept += known == row.tobytes()
        changed += known is not None and known != row.tobytes()
    return {"kept": kept, "added": len(ids) - kept - changed, "changed": changed, "deleted": len(before)}
