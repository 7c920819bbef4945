"""Duplicates of a corpus: exact ones by a hash of the folded text, near ones by MinHash and banding.

1. Texts that are equal but for case, punctuation, white space and Unicode form share a key.
2. Of each key one text goes on. Its word n-grams are reduced to a MinHash signature, the signature to
   bands; texts that share a band are candidates (Broder 1997; Indyk & Motwani 1998).
3. Candidates are compared exactly: only a Jaccard similarity of at least the threshold makes a pair.
4. Pairs are joined to clusters; a cluster is called by its lowest row. Of a row of versions each like the
   next, all are one cluster, though the first and the last may differ by more than the threshold allows.

What comes out depends on the texts and their order alone, not on the size of blocks or on threads.
Source: issue 5, point 5.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.duplicates_near import NearGroups
from llara_core.data.duplicates_report import report_of
from llara_core.data.shingle_hashes import KEY_BYTES, blocks, keys_and_words
from llara_core.data_settings import DuplicateSettings
from llara_core.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Duplicates:
    """Which rows of a corpus are the same.

    Args:
        clusters: [N] the lowest row of the cluster that each row is in; its own row where it is alone.
        exact: [N] the same for exact duplicates only.
        kept: [N] whether the policy leaves the row; all true for ``mark``.
        representatives: [N] the row that stands for each row after the policy (itself where kept).
        report: counts, sizes and examples; JSON-able.
    """

    clusters: NDArray[np.int64]
    exact: NDArray[np.int64]
    kept: NDArray[np.bool_]
    representatives: NDArray[np.int64]
    report: dict[str, Any]


def find_duplicates(
    passages: Sequence[str], settings: DuplicateSettings | None = None, ids: Sequence[str] | None = None
) -> Duplicates:
    """Find exact and near-duplicates.

    Memory: 32 bytes a passage, 64 to 170 more for its bands (by the threshold), and 8 a word of those
    passages that share a band with another; the texts are read twice and never held.

    Args:
        passages: N texts; a lazy sequence is iterated in blocks.
        settings: what counts as the same; None: the defaults.
        ids: N names of the passages for the examples of the report; None: rows.

    Raises:
        MissingDependencyError: near-duplicates are looked for and ``rensa`` is not installed.
    """
    settings = settings or DuplicateSettings()
    groups = NearGroups(settings.threshold, settings.ngram) if settings.near else None
    keys = bytearray()
    with Progress("duplicates", len(passages), "passages") as progress:
        for first, block in blocks(passages):
            more, words = keys_and_words(block)
            keys += more
            if groups is not None:
                groups.add(first, words)
            progress.update(len(block))
    exact = _first_of_each(keys)
    clusters = exact if groups is None else groups.join(exact, passages)
    representatives = _representatives(clusters, passages, settings.policy)
    kept = representatives == np.arange(len(clusters))
    facts = {} if groups is None else groups.facts
    report = report_of(clusters, exact, kept, passages, ids, settings) | facts
    logger.info(
        "duplicates: %d of %d passages repeat another (%d exactly), %d clusters",
        report["repeats"], report["passages"], report["exact_repeats"], report["clusters"],
    )  # fmt: skip
    return Duplicates(clusters, exact, kept, representatives, report)


def deduplicate(collection: Collection, duplicates: Duplicates) -> tuple[Collection, dict[str, int]]:
    """Leave out the documents that the policy removes, and let judgements name the ones that stay.

    Args:
        collection: the one whose passages were looked through.
        duplicates: what was found in them.

    Returns:
        The collection (the same one where nothing is removed); counts ``documents_removed``,
        ``judgements_moved`` and ``judgements_merged`` (two judgements of a query that became one; the
        higher grade stays).
    """
    removed = np.flatnonzero(~duplicates.kept)
    counts = {"documents_removed": len(removed), "judgements_moved": 0, "judgements_merged": 0}
    if not len(removed):
        return collection, counts
    ids = collection.corpus["_id"]
    left = duplicates.representatives[removed]
    old, new = (ids.take(pa.array(rows)).to_pylist() for rows in (removed, left))
    stays = dict(zip(old, new, strict=True))
    qrels = {}
    for split, table in collection.qrels.items():
        qrels[split], moved, merged = remap_judgements(table, stays)
        counts["judgements_moved"] += moved
        counts["judgements_merged"] += merged
    corpus = collection.corpus.filter(pa.array(duplicates.kept))
    changes: dict[str, Any] = {"corpus": corpus, "qrels": qrels}
    if collection.negatives is not None:
        changes["negatives"] = _without(collection.negatives, stays)
    return replace(collection, **changes), counts


def remap_judgements(table: pa.Table, stays: dict[str, str]) -> tuple[pa.Table, int, int]:
    """Let judgements of removed documents name the document that stays.

    Args:
        table: judgements with columns ``query_id``, ``corpus_id`` and ``score``.
        stays: id of a removed document → id of the one that stands for it.

    Returns:
        The table; judgements that name another document now; judgements merged with another of the same
        query and document (the highest grade stays, in the place of the first).
    """
    concerned = pc.is_in(table["corpus_id"], value_set=pa.array(list(stays), pa.string()))
    moved = pc.sum(concerned).as_py() or 0
    if not moved:
        return table, 0, 0
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table.to_pylist():
        row["corpus_id"] = stays.get(row["corpus_id"], row["corpus_id"])
        known = rows.setdefault((row["query_id"], row["corpus_id"]), row)
        if known is not row and row["score"] > known["score"]:
            known["score"] = row["score"]
    result = pa.Table.from_pylist(list(rows.values()), table.schema)
    return result, int(moved), table.num_rows - result.num_rows


def _without(negatives: pa.Table, stays: dict[str, str]) -> pa.Table:
    """Negatives without the removed documents: a copy of a positive would else be trained against."""
    gone = pc.is_in(negatives["corpus_id"], value_set=pa.array(list(stays), pa.string()))
    return negatives.filter(pc.invert(gone))


def _first_of_each(keys: bytes | bytearray) -> NDArray[np.int64]:
    """The lowest row that has the same key, for every row."""
    halves = np.frombuffer(keys, np.uint64).reshape(-1, KEY_BYTES // 8)
    if not len(halves):
        return np.zeros(0, np.int64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: rows of one key stay in order
    begins = np.concatenate(([True], (halves[order[1:]] != halves[order[:-1]]).any(axis=1)))
    result = np.empty(len(order), np.int64)
    result[order] = order[begins][np.cumsum(begins) - 1]
    return result


def _representatives(clusters: NDArray[np.int64], passages: Sequence[str], policy: str) -> NDArray[np.int64]:
    if policy == "mark":
        return np.arange(len(clusters))
    if policy == "keep_first":
        return clusters.copy()
    lengths = np.fromiter(map(len, passages), np.int64, len(clusters))
    order = np.lexsort((np.arange(len(clusters)), -lengths, clusters))  # longest first, then lowest row
    begins = np.concatenate(([True], np.diff(clusters[order]) != 0)) if len(order) else np.zeros(0, np.bool_)
    result = np.empty(len(order), np.int64)
    result[order] = order[begins][np.cumsum(begins) - 1]
    return result
