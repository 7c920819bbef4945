"""A comparison record of schema 1 as the evaluation writes it, with every section filled."""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100")
MEANS = {"bm25": 0.60, "base": 0.03, "adapted": 0.18, "finetuned": 0.63, "finetuned_without_adaptation": 0.57}


def versus(difference: float, p: float) -> dict[str, float]:
    return {"difference": difference, "p_value": p}


def make_scores(shift: float, p: float) -> dict[str, Any]:
    """``{system: {metric: cell}}``; ``shift`` moves the trained systems, ``p`` is every p-value."""
    scores: dict[str, Any] = {}
    for system, mean in MEANS.items():
        scores[system] = {}
        for place, metric in enumerate(METRICS):
            value = round(mean + 0.02 * place + (shift if "finetuned" in system else 0.0), 4)
            lexical = 0.60 + 0.02 * place
            plain = round(0.57 + 0.02 * place + shift, 4)
            scores[system][metric] = {
                "mean": value,
                "interval": [value - 0.02, value + 0.02],
                "versus_bm25": None if system == "bm25" else versus(value - lexical, p),
                "versus_without_adaptation": versus(value - plain, p) if system == "finetuned" else None,
            }
    return scores


def make_example(place: int, text: str = "Return the path of a temporary file.") -> dict[str, Any]:
    snippet = "def temporary(suffix, directory):\n    handle, name = mkstemp(suffix, dir=directory)\n"
    found = [
        {"rank": rank, "id": f"d{rank}", "title": f"tempfile.function_{rank}", "snippet": snippet,
         "score": 0.9 - rank / 10, "grade": 1 if rank == 2 and place % 2 == 0 else None}
        for rank in (1, 2, 3)
    ]  # fmt: skip
    hit = place % 2 == 0
    return {
        "query_id": f"q{place}", "text": text, "ndcg_at_10": 0.631 if hit else 0.0,
        "bm25_ndcg_at_10": 1.0 if hit else None, "first_relevant_rank": 2 if hit else None, "found": found,
        "relevant": [{"id": "d2", "title": "tempfile.function_2", "snippet": snippet, "grade": 1,
                      "rank": 2 if hit else None}],
    }  # fmt: skip


def make_record(queries: int = 200) -> dict[str, Any]:
    """A comparison of schema 1 as the evaluation writes it."""
    rng = np.random.default_rng(0)
    per_query = {name: rng.choice([0.0, 0.5, 0.631, 1.0], queries).tolist() for name in MEANS}
    steps = range(10, 201, 10)
    return {
        "schema": 1,
        "collection": {"name": "pycode", "split": "test", "documents": 20_000, "queries": queries,
                       "content_hash": "ab" * 32},
        "metrics": list(METRICS),
        "query_ids": [f"q{place}" for place in range(queries)],
        "systems": [{"name": name, "per_query": dict.fromkeys(METRICS, values)}
                    for name, values in per_query.items()],
        "subsets": [
            {"name": "all", "description": "Every query of the split.", "queries": queries,
             "systems": make_scores(0.0, 0.0004)},
            {"name": "no_near_duplicate", "description": "No training query resembles it.", "queries": 150,
             "systems": make_scores(-0.02, 0.3)},
            {"name": "unseen_documents", "description": "Its documents were not trained on.", "queries": 0,
             "systems": {}},
        ],
        "histories": {
            "adapt": [{"step": step, "loss": 8 - step / 60, "ebae": 8.2 - step / 60,
                       "ebar": 7.8 - step / 60} for step in steps],
            "finetune": [{"step": step, "loss": 4 * 0.985**step + 1} for step in steps],
            "finetune_without_adaptation": [{"step": step, "loss": 5 * 0.988**step + 1} for step in steps],
        },
        "length_histograms": [
            {"name": "passages", "unit": "tokens", "edges": [0.0, 40.0, 80.0, 120.0, 160.0, 200.0],
             "counts": [900, 2400, 1800, 700, 300], "limit": 160},
            {"name": "queries", "unit": "tokens", "edges": [0.0, 8.0, 16.0, 24.0], "counts": [90, 700, 210],
             "limit": None},
        ],
        "best_queries": [make_example(2 * place) for place in range(3)],
        "worst_queries": [make_example(2 * place + 1) for place in range(3)],
        "examples_of": "finetuned",
        "notes": ["dense negatives came from the base model"],
    }  # fmt: skip


FACTS = {
    "seed": 7,
    "git_commit": "0123abc",
    "durations": {"adapt": 185.0, "mine": 4.25},
    "versions": {"torch": "2.13.0"},
    "data_hashes": {"corpus": "cd" * 16},
    "settings": {"finetune": {"temperature": 0.05, "lora": None}},
}
