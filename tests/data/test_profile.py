"""Profiles and drift: counted by hand, by slow Python, and against scipy's divergence."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.data import languages as languages_module
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.profile import drift, profile
from llara_core.data.profile_drift import divergence
from llara_core.data.profile_sketch import pack, slices, text_hashes, unpack, unseen_share
from llara_core.data.profile_text import Lengths, Vocabulary, words
from llara_core.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"word{number}" for number in range(500)]


def collection(texts, titles=None, queries=("what is it",), judged=(("q0", "0", 1),)):
    rows = len(texts)
    corpus = pa.table(
        [
            [str(row) for row in range(rows)],
            list(titles or [""] * rows),
            list(texts),
            [None] * rows,
            [None] * rows,
            list(range(rows)),
        ],
        schema=CORPUS_SCHEMA,
    )
    asked = pa.table(
        [[f"q{row}" for row in range(len(queries))], list(queries), [0] * len(queries)], schema=QUERIES_SCHEMA
    )
    columns = [[one[place] for one in judged] for place in range(3)]
    qrels = {"test": pa.table([*columns, [0] * len(judged)], schema=QRELS_SCHEMA)}
    return Collection("c", corpus, asked, qrels)


def texts(count, seed, vocabulary=WORDS, length=40):
    rng = random.Random(seed)
    return [" ".join(rng.choices(vocabulary, k=length)) for _ in range(count)]


def test_counts_by_hand():
    found = profile(collection(["one two", "three", "three", ""], ["A title", "", "", ""]))
    assert (found["documents"], found["queries"], found["judgements"]) == (4, 1, {"test": 1})
    corpus = found["corpus"]
    assert (corpus["rows"], corpus["distinct"], corpus["empty"]) == (4, 3, 1)
    characters = corpus["characters"]  # "A title one two" 15, "three" 5 twice, "" 0
    assert (characters["least"], characters["most"], characters["total"]) == (0, 15, 25)
    assert characters["mean"] == 6.25
    assert characters["quantiles"]["0.5"] == 5
    in_words = corpus["words"]
    assert (in_words["total"], in_words["most"]) == (6, 4)
    assert sum(characters["histogram"]["counts"]) + characters["histogram"]["beyond"] == 4
    assert found["vocabulary"]["top"][0] == ["a", 1]  # distinct texts are counted once, ties by name
    assert found["vocabulary"]["documents"] == 3
    assert found["splits"]["test"] == {
        "judgements": 1, "queries": 1, "documents": 1, "relevant": 1, "grades": {"1": 1},
    }  # fmt: skip
    assert found["tokens"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_empty_collection_has_a_profile():
    empty = profile(collection([], queries=(), judged=()))
    assert empty["corpus"]["rows"] == 0
    assert empty["corpus"]["words"]["mean"] == 0.0
    numbers = drift(empty, profile(collection(texts(5, 0))))["numbers"]
    assert numbers["size_ratio"] is None
    assert numbers["length_shift"] is None
    assert numbers["vocabulary_divergence"] is None
    assert drift(empty, empty)["numbers"]["size_ratio"] == 1.0


@given(st.lists(st.text(st.sampled_from("aZ_9 .\n-éß\u3042漢字"), max_size=12), max_size=20))
@settings(max_examples=200)
def test_words_are_counted_as_a_regular_expression_counts_them(rows):
    expected = [len(re.findall(r"[\u3040-\u9fff](?:[A-Za-z0-9_éß]*)|[A-Za-z0-9_éß]+", row)) for row in rows]
    assert words(pa.array(rows, pa.string())).tolist() == expected
    whole = pa.array(["zz", *rows, None], pa.string()).slice(1)  # a slice does not begin at offset 0
    assert words(whole).tolist() == [*expected, 0]


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=60))
@settings(max_examples=100)
def test_lengths_are_exact(values):
    lengths = Lengths()
    for start in range(0, len(values), 7):
        lengths.add(np.array(values[start : start + 7], np.int64))
    found = lengths.to_dict()
    ordered = sorted(values)
    assert (found["least"], found["most"], found["total"]) == (ordered[0], ordered[-1], sum(values))
    for name, quantile in found["quantiles"].items():
        assert quantile == np.quantile(values, float(name), method="inverted_cdf")
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    assert len(edges) == len(counts) + 1
    assert len(counts) <= 51
    assert sum(counts) + found["histogram"]["beyond"] == len(values)
    assert counts == [sum(low <= v < high for v in values) for low, high in pairwise(edges)]


def test_profile_does_not_depend_on_the_order_of_rows_or_on_chunks():
    some = texts(500, 1)
    first = profile(collection(some))
    order = random.Random(0).sample(range(500), 500)
    shuffled = collection([some[row] for row in order])
    # Ids name content here, so they move with it.
    ids = pa.array([str(row) for row in order], pa.string())
    corpus = shuffled.corpus.set_column(0, "_id", ids)
    corpus = pa.concat_tables([corpus.slice(0, 123), corpus.slice(123)])
    second = profile(Collection("c", corpus, shuffled.queries, shuffled.qrels))
    assert first == second


def test_slices_cover_every_row_once_and_are_small(monkeypatch):
    from llara_core.data import profile_sketch

    monkeypatch.setattr(profile_sketch, "SLICE_BYTES", 2000)
    table = collection(texts(100, 2)).corpus
    parts = list(slices(table, ("text",)))
    assert [text for part in parts for text in part["text"].to_pylist()] == table["text"].to_pylist()
    assert max(part.nbytes for part in parts) <= 2000


def test_hashes_tell_columns_nulls_and_rows_apart():
    a = pa.array(["ab", "a", "", None, "ab"], pa.string())
    b = pa.array(["c", "bc", "", None, "c"], pa.string())
    hashes = text_hashes([a, b])
    assert hashes[0] == hashes[4]
    assert len(set(hashes.tolist())) == 4
    assert text_hashes([a.slice(1), b.slice(1)]).tolist() == hashes[1:].tolist()
    digest = hashlib.blake2b(b"ab", digest_size=8).digest()
    assert text_hashes([pa.array(["ab"])]).tolist() == [int.from_bytes(digest, "little")]


def test_pack_keeps_numbers_and_refuses_others():
    numbers = np.arange(10, dtype=np.uint64) * 12345678901234
    assert unpack(pack(numbers), np.uint64).tolist() == numbers.tolist()
    with pytest.raises(DataError, match="profile again"):
        unpack("not packed", np.uint64)


def test_the_same_text_does_not_drift():
    found = drift(profile(collection(texts(50, 3))), profile(collection(texts(50, 3))))
    assert found["identical"]
    assert found["new_documents"] == {"share": 0.0, "error": 0.0, "exact": True, "compared": 50}
    assert found["numbers"]["vocabulary_divergence"] == 0.0
    assert found["numbers"]["length_shift"] == 0.0


def test_planted_drift_is_seen():
    old = texts(400, 4)
    new = old[:300] + texts(500, 5, [f"other{number}" for number in range(500)], length=80)
    found = drift(profile(collection(old)), profile(collection(new)))
    numbers = found["numbers"]
    assert numbers["size_ratio"] == 2.0
    assert numbers["new_share"] == 500 / 800
    assert numbers["gone_share"] == 100 / 400
    assert numbers["length_shift"] == 1.0  # the median went from 40 to 80 words
    assert numbers["vocabulary_divergence"] > 0.3 > 10 * numbers["vocabulary_noise"]
    assert found["vocabulary"]["risen"][0][0].startswith("other")
    assert found["vocabulary"]["fallen"][0][0].startswith("word")


def test_words_that_hardly_moved_or_are_only_unlisted_are_not_named():
    both = " ".join(f"common{number}" for number in range(300))
    found = drift(profile(collection([both])), profile(collection([both, both + " x"])))["vocabulary"]
    assert found["risen"] == [] and found["fallen"] == []


def test_divergence_of_random_samples_is_about_the_noise_stated():
    found = drift(profile(collection(texts(400, 6))), profile(collection(texts(300, 7))))["vocabulary"]
    assert found["divergence"] == pytest.approx(found["noise"], rel=0.2)


def test_divergence_is_the_square_of_scipys_distance():
    distance = pytest.importorskip("scipy.spatial.distance")
    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 50, 1000), rng.integers(0, 20, 1000)
    assert divergence(p, q) == pytest.approx(distance.jensenshannon(p, q, 2) ** 2, rel=1e-9)
    assert divergence(np.array([3, 0]), np.array([0, 5])) == 1.0


@pytest.mark.parametrize(
    ("size_a", "size_b", "shared"),
    [(60_000, 60_000, 45_000), (60_000, 30_000, 29_000), (20_000, 90_000, 18_000), (90_000, 9_000, 0)],
)
def test_share_of_new_documents_lies_within_the_error_stated(size_a, size_b, shared):
    rng = np.random.default_rng(size_a + size_b)
    pool = np.unique(rng.integers(0, 2**63, size_a + size_b, dtype=np.uint64))
    rng.shuffle(pool)
    a, b = pool[:size_a], pool[size_a - shared : size_a - shared + size_b]
    kept = 8192
    found = unseen_share(np.sort(a)[:kept], np.sort(b)[:kept], all_before=False, all_after=False)
    assert not found["exact"]
    assert 0 < found["error"] < 0.04
    assert abs(found["share"] - (1 - shared / size_b)) <= 1.5 * found["error"]


def test_error_covers_the_truth_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        pool = np.unique(rng.integers(0, 2**63, 4000, dtype=np.uint64))
        rng.shuffle(pool)
        a, b = np.sort(pool[:2000])[:300], np.sort(pool[500:3000])[:300]
        found = unseen_share(a, b, all_before=False, all_after=False)
        hits += abs(found["share"] - 1000 / 2500) <= found["error"]
    assert 0.92 <= hits / 300 <= 1.0


def test_token_counts_come_from_the_counter():
    found = profile(collection(texts(20, 8)), count_tokens=lambda rows: [len(row.split()) for row in rows])
    assert found["tokens"]["documents"] == 20
    assert found["tokens"]["mean"] == 40
    with pytest.raises(DataError, match="one a text"):
        profile(collection(texts(3, 8)), count_tokens=lambda rows: [1])


def test_languages_of_a_sample():
    pytest.importorskip("py3langid")
    german = "Der schnelle braune Fuchs springt über den faulen Hund, der auf der Straße schläft."
    english = "The quick brown fox jumps over the lazy dog that is sleeping in the street today."
    mostly = [f"{english} {row}" for row in range(30)] + [f"{german} {row}" for row in range(10)] + ["x"]
    found = profile(collection(mostly))
    assert found["languages"]["shares"]["en"] == pytest.approx(30 / 41)
    assert found["languages"]["shares"]["de"] == pytest.approx(10 / 41)
    assert found["languages"]["shares"]["und"] == pytest.approx(1 / 41)
    shift = drift(profile(collection(mostly[:30])), found)["numbers"]["language_shift"]
    assert shift == pytest.approx(11 / 41)


def test_without_the_detector_the_profile_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    found = languages_module.languages(["some text that nobody looks at"])
    assert not found["available"]
    assert "llara[data]" in found["why"]
    assert drift(profile(collection(["a"])), profile(collection(["b"])))["numbers"]["language_shift"] is None


def test_a_profile_of_another_version_is_refused():
    good = profile(collection(["a"]))
    with pytest.raises(DataError, match="schema 7"):
        drift({**good, "schema": 7}, good)
    with pytest.raises(DataError, match="schema None"):
        drift(good, {})


def test_endless_runs_of_letters_are_no_words_on_the_page():
    vocabulary = Vocabulary()
    vocabulary.add(pa.array(["x" * 5000 + " hello", "hello <script>"], pa.string()))
    assert vocabulary.to_dict()["top"] == [["hello", 2], ["script", 1]]
    assert vocabulary.to_dict()["words"] == 4


MEMORY = """
import sys, threading, time, tempfile
from pathlib import Path
import pyarrow as pa
from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.profile import profile
def anonymous():
    return int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1]) / 1024
