"""How one profile differs from an earlier one: size, lengths, words, new documents, languages."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data.profile_sketch import unpack, unseen_share
from llara_core.data.profile_text import BUCKETS, TOP_WORDS
from llara_core.errors import DataError

SCHEMA = 1  # of profiles
SHIFT_QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")  # beyond them a few odd rows decide
MOVED, MOVED_BY = 10, 0.2  # words named that rose, and that fell; the least change of their share


def drift(previous: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two profiles of the same collection, the earlier one first.

    Args:
        previous: what ``profile`` gave for the version before, or its JSON read again.
        current: for the version now.

    Returns:
        Plain JSON values:
        ``identical``: the content hashes are equal;
        ``previous`` and ``current``: ``name``, ``content_hash``, ``documents``;
        ``size``: ``documents``, ``queries``, ``judgements/<split>`` → ``before``, ``after``, ``ratio``
        (after / before; None where there were none before and some now, 1 where there are none at all);
        ``lengths``: ``corpus`` and ``queries`` → ``characters`` and ``words`` → ``quantiles`` (each
        ``before``, ``after``, ``change`` = (after - before) / max(before, 1)) and ``shift``, the largest
        absolute change between the 5% and 95% quantiles;
        ``vocabulary``: ``divergence`` (Jensen-Shannon, in bits: 0 same, 1 nothing shared), ``noise`` (what
        two samples of these sizes from the same text show by chance) and ``risen``, ``fallen``: words
        whose share changed most, [[word, share before, share after] …];
        ``new_documents`` and ``gone_documents``: ``share``, ``error``, ``exact``, ``compared``: see
        ``profile_sketch.unseen_share``; documents are told apart by their texts, not by their ids;
        ``languages``: ``shift`` (half the sum of absolute changes of shares, 0 to 1; None where one of the
        profiles has none) and ``shares``: language → [before, after];
        ``numbers``: the same as flat numbers, for expectations: ``size_ratio``, ``queries_ratio``,
        ``length_shift``, ``query_length_shift``, ``vocabulary_divergence``, ``vocabulary_noise``,
        ``new_share``, ``gone_share``, ``language_shift``; None where there is nothing to compare.

    Raises:
        DataError: one of them is no profile that this version reads.

    Source: Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    check_profile(previous)
    check_profile(current)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "identical": previous["content_hash"] == current["content_hash"],
        "previous": {key: previous[key] for key in ("name", "content_hash", "documents")},
        "current": {key: current[key] for key in ("name", "content_hash", "documents")},
        "size": _sizes(previous, current),
        "lengths": {
            "corpus": _lengths(previous["corpus"], current["corpus"]),
            "queries": _lengths(previous["query_texts"], current["query_texts"]),
        },
        "vocabulary": _vocabulary(previous["vocabulary"], current["vocabulary"]),
        "languages": _languages(previous["languages"], current["languages"]),
        **_documents(previous["sketch"], current["sketch"]),
    }
    return {**result, "numbers": _numbers(result)}


def check_profile(values: Mapping[str, Any]) -> None:
    """Refuse what is no profile of this version.

    Raises:
        DataError: another schema, or none.
    """
    if values.get("schema") != SCHEMA or "sketch" not in values:
        raise DataError(
            f"not a profile that this version can compare: got schema {values.get('schema')!r}, expected "
            f"{SCHEMA}; profile the collection again"
        )


def divergence(before: NDArray[Any], after: NDArray[Any]) -> float | None:
    """Jensen-Shannon divergence of two vectors of counts [B], in bits; None where one has no counts."""
    if not before.sum() or not after.sum():
        return None
    p, q = before / before.sum(), after / after.sum()
    middle = (p + q) / 2

    def entropy(shares: NDArray[Any]) -> float:
        held = shares[shares > 0]
        return float(-(held * np.log2(held)).sum())

    return min(1.0, max(0.0, entropy(middle) - (entropy(p) + entropy(q)) / 2))


def _sizes(previous: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    def counts(one: Mapping[str, Any]) -> dict[str, int]:
        splits = {f"judgements/{split}": count for split, count in one["judgements"].items()}
        return {"documents": one["documents"], "queries": one["queries"], **splits}

    before, after = counts(previous), counts(current)
    return {
        name: {
            "before": before.get(name, 0),
            "after": after.get(name, 0),
            "ratio": _ratio(before.get(name, 0), after.get(name, 0)),
        }
        for name in {**before, **after}
    }


def _ratio(before: int, after: int) -> float | None:
    if not before:
        return None if after else 1.0
    return after / before


def _lengths(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for unit in ("characters", "words"):
        olds, news = before[unit]["quantiles"], after[unit]["quantiles"]
        quantiles = {
            name: {"before": olds[name], "after": news[name],
                   "change": (news[name] - olds[name]) / max(1, olds[name])}
            for name in olds
        }  # fmt: skip
        comparable = before["rows"] and after["rows"]
        shift = max(abs(quantiles[name]["change"]) for name in SHIFT_QUANTILES) if comparable else None
        result[unit] = {"quantiles": quantiles, "shift": shift}
    return result


def _vocabulary(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    old, new = (unpack(one["buckets"], np.uint32).astype(np.float64) for one in (before, after))
    words = before["words"], after["words"]
    noise = None
    if all(words):
        # Of two samples of n and m words from one distribution over K places, JS is (K - 1)(1/n + 1/m) / 8
        # nats on average: its second-order term, a chi-square of K - 1 degrees of freedom.
        places = int(np.count_nonzero(old + new))
        noise = min(1.0, (places - 1) * (1 / words[0] + 1 / words[1]) / (8 * math.log(2)))
    risen, fallen = _moved(before, after)
    return {"divergence": divergence(old, new), "noise": noise, "risen": risen, "fallen": fallen}


def _moved(
    before: Mapping[str, Any], after: Mapping[str, Any], count: int = 10
) -> tuple[list[Any], list[Any]]:
    """Frequent words whose share of all words rose or fell most, by a fifth at least."""
    names = {name for one in (before, after) for name, _ in one["top"]}
    old, new = _shares(before, names), _shares(after, names)
    changes: list[tuple[str, float, float]] = [
        (name, old[name], new[name])
        for name in names
        if abs(new[name] - old[name]) >= MOVED_BY * max(old[name], new[name])
    ]
    changes.sort(key=lambda one: (one[2] - one[1], one[0]))
    fallen = [list(one) for one in changes[:MOVED] if one[2] < one[1]]
    risen = [list(one) for one in reversed(changes[-MOVED:]) if one[2] > one[1]]
    return risen, fallen


def _shares(one: Mapping[str, Any], names: Set[str]) -> dict[str, float]:
    """Share of each word; of one that is not listed, the most that it can have."""
    total = max(1, one["words"])
    listed = {name: count / total for name, count in one["top"]}
    least = min(listed.values()) if len(listed) >= TOP_WORDS else 0.0
    buckets = unpack(one["buckets"], np.uint32)
    # A word is never more frequent than all words of its bucket together, nor than the last one listed.
    return {
        name: listed.get(name, min(least, float(buckets[zlib.crc32(name.encode()) % BUCKETS]) / total))
        for name in names
    }


def _languages(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    old, new = before["shares"], after["shares"]
    shares = {name: [old.get(name, 0.0), new.get(name, 0.0)] for name in {**new, **old}}
    shift = sum(abs(now - then) for then, now in shares.values()) / 2 if old and new else None
    return {"shift": shift, "shares": shares}


def _documents(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    old, new = unpack(before["hashes"], np.uint64), unpack(after["hashes"], np.uint64)
    return {
        "new_documents": unseen_share(old, new, all_before=before["all"], all_after=after["all"]),
        "gone_documents": unseen_share(new, old, all_before=after["all"], all_after=before["all"]),
    }


def _numbers(found: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "size_ratio": found["size"]["documents"]["ratio"],
        "queries_ratio": found["size"]["queries"]["ratio"],
        "length_shift": found["lengths"]["corpus"]["words"]["shift"],
        "query_length_shift": found["lengths"]["queries"]["words"]["shift"],
        "vocabulary_divergence": found["vocabulary"]["divergence"],
        "vocabulary_noise": found["vocabulary"]["noise"],
        "new_share": found["new_documents"]["share"],
        "gone_share": found["gone_documents"]["share"],
        "language_shift": found["languages"]["shift"],
    }
