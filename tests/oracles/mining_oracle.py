"""Mining one candidate at a time, as the docstring of ``mine`` tells it: slow, and plain to check by eye."""

from __future__ import annotations

import numpy as np

from llara_core.retrieval.words import jaccard, word_set


def slow_mine(collection, encoder, settings, bm25_lists, seed):
    """Rows (query_id, corpus_id, source, rank) of the lists taking turns; no shares, no veto, no chance.

    Args:
        collection: corpus, queries, qrels.
        encoder: gives vectors of passages and queries.
        settings: of the miner.
        bm25_lists: for each query of the split the rows that BM25 names, best first, matches only.
        seed: of the miner.
    """
    query_ids, texts = collection.split_queries(settings.split)
    vectors = encoder.encode_passages(list(collection.passages)).astype(np.float64)
    queries = encoder.encode_queries(texts).astype(np.float64)
    row_of = {document: row for row, document in enumerate(collection.corpus_ids)}
    turned = np.random.default_rng(seed).integers(0, 2, len(query_ids))
    judged = collection.judgements(settings.split)
    result = []
    for place, query_id in enumerate(query_ids):
        alike = [other for other, text in zip(query_ids, texts, strict=True)
                 if text.lower().split() == texts[place].lower().split()]  # fmt: skip
        positives = {row_of[d] for other in alike for d, g in judged[other].items() if g > 0 and d in row_of}
        if not positives:
            continue
        # The same float32 rounding as the miner's, whose products are summed in float64 too.
        scores = (vectors @ queries[place]).astype(np.float32)
        candidates = _turns(scores, bm25_lists[place], settings, turned[place])
        limit = _limit([float(scores[row]) for row in positives], settings)
        kept, held, seen_texts = [], [], set()
        for source, rank, row in candidates:
            text = collection.passages[row]
            if row in positives or collection.corpus_ids[row] == query_id:
                continue
            if _near(text, [collection.passages[p] for p in positives], settings.near_duplicate):
                continue
            (held if float(scores[row]) > limit else kept).append((float(scores[row]), source, rank, row))
        chosen = []
        held = sorted(held, key=lambda one: one[0]) if settings.take_back else []
        for one in [*kept, *held]:
            text = collection.passages[one[3]]
            if len(chosen) < settings.negatives and text not in seen_texts:
                seen_texts.add(text)
                chosen.append(one)
        result += [(query_id, collection.corpus_ids[row], source, rank) for _, source, rank, row in chosen]
    return result


def _turns(scores, bm25_rows, settings, turned):
    skip = settings.skip_top
    dense = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    lists = []
    if settings.bm25_depth:
        lists.append(
            [("bm25", rank, row) for rank, row in enumerate(bm25_rows, 1)][skip : skip + settings.bm25_depth]
        )
    if settings.dense_depth:
        lists.append(
            [("dense", rank, row) for rank, row in enumerate(dense, 1)][skip : skip + settings.dense_depth]
        )
    if turned:
        lists.reverse()
    seen, result = set(), []
    for tier in range(max(map(len, lists))):
        for one in lists:
            if tier < len(one) and one[tier][2] not in seen:
                seen.add(one[tier][2])
                result.append(one[tier])
    return result


def _limit(positives, settings):
    if settings.positive_margin is None:
        return float("inf")
    pick = {"best": max, "worst": min, "mean": lambda values: sum(values) / len(values)}
    reference = pick[settings.positive_reference](positives)
    return min(
        reference - (1 - settings.positive_margin) * abs(reference), reference - settings.positive_distance
    )


def _near(text, positives, threshold):
    if threshold is None:
        return False
    return any(jaccard(word_set(text), word_set(positive)) >= threshold for positive in positives)
