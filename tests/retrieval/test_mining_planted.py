"""Positives hidden from the qrels: how many of them are mined as negatives?

"Equal hardness" is taken in two ways, and the filter must hold in both: rank-only mining of the same window
(the user who switches the filter on changes nothing else), and rank-only mining that skips so many top ranks
that its negatives score no higher on average than the filtered ones (what a user would do instead of
filtering, at the same difficulty for training).
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.config import MineSettings
from llara_core.data.collection import Collection
from llara_core.data.formats import read_beir
from llara_core.retrieval.mining import mine
from tests.oracles.tiny_collection import collection

QUERIES, DISTRACTORS, FILLERS, DIMENSION = 120, 30, 600, 48
SCIFACT = Path(__file__).resolve().parents[3] / "shared" / "data" / "scifact"
AT_MOST = 0.25  # of rank-only mining's leakage; issue 4, point 4


class Planted:
    """Vectors by text: answers lie near their query, distractors less so, at a level of each query's own."""

    dimension, fingerprint = DIMENSION, "planted"

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.vectors, self.hidden, self.qrels, self.queries = {}, set(), {}, {}
        for query in range(QUERIES):
            centre = _unit(random.standard_normal(DIMENSION))
            self.vectors[f"ask {query}"], self.queries[f"q{query}"] = centre, f"ask {query}"
            level = random.uniform(0.6, 0.95)  # some queries score high with everything, some low
            for number in range(1 + random.integers(0, 7)):  # one judged answer, and up to six unjudged ones
                name = f"q{query}a{number}"
                noise = random.normal(0, 0.015) if number else 0.0
                self._add(random, name, centre, level + noise)
                if number:
                    self.hidden.add((f"q{query}", name))
            self.qrels[f"q{query}"] = {f"q{query}a0": 1}
            for number in range(DISTRACTORS):
                self._add(random, f"q{query}d{number}", centre, level * random.uniform(0.3, 0.93))
        for number in range(FILLERS):
            self._add(random, f"f{number}", _unit(random.standard_normal(DIMENSION)), 0.9)

    def _add(self, random, name, centre, cosine):
        cosine, other = min(cosine, 0.99), random.standard_normal(DIMENSION)
        other = _unit(other - (other @ centre) * centre)
        self.vectors[f"text {name}"] = cosine * centre + np.sqrt(1 - cosine**2) * other

    def collection(self) -> Collection:
        corpus = {text.split()[1]: text for text in self.vectors if text.startswith("text ")}
        return collection(corpus, self.queries, {"train": self.qrels})

    def encode_queries(self, texts):
        return np.array([self.vectors[text] for text in texts], np.float32)

    encode_passages = encode_queries


class Kept:
    """An encoder whose passages are encoded once."""

    def __init__(self, encoder, data):
        self.dimension, self.fingerprint = encoder.dimension, encoder.fingerprint
        self.encode_queries = encoder.encode_queries
        self._vectors = encoder.encode_passages(list(data.passages))
        self._row = {text: row for row, text in enumerate(data.passages)}

    def encode_passages(self, passages):
        return self._vectors[[self._row[text] for text in passages]]


def _unit(vector):
    return vector / np.linalg.norm(vector)


def leakage(mined, hidden):
    """Share of the negatives that are hidden answers of their query."""
    pairs = zip(mined.table["query_id"].to_pylist(), mined.table["corpus_id"].to_pylist(), strict=True)
    return sum(pair in hidden for pair in pairs) / mined.table.num_rows


def as_hard(data, encoder, settings, score):
    """Rank-only mining with the fewest top ranks skipped that scores no higher than ``score``."""
    for skip in range(100):
        by_rank = settings.model_copy(update={"positive_margin": None, "skip_top": skip})
        mined = mine(data, encoder, by_rank)
        if np.mean(mined.table["score"].to_numpy()) <= score:
            return mined
    raise AssertionError("no rank window is as easy as that")


