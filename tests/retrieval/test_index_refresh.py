"""Delta refresh: equal to a full rebuild, and whole or not at all."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.errors import DataError
from llara_core.retrieval import index_state
from llara_core.retrieval.exact import faiss_module
from llara_core.retrieval.index import Index, IndexSettings
from llara_core.retrieval.index_faiss import match
from tests.oracles.fake_encoder import FakeEncoder

needs_faiss = pytest.mark.skipif(faiss_module() is None, reason="extra cpu or gpu")
APPROXIMATE = [pytest.param(kind, marks=needs_faiss) for kind in ("ivfpq", "hnsw")]
ENCODER = FakeEncoder(dimension=16)
QUERIES = ENCODER.encode_queries(["a b", "c d e", "f", "a", "g h"])

# Few texts, so that duplicates, reversions and changes to another passage's text are frequent.
edits = st.lists(
    st.tuples(
        st.sampled_from(["add", "delete", "change", "reorder"]),
        st.integers(0, 50),
        st.sampled_from("abcdefgh"),
    ),
    max_size=12,
)


def edited(corpus, changes, counter):
    """Apply edits to a corpus, id to text in order."""
    items = list(corpus.items())
    for what, place, letter in changes:
        if what == "add":
            items.insert(place % (len(items) + 1), (f"d{next(counter)}", f"{letter} {'abc'[place % 3]}"))
        elif items and what == "delete":
            del items[place % len(items)]
        elif items and what == "change":
            items[place % len(items)] = (items[place % len(items)][0], f"{letter} {'xyz'[place % 3]}")
        elif items:
            cut = place % len(items)
            items = items[cut:] + items[:cut][::-1]
    return dict(items)


def answers(index, k=4):
    scores, rows = index.search(QUERIES, k, ENCODER)
    return scores, rows, [[index.id_of(row) for row in line] for line in rows]


@given(st.lists(edits, min_size=1, max_size=4), st.sampled_from([1, 3]))
@settings(max_examples=25)
def test_a_refreshed_flat_index_equals_a_full_build(tmp_path_factory, rounds, shards):
    folder = tmp_path_factory.mktemp("index")
    counter = iter(range(10_000))
    corpus = edited({}, [("add", n, letter) for n, letter in enumerate("abcab")], counter)
    index = Index.build(folder / "live", ENCODER, [*corpus], [*corpus.values()], IndexSettings(shards=shards))
    for changes in rounds:
        before, corpus = corpus, edited(corpus, changes, counter)
        ENCODER.passages_encoded = 0
        index = index.refresh(ENCODER, [*corpus], [*corpus.values()])
        counts = index.manifest["counts"]
        assert (
            ENCODER.passages_encoded == counts["encoded"] == len(set(corpus.values()) - set(before.values()))
        )
        assert counts["kept"] == len(corpus.items() & before.items())
        assert counts["deleted"] == len(before.keys() - corpus.keys())
        assert counts["added"] == len(corpus.keys() - before.keys())
        assert counts["changed"] == sum(before.get(key, text) != text for key, text in corpus.items())
        whole = Index.build(
            folder / "whole", ENCODER, [*corpus], [*corpus.values()], IndexSettings(shards=shards)
        )
        for one, other in zip(answers(index)[:2], answers(whole)[:2], strict=True):
            np.testing.assert_array_equal(one, other)
        assert index.ids == [*corpus]
        files, expected = (one.manifest["files"] for one in (index, whole))
        assert files == expected  # byte for byte
        assert index.fingerprint == whole.fingerprint


@pytest.mark.parametrize("kind", APPROXIMATE)
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_approximate_kinds_never_give_what_is_gone(tmp_path, kind, shards, seed):
    """Several refreshes without training: scores are those of the new texts, ids those of the new corpus."""
    rng = np.random.default_rng(seed)
    encoder = FakeEncoder(dimension=32)

    def text():
        return " ".join(f"w{word}" for word in rng.integers(0, 300, 8))

    corpus = {f"d{n}": text() for n in range(1300)}
    index = Index.build(
        tmp_path / "i", encoder, [*corpus], [*corpus.values()], IndexSettings(kind, shards=shards)
    )
    for number in range(3):
        items = list(corpus.items())
        for place in rng.choice(len(items), 20, replace=False):
            items[place] = (items[place][0], text())
        dropped = {int(place) for place in rng.choice(len(items), 20, replace=False)}
        items = [item for place, item in enumerate(items) if place not in dropped]
        items += [(f"n{number}-{n}", text()) for n in range(15)] + [(f"c{number}", items[0][1])]
        gone = corpus.keys() - dict(items).keys()
        corpus = dict(items[7:] + items[:7])
        index = index.refresh(encoder, [*corpus], [*corpus.values()])
        assert index.manifest["since_training"] > 0
        passages = encoder.encode_passages([*corpus.values()])
        queries = np.concatenate([encoder.encode_queries([text() for _ in range(20)]), passages[::50]])
        scores, rows = index.search(queries, 30, encoder)
        expected = np.einsum("qd,qkd->qk", queries.astype(np.float64), passages[rows].astype(np.float64))
        np.testing.assert_array_equal(scores, expected.astype(np.float32))
        assert all(len(set(line)) == 30 for line in rows)
        assert not {index.id_of(row) for row in np.unique(rows)} & gone
        found = index.search(passages[-30:], 3, encoder)[0]  # new passages are found by their own vectors
        assert (found[:, 0] > 0.999).mean() > 0.9


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_after_enough_changes_an_index_is_trained_again_and_equals_a_full_build(tmp_path, kind, caplog):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 200, 8)) for _ in range(1500)]
    ids = [f"d{n}" for n in range(1500)]
    index = Index.build(tmp_path / "live", ENCODER, ids[:1200], texts[:1200], IndexSettings(kind))
    assert index.refresh(ENCODER, ids[:1300], texts[:1300]).manifest["since_training"] == 100
    index = Index.open(tmp_path / "live").refresh(ENCODER, ids, texts)
    assert index.manifest["since_training"] == 300  # a fifth, not more
    fewer, kept = ids[100:], texts[100:]
    with caplog.at_level(logging.INFO, logger="llara_core"):
        index = index.refresh(ENCODER, fewer, kept)
    assert index.manifest["since_training"] == 0 and "trained again" in caplog.text
    whole = Index.build(tmp_path / "whole", ENCODER, fewer, kept, IndexSettings(kind))
    assert index.manifest["files"] == whole.manifest["files"]
    for one, other in zip(answers(index, 50)[:2], answers(whole, 50)[:2], strict=True):
        np.testing.assert_array_equal(one, other)


@needs_faiss
def test_a_corpus_that_shrinks_and_grows_changes_its_kind(tmp_path):
    texts = [f"w{n % 97} w{n % 89} w{n}" for n in range(1100)]
    ids = [str(n) for n in range(1100)]
    index = Index.build(tmp_path / "index", ENCODER, ids, texts, IndexSettings("ivfpq"))
    kinds = [index.manifest["kind"]]
    for count in (500, 0, 1100):
        index = index.refresh(ENCODER, ids[:count], texts[:count])
        kinds.append(index.manifest["kind"])
        assert len(index) == count
    assert kinds == ["ivfpq", "flat", "flat", "ivfpq"]


def test_an_index_that_is_open_stays_as_it_was(tmp_path):
    old = Index.build(tmp_path / "index", ENCODER, ["x", "y"], ["a b", "c d"])
    before = answers(old)
    old.refresh(ENCODER, ["z"], ["g h"])
    assert answers(old)[2] == before[2]
    assert len(list((tmp_path / "index").glob("state-*"))) == 1


def test_a_failing_refresh_leaves_the_old_index(tmp_path):
    index = Index.build(tmp_path / "index", ENCODER, ["x", "y"], ["a b", "c d"])

    class Broken(FakeEncoder):
        def encode_passages(self, passages):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        index.refresh(Broken(dimension=16), ["x", "z"], ["a b", "new"])
    with pytest.raises(DataError, match="several passages"):
        index.refresh(ENCODER, ["x", "x"], ["a b", "new"])
    assert Index.open(tmp_path / "index").ids == ["x", "y"]
    assert len(list((tmp_path / "index").iterdir())) == 2


KILLED = """
import os, sys
from pathlib import Path
from llara_core.retrieval import {module} as module
from llara_core.retrieval.index import Index
from tests.oracles.fake_encoder import FakeEncoder

