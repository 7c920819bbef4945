"""The kinds of leaks, each with its search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from llara_core.data.collection import Collection
from llara_core.data.leaks_search import SoughtTexts
from llara_core.data.leaks_sides import Evaluation, Finding, Rows, Training, rows_of
from llara_core.data.leaks_subsets import NearPairs
from llara_core.data.shingle_hashes import KEY_BYTES, keys_and_words
from llara_core.data_settings import LeakSettings


def query_findings(
    evaluation: Evaluation, training: Training, near: NearPairs, sought: SoughtTexts
) -> list[Finding]:
    """Evaluation queries that are training queries: the same text, much the same words, or inside one."""
    same = _same_keys(evaluation.texts, training.texts)
    verbatim = np.array(
        [
            evaluation.texts[query].strip() == training.texts[other].strip()
            for query, other in zip(*same, strict=True)
        ],
        np.bool_,
    )
    inside = sought.search(training.texts, "leaks: training queries", len(training.texts))
    known = set(zip(*same, strict=True)) | set(zip(near.queries.tolist(), near.others.tolist(), strict=True))
    pairs = zip(inside.queries.tolist(), inside.rows.tolist(), strict=True)
    new = np.array([pair not in known for pair in pairs], np.bool_)
    queries, others = (np.array(column, np.int64) for column in same)
    ones = np.ones(len(queries))
    return [
        _of_queries("query_verbatim", training, queries[verbatim], others[verbatim], ones[verbatim]),
        _of_queries(
            "query_case_or_punctuation", training, queries[~verbatim], others[~verbatim], ones[~verbatim]
        ),
        _of_queries("query_near_duplicate", training, *near),
        _of_queries(
            "query_inside_query", training, inside.queries[new], inside.rows[new], inside.shares[new]
        ),
    ]


def document_findings(
    collection: Collection, evaluation: Evaluation, training: Training, settings: LeakSettings
) -> list[Finding]:
    """Relevant passages that are training positives, or whose text stands in one of another name."""
    shared = [name for name in evaluation.relevant if name in training.positives]
    places = [place for name in shared for place in evaluation.relevant[name]]
    names = [name for name in shared for _ in evaluation.relevant[name]]
    positives = Finding(
        "document_is_positive",
        np.array(places, np.int64),
        names,
        np.ones(len(names)),
        lambda place: _passage(collection, names[place]),
        drop_documents=frozenset(shared),
    )
    relevant, marks = rows_of(collection, list(evaluation.relevant))
    sought = SoughtTexts(list(compress(collection.passages, marks)), settings)
    seen, rows = rows_of(collection, list(training.positives))
    found = sought.search(compress(collection.passages, rows), "leaks: training positives", len(seen))
    copies = [
        (place, seen[row], share)
        for document, row, share in zip(
            found.queries.tolist(), found.rows.tolist(), found.shares.tolist(), strict=True
        )
        if relevant[document] != seen[row]
        for place in evaluation.relevant[relevant[document]]
    ]
    copied = Finding(
        "document_copied",
        np.array([one[0] for one in copies], np.int64),
        [one[1] for one in copies],
        np.array([one[2] for one in copies]),
        lambda place: _passage(collection, copies[place][1]),
        drop_documents=frozenset(one[1] for one in copies),
    )
    return [positives, copied]


def text_findings(
    collection: Collection,
    training: Training,
    adaptation: Sequence[str] | None,
    sought: SoughtTexts,
    settings: LeakSettings,
) -> list[Finding]:
    """Evaluation queries inside training positives and inside the text of adaptation."""
    findings = []
    if settings.queries and training.known:
        names, marks = rows_of(collection, list(training.positives))
        found = sought.search(compress(collection.passages, marks), "leaks: training passages", len(names))
        here = [names[row] for row in found.rows.tolist()]
        findings.append(
            Finding(
                "query_inside_passage", found.queries, here, found.shares,
                lambda place: _passage(collection, here[place]), drop_documents=frozenset(here),
            )
        )  # fmt: skip
    if settings.adaptation and adaptation is not None:
        found = sought.search(adaptation, "leaks: adaptation text", len(adaptation))
        rows = found.rows.tolist()
        findings.append(
            Finding(
                "query_inside_adaptation", found.queries, [str(row) for row in rows], found.shares,
                lambda place: adaptation[rows[place]], drop_rows=frozenset(rows),
            )
        )  # fmt: skip
    return findings


def _of_queries(kind: str, training: Training, queries: Rows, others: Rows, likeness: np.ndarray) -> Finding:
    rows = others.tolist()
    names = [training.ids[row] for row in rows]
    return Finding(
        kind,
        queries,
        names,
        likeness,
        lambda place: training.texts[rows[place]],
        drop_queries=frozenset(names),
    )


def _same_keys(texts: Sequence[str], others: Sequence[str]) -> tuple[list[int], list[int]]:
    """Pairs of texts that are equal but for case, punctuation, white space and Unicode form."""
    by_key: dict[bytes, list[int]] = {}
    for place, key in enumerate(_keys(others)):
        by_key.setdefault(key, []).append(place)
    pairs = [(place, other) for place, key in enumerate(_keys(texts)) for other in by_key.get(key, ())]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _keys(texts: Sequence[str]) -> list[bytes]:
    keys, _ = keys_and_words(texts)
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]


def _passage(collection: Collection, name: str) -> str:
    _, marks = rows_of(collection, [name])
    return collection.passages[int(np.argmax(marks))] if marks.any() else ""