rows = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    with pa.OSFile(f'{folder}/c.arrow', 'wb') as sink, pa.ipc.new_file(sink, CORPUS_SCHEMA) as writer:
        for start in range(0, rows, 20_000):
            part = range(start, min(rows, start + 20_000))
            text = [f'passage {row} ' + ' '.join(f'w{row * k % 9973}' for k in range(1, 60)) for row in part]
            none = [None] * len(part)
            columns = [[f'd{row}' for row in part], [''] * len(part), text, none, none, list(part)]
            writer.write_table(pa.table(columns, schema=CORPUS_SCHEMA))
    corpus = pa.ipc.open_file(pa.memory_map(f'{folder}/c.arrow')).read_all()
    found = Collection('c', corpus, QUERIES_SCHEMA.empty_table(), {})
    found.__dict__['content_hash'] = 'measured elsewhere'
    profile(Collection('c', corpus.slice(0, 100), QUERIES_SCHEMA.empty_table(), {}))  # imports
    pa.default_memory_pool().release_unused()
    before = anonymous(); peak = [before]; done = threading.Event()
    def watch():
        while not done.wait(0.005): peak[0] = max(peak[0], anonymous())
    thread = threading.Thread(target=watch); thread.start()
    started = time.perf_counter(); profile(found); seconds = time.perf_counter() - started
    done.set(); thread.join()
    print(peak[0] - before, corpus.nbytes / 2**20, seconds)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_texts():
    used = []
    for rows in (20_000, 120_000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(rows)],
            check=True, capture_output=True, text=True, cwd=ROOT, timeout=300,
        )  # fmt: skip
        used.append(float(done.stdout.split()[0]))
    assert used[1] - used[0] < 60, used  # 40 MiB more text; 8 bytes a row are kept; a slice is 16 MiB