whole = module.{function}
def die(*arguments, **named):
    if {after}:
        whole(*arguments, **named)
    os._exit(9)
module.{function} = die
Index.open(Path(sys.argv[1])).refresh(FakeEncoder(dimension=16), ["x", "z"], ["changed", "new"])
"""


@pytest.mark.parametrize(
    ("module", "function", "after", "survivor"),
    [
        ("index_vectors", "stored_vectors", True, ["x", "y"]),
        ("index_state", "write_vectors", True, ["x", "y"]),
        ("index_files", "write_json", False, ["x", "y"]),
        ("index_files", "write_json", True, ["x", "z"]),
    ],
)
def test_a_kill_at_any_moment_leaves_an_index(tmp_path, module, function, after, survivor):
    Index.build(tmp_path / "index", ENCODER, ["x", "y"], ["a b", "c d"])
    script = KILLED.format(module=module, function=function, after=after)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "index")], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 9
    index = Index.open(tmp_path / "index", verify=True)
    assert index.ids == survivor
    ENCODER.passages_encoded = 0
    index = index.refresh(ENCODER, ["x", "z"], ["changed", "new"])  # goes on, and clears up
    assert ENCODER.passages_encoded == 0  # what the killed run had encoded is not encoded again
    assert index.ids == ["x", "z"] and len(list((tmp_path / "index").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_rebuild_share_is_what_the_rules_say():
    assert index_state.REBUILD_SHARE == 0.2


def test_match_pairs_equal_texts_in_order():
    def hashes(letters):
        return np.array([[ord(letter)] * 16 for letter in letters], np.uint8).reshape(-1, 16)

    assert match(hashes("abacb"), hashes("aab")).tolist() == [0, 2, 1, -1, -1]
    assert match(hashes("ab"), hashes("")).tolist() == [-1, -1]
    assert match(hashes(""), hashes("ab")).tolist() == []