@pytest.mark.parametrize("seed", range(3))
def test_the_filter_keeps_hidden_positives_out(seed):
    encoder = Planted(seed)
    data = encoder.collection()
    settings = MineSettings(negatives=8, bm25_depth=0, dense_depth=40)
    filtered = mine(data, encoder, settings)
    by_rank = mine(data, encoder, settings.model_copy(update={"positive_margin": None}))
    assert filtered.table.num_rows == by_rank.table.num_rows == 8 * QUERIES
    equal = as_hard(data, encoder, settings, np.mean(filtered.table["score"].to_numpy()))
    assert leakage(by_rank, encoder.hidden) > 0.3  # without a filter the plot is full of them
    assert leakage(equal, encoder.hidden) > 0.02
    assert leakage(filtered, encoder.hidden) <= AT_MOST * leakage(by_rank, encoder.hidden)
    assert leakage(filtered, encoder.hidden) <= AT_MOST * leakage(equal, encoder.hidden)


def test_the_audit_sees_what_was_let_through():
    """Taken back for lack of others, hidden positives carry the mark of the filter's limit."""
    encoder = Planted(0)
    mined = mine(encoder.collection(), encoder, MineSettings(negatives=40, bm25_depth=0, dense_depth=40))
    taken = mined.audit["suspected"]["past_limit"]
    assert taken == mined.stats["past_margin"] > 100
    assert leakage(mined, encoder.hidden) > 0.03
    pairs = list(zip(mined.table["query_id"].to_pylist(), mined.table["corpus_id"].to_pylist(), strict=True))
    hidden = sum(pair in encoder.hidden for pair in pairs)
    assert taken >= 0.9 * hidden


class Weighted:
    """Hashed words weighted by how rare they are in the corpus: a model that knows which words matter."""

    dimension, fingerprint = 4096, "weighted"

    def __init__(self, passages):
        counts = np.zeros(self.dimension)
        for text in passages:
            counts[list({self._place(word) for word in _words(text)})] += 1
        self.weights = np.log(1 + len(passages) / (1 + counts))

    def _place(self, word):
        return zlib.crc32(word.encode()) % self.dimension

    def encode_queries(self, texts):
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in _words(text):
                vectors[row, self._place(word)] += 1
        vectors = np.sqrt(vectors) * self.weights.astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    encode_passages = encode_queries


def _words(text):
    return [word.strip(".,;:()[]").lower() for word in text.split()]


def with_paraphrases(data, each, seed):
    """The collection with unjudged paraphrases of every training positive, and the pairs that they answer.

    A paraphrase has the title, the sentences in another order, and lacks one word in twenty.
    """
    random = np.random.default_rng(seed)
    rows, hidden = data.corpus.to_pylist(), set()
    known = {row["_id"]: row for row in rows}
    for query, grades in data.judgements("train").items():
        for document in (document for document, grade in grades.items() if grade > 0 and document in known):
            for number in range(each):
                sentences = known[document]["text"].split(". ")
                random.shuffle(sentences)
                words = [word for word in ". ".join(sentences).split() if random.random() < 0.95]
                name = f"{query}-{document}-{number}"
                rows.append({**known[document], "_id": name, "text": " ".join(words)})
                hidden.add((query, name))
    corpus = pa.Table.from_pylist(rows, data.corpus.schema)
    return Collection(data.name, corpus, data.queries, data.qrels), hidden


@pytest.mark.slow
@pytest.mark.skipif(not SCIFACT.is_dir(), reason="needs SciFact beside the project, in ../shared/data")
def test_paraphrases_of_real_passages_are_kept_out():
    """On SciFact's claims and abstracts, with an encoder that knows little.

    For one negative in five nothing is left below the limit, and it is taken back. The filter of scores
    alone still keeps three in four out at the same window. Against rank-only mining that goes as far down as
    to be no harder on average, it needs the filter of near-duplicates, which is on by default.
    """
    data, hidden = with_paraphrases(read_beir(SCIFACT), each=3, seed=0)
    settings = MineSettings(negatives=8, bm25_depth=0, queries=200)
    encoder = Kept(Weighted(list(data.passages)), data)
    filtered = mine(data, encoder, settings)
    by_rank = mine(
        data, encoder, settings.model_copy(update={"positive_margin": None, "near_duplicate": None})
    )
    scores_alone = mine(data, encoder, settings.model_copy(update={"near_duplicate": None}))
    assert leakage(by_rank, hidden) > 0.15
    assert leakage(scores_alone, hidden) <= AT_MOST * leakage(by_rank, hidden)
    plain = settings.model_copy(update={"near_duplicate": None})
    equal = as_hard(data, encoder, plain, np.mean(filtered.table["score"].to_numpy()))
    assert leakage(filtered, hidden) <= AT_MOST * leakage(equal, hidden)
