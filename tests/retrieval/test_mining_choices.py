"""Shares, random candidates, repeated texts, references of several positives; and the teacher's veto."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from llara_core.config import MineSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.retrieval.mining import mine
from llara_core.retrieval.mining_positives import limits
from llara_core.retrieval.mining_sources import named_by_chance, noise
from llara_core.retrieval.mining_teacher import load_teacher
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection

WORDS = [f"word{i}" for i in range(60)]


def spacious(queries=200, documents=400):
    """Every list finds plenty for every query."""
    random = np.random.default_rng(0)
    corpus = {f"d{i}": " ".join(random.choice(WORDS, 8)) for i in range(documents)}
    asked = {f"q{i}": " ".join(random.choice(WORDS, 4)) for i in range(queries)}
    return collection(corpus, asked, {"train": {f"q{i}": {f"d{i}": 1} for i in range(queries)}})


def test_shares_hold_in_every_query_and_exactly_over_all():
    settings = MineSettings(
        negatives=8, bm25_depth=100, dense_depth=100, random_depth=20, positive_margin=None,
        near_duplicate=None, shares={"bm25": 0.5, "dense": 0.4, "random": 0.1},
    )  # fmt: skip
    mined = mine(spacious(), FakeEncoder(128), settings)
    assert mined.table.num_rows == 8 * 200
    by_query: dict[str, Counter] = {}
    for row in mined.table.to_pylist():
        by_query.setdefault(row["query_id"], Counter())[row["source"]] += 1
    for counts in by_query.values():
        assert counts["bm25"] == 4 and counts["dense"] in (3, 4) and counts["random"] in (0, 1)
    assert mined.stats["shares"] == pytest.approx({"bm25": 0.5, "dense": 0.4, "random": 0.1}, abs=0.015)


def test_a_source_that_cannot_give_its_share_is_made_up_for():
    tiny = collection(
        {"p": "red green", "a": "red blue", "b": "grey pink", "c": "grey white", "d": "white pink"},
        {"q": "red"}, {"train": {"q": {"p": 1}}},
    )  # fmt: skip
    settings = MineSettings(negatives=3, shares={"bm25": 0.9, "dense": 0.1})
    mined = mine(tiny, FakeEncoder(512), settings)
    assert mined.table.num_rows == 3 and mined.stats["queries_short"] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shares": {"bm25": 0.5, "dense": 0.6}}, "add up to 1; they give 1.1"),
        (
            {"shares": {"bm25": 0.5, "dense": 0.4, "random": 0.1}},
            "shares.random is 0.1 and random_depth is 0",
        ),
        ({"positive_margin": None, "positive_distance": 0.1}, "positive_distance needs positive_margin"),
        ({"positive_reference": "median"}, "best"),
    ],
)
def test_settings_that_contradict_each_other_are_explained(values, message):
    with pytest.raises(ConfigError, match=message):
        MineSettings.parse(values, "mine")


def test_random_candidates_depend_on_seed_and_query_alone():
    places = np.array([3, 5, 900])
    drawn = named_by_chance(places, 50, 1000, seed=4).rows
    assert np.array_equal(named_by_chance(places[1:], 50, 1000, seed=4).rows, drawn[1:])
    assert not np.array_equal(named_by_chance(places, 50, 1000, seed=5).rows, drawn)
    counts = np.bincount(named_by_chance(np.arange(2000), 50, 10, seed=0).rows.ravel(), minlength=10)
    assert np.abs(counts / 10_000 - 1).max() < 0.05
    assert len(np.unique(noise(np.arange(500), 4, 0))) == 2000


def test_windows_of_their_own():
    settings = MineSettings(negatives=30, bm25_skip=5, dense_skip=2, skip_top=9, bm25_depth=4, dense_depth=4,
                            positive_margin=None)  # fmt: skip
    mined = mine(spacious(20), FakeEncoder(128), settings)
    ranks = {source: set() for source in ("bm25", "dense")}
    for row in mined.table.to_pylist():
        ranks[row["source"]].add(row["rank"])
    assert ranks["bm25"] <= {6, 7, 8, 9} and ranks["dense"] <= {3, 4, 5, 6}
    assert mined.audit["ranks"]["bm25"]["first"] == 6 and mined.audit["ranks"]["dense"]["last"] == 6


def test_a_text_counts_once():
    corpus = {"p": "red green", "a": "red blue", "b": "red blue", "c": "red grey"}
    tiny = collection(corpus, {"q": "red"}, {"train": {"q": {"p": 1}}})
    mined = mine(tiny, FakeEncoder(512), MineSettings(positive_margin=None))
    assert sorted(mined.table["corpus_id"].to_pylist()) == ["a", "c"]
    assert mined.stats["excluded"]["repeated"] == 1


@pytest.mark.parametrize(
    ("reference", "share", "distance", "expected"),
    [
        ("best", 0.95, 0.0, 0.76),
        ("worst", 0.95, 0.0, 0.38),
        ("mean", 0.5, 0.0, 0.3),
        ("best", 0.95, 0.1, 0.7),
        ("best", 1.0, 0.0, 0.8),
    ],
)
def test_limits_of_several_positives(reference, share, distance, expected):
    settings = MineSettings(positive_reference=reference, positive_margin=share, positive_distance=distance)
    best, limit = limits(np.array([0.8, 0.4, -0.5], np.float32), np.array([0, 0, 1]), 2, settings)
    assert best.tolist() == pytest.approx([0.8, -0.5])
    assert limit[0] == pytest.approx(expected)
    assert limit[1] == pytest.approx(min(-0.5 - (1 - share) * 0.5, -0.5 - distance))


class Judge:
    """A teacher that knows which passages answer."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def score(self, query, passages):
        self.asked += passages
        return np.array([0.9 if text in self.answers else 0.2 for text in passages], np.float32)


