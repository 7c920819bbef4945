"""The same bundle on the same collection, scored by the packages beir and mteb themselves: the same nDCG@10.

Both round their means to five digits, so their unrounded scores per query are compared.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from llara_core.evaluation.beir import DenseSystem, evaluate_system
from llara_core.model.retriever import Retriever
from tests.conftest import TOPICS
from tests.oracles.tiny_collection import collection

pytestmark = pytest.mark.slow
SHARED = 20  # queries whose id is a document's, as in ArguAna


@pytest.fixture(scope="module")
def judged():
    """400 documents, 60 queries with graded judgements; some queries are documents of the corpus."""
    draw = random.Random(7)
    words = sorted({word for sentence in TOPICS.values() for word in sentence.split()})  # known to the model
    corpus = {f"d{i:03}": " ".join(draw.sample(words, 12)) for i in range(400)}
    queries = {f"q{i}": " ".join(draw.sample(words, 6)) for i in range(60 - SHARED)}
    queries |= {key: corpus[key] for key in draw.sample(sorted(corpus), SHARED)}

    def shared(query, document):
        return len(set(queries[query].split()) & set(corpus[document].split()))

    graded = {}
    for query in queries:
        others = [one for one in corpus if one != query]
        nearest = sorted(others, key=lambda one: -shared(query, one))[:15]
        graded[query] = {one: min(2, shared(query, one) // 2) for one in nearest + draw.sample(others, 15)}
    return collection(corpus, queries, {"test": graded})


@pytest.fixture(scope="module")
def bundle(work):
    """One bundle; every text is encoded once, so that only search and scoring are compared."""
    retriever = Retriever.from_pretrained(work / "finetuned", "cpu")
    kept = {}

    class Once:
        dimension, fingerprint = retriever.dimension, retriever.fingerprint

        def _encoded(self, texts, encode, kind):
            texts = list(texts)
            missing = sorted({text for text in texts if (kind, text) not in kept})
            if missing:
                kept.update(zip([(kind, text) for text in missing], encode(missing), strict=True))
            return np.stack([kept[kind, text] for text in texts])

        def encode_queries(self, texts, **_options):
            return self._encoded(texts, retriever.encode_queries, "query")

        def encode_passages(self, texts, **_options):
            return self._encoded(texts, retriever.encode_passages, "passage")

    return Once()


def ours(judged, bundle, policy):
    metrics = ("ndcg_at_10", "map_at_100", "recall_at_100", "mrr_at_10")
    system = DenseSystem("ours", bundle, judged)
    return evaluate_system(judged, "test", system, 1000, metrics=metrics, protocol={"identical_ids": policy})


def test_beir_gives_the_same(judged, bundle):
    pytest.importorskip("beir", reason="comes with the extra dev")
    import pytrec_eval
    import torch
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    class Wrapped:
        def encode_queries(self, queries, **_options):
            return torch.from_numpy(bundle.encode_queries(queries))

        def encode_corpus(self, corpus, **_options):
            return torch.from_numpy(bundle.encode_passages([one["text"] for one in corpus]))

    corpus = {
        key: {"title": "", "text": text} for key, text in zip(judged.corpus_ids, judged.passages, strict=True)
    }
    query_ids, texts = judged.split_queries("test")
    search = DenseRetrievalExactSearch(Wrapped(), corpus_chunk_size=150, show_progress_bar=False)
    theirs = EvaluateRetrieval(search, score_function="dot")
    found = theirs.retrieve(corpus, dict(zip(query_ids, texts, strict=True)))
    qrels = judged.judgements("test")
    ndcg, _map, recall, _precision = theirs.evaluate(qrels, found, [10, 100])
    result = ours(judged, bundle, "drop")
    assert ndcg["NDCG@10"] == round(result.means["ndcg_at_10"], 5)
    assert recall["Recall@100"] == round(result.means["recall_at_100"], 5)
    per_query = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map_cut.100"}).evaluate(found)
    for place, query in enumerate(result.query_ids):
        assert per_query[query]["ndcg_cut_10"] == pytest.approx(
            result.per_query["ndcg_at_10"][place], abs=1e-6
        )
        assert per_query[query]["map_cut_100"] == pytest.approx(
            result.per_query["map_at_100"][place], abs=1e-6
        )
    assert 0.02 < result.means["ndcg_at_10"] < 0.9  # neither perfect nor empty: something is compared


@pytest.mark.parametrize("policy", ["keep", "drop"])
def test_mteb_gives_the_same(judged, bundle, policy, tmp_path, monkeypatch):
    mteb = pytest.importorskip("mteb", reason="comes with the extra dev")
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.types import PromptType

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    unrounded = {}

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="LocalTiny", description="-", type="Retrieval", eval_langs=["eng-Latn"],
            main_score="ndcg_at_10", eval_splits=["test"], dataset={"path": "local", "revision": "1"},
            modalities=["text"], category="t2t", reference=None, date=None, domains=None, task_subtypes=None,
            license=None, annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None,
        )  # fmt: skip
        ignore_identical_ids = policy == "drop"

        def load_data(self, **_options):
            query_ids, texts = judged.split_queries("test")
            corpus = {"id": list(judged.corpus_ids), "title": [""] * 400, "text": list(judged.passages)}
            whole = {
                "corpus": datasets.Dataset.from_dict(corpus),
                "queries": datasets.Dataset.from_dict({"id": query_ids, "text": texts}),
                "relevant_docs": judged.judgements("test"),
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": whole}}
            self.data_loaded = True

        def task_specific_scores(self, scores, qrels, results, hf_split, hf_subset):
            unrounded.update(scores)
            return {}

    class Wrapped(AbsEncoder):
        mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "llara/tiny", "revision": "1"})

        def encode(self, inputs, *, prompt_type=None, **_options):
            texts = [text for batch in inputs for text in batch["text"]]
            query = prompt_type == PromptType.query
            return bundle.encode_queries(texts) if query else bundle.encode_passages(texts)

        def similarity(self, one, other):
            import torch

            return torch.as_tensor(one) @ torch.as_tensor(other).T

    (told,) = mteb.evaluate(Wrapped(), Local(), cache=None, show_progress_bar=False).task_results
    result = ours(judged, bundle, policy)
    assert told.get_score() == pytest.approx(result.means["ndcg_at_10"], abs=1e-5)  # it rounds to five digits
    assert told.scores["test"][0]["mrr_at_10"] == pytest.approx(result.means["mrr_at_10"], abs=1e-5)
    assert unrounded.keys() == set(result.query_ids)
    for place, query in enumerate(result.query_ids):
        assert unrounded[query]["ndcg_cut_10"] == pytest.approx(
            result.per_query["ndcg_at_10"][place], abs=1e-6
        )
        assert unrounded[query]["recall_100"] == pytest.approx(
            result.per_query["recall_at_100"][place], abs=1e-6
        )


def test_the_policies_differ_here(judged, bundle):
    """Otherwise the comparisons above would say nothing about them."""
    dropped, kept = (ours(judged, bundle, policy).means["ndcg_at_10"] for policy in ("drop", "keep"))
    assert dropped > kept
