from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from llara_core.data import leaks_search
from llara_core.data.collection import NEGATIVES_SCHEMA
from llara_core.data.leaks import apply, find_leaks
from llara_core.data.leaks_search import SoughtTexts
from llara_core.data.leaks_subsets import near_pairs
from llara_core.data_settings import LeakSettings
from llara_core.errors import DataError
from llara_core.evaluation.subsets import leak_free_subsets
from tests.evaluation.test_subsets import read
from tests.oracles.leaky_texts import asked, made_up
from tests.oracles.tiny_collection import collection

QUERY = "statins lower the risk of stroke in older patients"


def found_rows(query, text, **settings):
    found = SoughtTexts([query], LeakSettings(**settings), settings.get("ngram", 13)).search([text], "test")
    return found.rows.tolist(), found.shares.tolist()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (QUERY, 1.0),
        ("STATINS lower -- the risk, of stroke; in older (patients)!", 1.0),
        (f"We asked whether {QUERY} and found that they do.", 1.0),
        ("statins lower the risk of stroke", 6 / 9),  # cut short: two thirds
        ("risk of stroke in older patients", 6 / 9),
        ("statins lower the risk of death in older patients", 8 / 9),  # a word changed
        ("statins lower the very risk of stroke in older patients", 1.0),  # a word added
        ("statins lower risk of stroke in older patients", 7 / 9),  # a word left out; 2 of them in no trigram
    ],
)
def test_a_query_is_found_in_text(text, share):
    rows, shares = found_rows(QUERY, text)
    assert rows == [0] and shares == [pytest.approx(share, abs=0.12)]


@pytest.mark.parametrize(
    "text",
    [
        "the risk of stroke in younger men is small",  # 5 words in a row are not 65%
        "patients older in stroke of risk the lower statins",
        "in older patients the stroke risk that statins lower",  # out of order
        "",
        "statins",
    ],
)
def test_other_text_does_not_alarm(text):
    assert found_rows(QUERY, text)[0] == []


def test_a_query_of_four_words_does_not_alarm_inside_text_but_is_found_as_a_query():
    found = find_leaks(
        asked(["what is a cell", QUERY], ["What is a cell?"]), adaptation=["so what is a cell then"]
    )
    kinds = {name: one["queries"] for name, one in found.report["kinds"].items() if one["queries"]}
    # As a query of its own it stands there but for its question mark.
    assert kinds == {"query_case_or_punctuation": 1, "query_near_duplicate": 1}
    assert found.report["queries_too_short"] == 1 and found.drop_queries == ["t0"]


@pytest.mark.parametrize("query", ["what is a cell", "heart rate variability"])
def test_a_short_query_leaks_where_it_is_all_that_the_text_says(query):
    sought = SoughtTexts([query], LeakSettings(), 13)
    texts = [query, f"({query.title()}!)", f"{query} biology", query.rsplit(" ", 1)[0]]
    assert sought.search(texts, "test").rows.tolist() == [0, 1]


def test_thirteen_words_in_a_row_are_a_leak_of_a_long_query():
    words = [f"w{i}" for i in range(60)]
    long = " ".join(words)
    assert found_rows(long, "x " + " ".join(words[20:33]) + " y")[0] == [0]
    assert found_rows(long, "x " + " ".join(words[20:32]) + " y")[0] == []
    assert found_rows(long, "x " + " ".join(words[20:28]) + " y", ngram=8)[0] == [0]


def longest_run(query, text):
    """The slow way: the longest run of words that both have."""
    one, other = query.lower().split(), text.lower().split()
    best = 0
    for i in range(len(one)):
        for j in range(len(other)):
            size = 0
            while i + size < len(one) and j + size < len(other) and one[i + size] == other[j + size]:
                size += 1
            best = max(best, size)
    return best


def test_runs_are_found_exactly_where_the_slow_way_finds_them():
    rng = np.random.default_rng(0)
    queries = [" ".join(f"w{i}" for i in rng.integers(0, 4000, 40)) for _ in range(20)]
    texts = []
    for _ in range(60):
        words = queries[rng.integers(20)].split()
        start, size = rng.integers(0, 25), rng.integers(0, 15)
        texts.append(" ".join(["a", *words[start : start + size], "b"]))
    # coverage and minimum are out of reach, so that only the runs count
    settings = LeakSettings(ngram=7, coverage=1.0)
    found = SoughtTexts(queries, settings, 7).search(texts, "test")
    pairs = set(zip(found.queries.tolist(), found.rows.tolist(), strict=True))
    expected = {
        (q, t)
        for q, query in enumerate(queries)
        for t, text in enumerate(texts)
        if longest_run(query, text) >= 7
    }
    assert pairs == expected and len(expected) > 10


def test_the_result_does_not_depend_on_how_the_text_comes(monkeypatch):
    queries, texts = made_up(50, 0), made_up(300, 1)
    texts[100:150] = [f"{before} {query}" for before, query in zip(texts[100:150], queries, strict=True)]
    whole = SoughtTexts(queries, LeakSettings(), 13).search(texts, "test")
    assert set(whole.rows.tolist()) >= set(range(100, 150))
    monkeypatch.setattr(leaks_search.blocks, "__defaults__", (500,))
    monkeypatch.setattr(leaks_search, "_HITS_AT_ONCE", 7)
    again = SoughtTexts(queries, LeakSettings(), 13).search(iter(texts), "test")
    for one, other in zip(whole, again, strict=True):
        assert one.tolist() == other.tolist()


def test_nothing_to_look_for_or_in():
    assert not len(SoughtTexts([], LeakSettings()).search(["a b c d e"], "test").rows)
    assert not len(SoughtTexts([QUERY], LeakSettings()).search([], "test").rows)
    assert not len(SoughtTexts(["", "!?"], LeakSettings()).search(["", "!?"], "test").rows)