def test_a_teacher_vetoes_what_answers():
    corpus = {"p": "red green", "hidden": "red blue", "no": "red grey", "far": "white pink"}
    tiny = collection(corpus, {"q": "red"}, {"train": {"q": {"p": 1}}})
    teacher = Judge({"red green", "red blue"})
    mined = mine(tiny, FakeEncoder(512), MineSettings(positive_margin=None), teacher=teacher)
    assert sorted(mined.table["corpus_id"].to_pylist()) == ["far", "no"]
    assert mined.stats["excluded"]["veto"] == 1
    assert sum(counts["veto"] for counts in mined.audit["excluded"].values()) == 1


def test_the_teacher_is_asked_about_what_would_be_chosen_only():
    tiny, teacher = spacious(30), Judge(set())
    settings = MineSettings(negatives=2, positive_margin=None, veto={"model": "x", "distance": 0.5})
    mined = mine(tiny, FakeEncoder(128), settings, teacher=Judge(set(tiny.passages)))
    assert mined.table.num_rows == 0  # everything is as good as the positive
    teacher.answers = {tiny.passages[row] for row in range(30)}
    mined = mine(tiny, FakeEncoder(128), settings, teacher=teacher)
    assert mined.table.num_rows == 60
    assert len(teacher.asked) < 30 * (1 + 8)


def test_models_that_are_no_teacher_are_refused(tmp_path):
    settings = MineSettings(veto={"model": str(tmp_path / "nothing")}).veto
    with pytest.raises(ModelError, match="hf download"):
        load_teacher(settings)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    """A tiny cross-encoder with random weights, saved as published ones are."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)  # some weights put all scores at one end of the scale
    folder = tmp_path_factory.mktemp("reranker")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=1, initializer_range=1.0,
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def test_a_cross_encoder_scores_pairs_whatever_their_batch(reranker):
    tiny = spacious(12, 40)
    veto = {"model": str(reranker), "share": 0.9, "batch_size": 3}
    settings = MineSettings(negatives=4, positive_margin=None, veto=veto)
    teacher = load_teacher(settings.veto, "cpu")
    passages = list(tiny.passages[:7])
    together = teacher.score("word1 word2", passages)
    alone = [float(teacher.score("word1 word2", [text])[0]) for text in passages]
    assert together == pytest.approx(alone, abs=1e-5) and together.dtype == np.float32
    assert ((together > 0) & (together < 1)).all() and np.ptp(together) > 0.05
    mined = mine(tiny, FakeEncoder(128), settings)
    assert mined.stats["excluded"]["veto"] > 0
    judged, texts = tiny.judgements("train"), dict(zip(*tiny.split_queries("train"), strict=True))
    text_of = dict(zip(tiny.corpus_ids, tiny.passages, strict=True))
    for row in mined.table.to_pylist():
        positives = [text_of[document] for document in judged[row["query_id"]]]
        best = max(teacher.score(texts[row["query_id"]], positives))
        assert teacher.score(texts[row["query_id"]], [text_of[row["corpus_id"]]])[0] <= 0.9 * best + 1e-5


def test_a_model_without_a_trained_score_is_refused(reranker, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(reranker).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(reranker).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"scores a pair|without a trained score"):
        load_teacher(MineSettings(veto={"model": str(tmp_path)}).veto)
