"""What kind of query each is, and the queries that moved most: where a gain comes from.

The kinds are a rule of a few lines, not a parser: it knows the commonest English function words and
punctuation. In other languages all but questions and sentences that end with a mark count as keywords.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.evaluation.examples import FOUND, KEPT, Reader
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.subsets import judged_subsets, leak_free_means

LEAST_QUERIES = 20  # of a group that is shown apart: an interval over fewer says next to nothing
LENGTH_GROUPS = 4  # at most
MOVED = 5  # queries shown in each direction
SAME = 1e-9  # scores closer than this are a tie; they differ by rounding only
OTHER_KINDS = "other kinds"

_QUESTION_WORDS = {
    word: kind
    for kind, words in {
        "what": ("what", "whats", "what's"),
        "which": ("which",),
        "who": ("who", "whom", "whose", "who's"),
        "when": ("when",),
        "where": ("where",),
        "why": ("why",),
        "how": ("how",),
    }.items()
    for word in words
}
_AUXILIARIES = frozenset(
    ["am", "is", "are", "was", "were", "be", "been", "do", "does", "did", "has", "have", "had", "can",
     "could", "may", "might", "must", "shall", "should", "will", "would"]
)  # fmt: skip
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_LEAST_SENTENCE = 4  # words; "to be or" is no sentence yet

KINDS = {
    **dict.fromkeys(_QUESTION_WORDS.values(), "a question that begins with this word"),
    "other question": "ends with a question mark, or begins with a verb such as “is”, “does”, “can”",
    "sentence or claim": "ends with a full stop, or holds such a verb among at least four words",
    "keywords": "everything else",
}


def word_count(text: str) -> int:
    """Words between white space. A text in a script without spaces counts as one word."""
    return len(text.split())


def kind(text: str) -> str:
    """The kind of a query, a key of ``KINDS``; the first of its rules that fits.

    Source: issue 4, point 8: "by query length and type"; the rule is ours.
    """
    words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]
    end = text.rstrip(" \t\r\n\"'\u201d)")[-1:]
    if words and words[0] in _QUESTION_WORDS:
        return _QUESTION_WORDS[words[0]]
    if end in ("?", "\uff1f", "\u061f") or (words and words[0] in _AUXILIARIES):
        return "other question"
    if end in (".", "!", "\u3002", "\uff01"):
        return "sentence or claim"
    if len(words) >= _LEAST_SENTENCE and not _AUXILIARIES.isdisjoint(words):
        return "sentence or claim"
    return "keywords"


def length_groups(counts: Sequence[int], least: int = LEAST_QUERIES) -> list[tuple[str, NDArray[np.bool_]]]:
    """Split queries into up to four groups of about the same size by their number of words.

    Queries of the same length stay together, so groups differ in size; each has at least ``least``.

    Args:
        counts: words per query, [Q].
        least: queries per group.

    Returns:
        Name and marks [Q] of each group, shortest first; one group where there are too few queries.
    """
    lengths = np.asarray(counts, np.int64)
    if not len(lengths):
        return []
    wanted = max(least, -(-len(lengths) // LENGTH_GROUPS))
    groups: list[tuple[int, int]] = []  # shortest and longest
    start, taken = None, 0
    for length, queries in sorted(Counter(lengths.tolist()).items()):
        start, taken = (length if start is None else start), taken + queries
        if taken >= wanted:
            groups.append((start, length))
            start, taken = None, 0
    if start is not None:  # what is left: a group of its own if it is large enough
        longest = int(lengths.max())
        if groups and taken < least:
            groups[-1] = (groups[-1][0], longest)
        else:
            groups.append((start, longest))
    return [(_range(low, high), (low <= lengths) & (lengths <= high)) for low, high in groups]


def kind_groups(texts: Sequence[str], least: int = LEAST_QUERIES) -> list[tuple[str, NDArray[np.bool_]]]:
    """Split queries by kind; kinds with fewer than ``least`` queries become ``other kinds``.

    Returns:
        Name and marks [Q] of each group, in the order of ``KINDS``. Where even the other kinds together
        have fewer than ``least`` queries, they are left out.
    """
    kinds = [kind(text) for text in texts]
    common = {name for name, size in Counter(kinds).items() if size >= least}
    merged = [name if name in common else OTHER_KINDS for name in kinds]
    names = [name for name in (*KINDS, OTHER_KINDS) if merged.count(name) >= least]
    return [(name, np.array([one == name for one in merged], np.bool_)) for name in names]


def leak_free_scores(
    collection: Collection | None, systems: Sequence[SystemResult], metric: str
) -> list[dict[str, Any]]:
    """Return every system's mean on the leak-free subsets, to stand beside the official ones.

    Args:
        collection: of the results; None where it is not at hand.
        systems: with the same queries in the same order.
        metric: that is compared.

    Returns:
        ``name``, ``queries`` and ``systems`` (name to mean, None without a query) of each subset; empty
        without the collection, without a training split, and where that gives no query away.

    Source: issue 5, point 5.
    """
    subsets = {} if collection is None else judged_subsets(collection, systems[0])
    means = {one.name: leak_free_means(one, subsets) for one in systems}
    return [
        {
            "name": name,
            "queries": first["queries"],
            "systems": {system: found[name][metric] for system, found in means.items()},
        }
        for name, first in means[systems[0].name].items()
    ]


def moved_most(
    system: SystemResult, baseline: SystemResult, metric: str, reader: Reader | None
) -> dict[str, list[dict[str, Any]]]:
    """The queries that gained and lost most against the baseline.

    Args:
        system: and
        baseline: judged on the same queries in the same order.
        metric: scores by which they moved.
        reader: gives texts and grades; None: only ids are shown.

    Returns:
        ``up`` and ``down``, each of up to five queries, the furthest moved first, as
        ``side_by_side`` describes them; equal differences in the order of the queries.
    """
    differences = system.per_query[metric] - baseline.per_query[metric]
    order = np.lexsort((np.arange(len(differences)), -np.abs(differences)))
    up = [int(place) for place in order if differences[place] > SAME][:MOVED]
    down = [int(place) for place in order if differences[place] < -SAME][:MOVED]
    return {
        side: [_moved(place, system, baseline, metric, reader) for place in places]
        for side, places in (("up", up), ("down", down))
    }


def _moved(
    place: int, system: SystemResult, baseline: SystemResult, metric: str, reader: Reader | None
) -> dict[str, Any]:
    query = system.query_ids[place]
    positives = reader.positives(query) if reader else []
    pair = (system, baseline)
    ranks = [{document: rank for rank, document in enumerate(one.found[place], start=1)} for one in pair]
    return {
        "query_id": query,
        "text": reader.text(query) if reader else None,
        "scores": {one.name: float(one.per_query[metric][place]) for one in pair},
        "difference": float(system.per_query[metric][place] - baseline.per_query[metric][place]),
        "found": {one.name: [_found(hit, query, reader) for hit in _top(one, place)] for one in pair},
        "relevant": [
            {
                **(reader.passage(document) if reader else {}),
                "grade": reader.grades(query)[document] if reader else None,
                "ranks": {one.name: rank.get(document) for one, rank in zip(pair, ranks, strict=True)},
            }
            for document in positives[:FOUND]
        ],
        "first_relevant": {
            one.name: min((rank[d] for d in positives if rank.get(d, KEPT + 1) <= KEPT), default=None)
            for one, rank in zip(pair, ranks, strict=True)
        }
        if reader
        else {},
    }


def _top(result: SystemResult, place: int) -> list[tuple[int, str, float]]:
    return [(rank, *hit) for rank, hit in enumerate(result.top(place, FOUND), start=1)]


def _found(hit: tuple[int, str, float], query: str, reader: Reader | None) -> dict[str, Any]:
    rank, document, score = hit
    text = reader.passage(document) if reader else {"id": document, "title": "", "snippet": ""}
    grade = reader.grades(query).get(document) if reader else None
    return {"rank": rank, **text, "score": score, "grade": grade}


def _range(low: int, high: int) -> str:
    if low == high:
        return f"{low} {'word' if low == 1 else 'words'}"
    return f"{low} to {high} words"