def test_what_leaks_in_scifact_is_found():
    scifact = read("scifact")
    found = find_leaks(scifact)
    kinds = {name: one["queries"] for name, one in found.report["kinds"].items()}
    assert kinds["query_verbatim"] == 2 and kinds["query_near_duplicate"] == 90
    assert found.report["relevant_documents"] == 283
    assert found.report["relevant_documents_trained_on"] == 181  # 64%
    assert found.report["subsets"] == {"no_near_duplicate": 210, "unseen_documents": 104}
    for name, marks in leak_free_subsets(scifact).items():
        assert marks.tolist() == found.subsets[name].tolist()
    json.dumps(found.report)


LEAKY = {
    "same": QUERY,
    "case": QUERY.upper() + "!",
    "near": "statins raise the risk of stroke in older patients",
    "inside": f"In this long question we ask whether it is true that {QUERY}, or if it is not so at all?",
    "clean": "why is the sky blue on earth",
    "passage": "where do large birds go in winter time",
}


@pytest.fixture
def leaky():
    """A query in four training queries; another inside a training positive; a third by its documents."""
    bird = "which bird flies farthest across the wide ocean"
    story = " ".join(f"word{i}" for i in range(40))
    return collection(
        {
            "d0": "about statins", "d1": "sky", "d2": f"I wonder {bird} they said.",
            "d3": story, "d4": "Copied: " + story + " end", "d5": "shared answer", "d6": "other",
        },
        {"e0": QUERY, "e1": bird, "e2": "tell me a story please now", "e3": "who shares the answer with us"}
        | LEAKY,
        {
            "test": {"e0": {"d0": 1}, "e1": {"d6": 1}, "e2": {"d3": 1}, "e3": {"d5": 1, "d6": 0}},
            "train": {
                "same": {"d1": 1}, "case": {"d1": 1}, "near": {"d1": 1}, "inside": {"d1": 1},
                "clean": {"d1": 1, "d4": 1}, "passage": {"d2": 1, "d5": 1},
            },
        },
    )  # fmt: skip


def test_every_kind_is_told_apart(leaky):
    found = find_leaks(leaky, adaptation=["nothing", f"they say {QUERY} too"])
    kinds = {name: (one["queries"], one["places"]) for name, one in found.report["kinds"].items()}
    assert kinds == {
        "query_verbatim": (1, 1),
        "query_case_or_punctuation": (1, 1),
        "query_inside_query": (1, 1),
        "query_near_duplicate": (1, 3),
        "query_inside_passage": (1, 1),
        "document_is_positive": (1, 1),
        "document_copied": (1, 1),
        "query_inside_adaptation": (1, 1),
    }
    assert found.report["leaking_queries"] == 4 and found.report["evaluation_queries"] == 4
    assert found.drop_queries == ["case", "inside", "near", "same"]
    assert found.drop_judgements == [("clean", "d4"), ("passage", "d2"), ("passage", "d5")]
    assert found.drop_adaptation == [1]
    example = found.report["kinds"]["document_copied"]["examples"][0]
    assert (
        example["query_id"] == "e2"
        and example["where"] == "d4"
        and example["text"].startswith("Copied: word0")
    )


def test_mark_changes_nothing(leaky):
    found = find_leaks(leaky)
    found.raise_stop()
    assert apply(leaky, found) is leaky


def test_drop_takes_out_of_training_and_leaves_evaluation_as_it_is(leaky):
    rows = [{"query_id": name, "corpus_id": "d6"} for name in ("same", "clean", "passage")]
    object.__setattr__(leaky, "negatives", pa.Table.from_pylist(rows, NEGATIVES_SCHEMA))
    settings = LeakSettings(action="drop")
    found = find_leaks(leaky, settings=settings)
    left = apply(leaky, found)
    assert left.judgements("train") == {"clean": {"d1": 1}}
    assert left.judgements("test") == leaky.judgements("test")
    assert left.queries is leaky.queries and left.corpus is leaky.corpus
    assert left.negatives["query_id"].to_pylist() == ["clean"]
    assert found.report["dropped"] == {"queries": 4, "judgements": 3, "adaptation_texts": 0}
    again = find_leaks(left, settings=settings)
    assert not again.report["leaking_queries"] and apply(left, again) is left


def test_stop_names_the_worst_and_the_setting(leaky):
    found = find_leaks(leaky, settings=LeakSettings(action="stop"))
    with pytest.raises(DataError, match=r"4 of 4 evaluation queries(.|\n)*e0 'statins(.|\n)*leaks\.action"):
        found.raise_stop()
    find_leaks(leaky, settings=LeakSettings(action="stop", stop_above=1.0)).raise_stop()
    assert apply(leaky, found) is leaky


def test_parts_can_be_switched_off(leaky):
    settings = LeakSettings(queries=False, documents=False, adaptation=False)
    found = find_leaks(leaky, adaptation=[QUERY], settings=settings)
    assert not found.report["kinds"] and not found.report["leaking_queries"]
    assert found.subsets["no_near_duplicate"].tolist() == [False, True, True, True]


def test_without_a_training_split_only_adaptation_can_leak():
    found = find_leaks(asked([QUERY]), adaptation=[QUERY])
    assert list(found.report["kinds"]) == ["query_inside_adaptation"]
    assert found.subsets == {} and found.report["train_split"] is None


def test_near_pairs_are_those_strictly_above_the_bound():
    pairs = near_pairs(["a b c d e f g"], ["a b c d e f g x y z", "a b c d e f g x y"], 0.7)
    assert pairs.others.tolist() == [1] and pairs.similarity.tolist() == [7 / 9]
    assert len(near_pairs([], ["a"], 0.7).queries) == 0
