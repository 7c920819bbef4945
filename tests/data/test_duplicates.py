from __future__ import annotations

import builtins
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.data import duplicates_near, shingle_hashes
from llara_core.data.collection import NEGATIVES_SCHEMA
from llara_core.data.duplicates import deduplicate, find_duplicates, remap_judgements
from llara_core.data.duplicates_near import PERMUTATIONS, NearGroups, band_rows
from llara_core.data.duplicates_pairs import Ngrams, join_alike
from llara_core.data.shingle_hashes import blocks, keys_and_words, ngram_hashes
from llara_core.data_settings import DuplicateSettings
from llara_core.errors import MissingDependencyError
from tests.oracles.tiny_collection import collection

LONG = (
    "the quick brown fox jumps over the lazy dog while seven small cats watch from the old garden wall today"
)
LONGER = LONG.replace("today", "today again and again")  # 18 of 21 trigrams shared
OTHER = (
    "a completely different passage about retrieval models which are trained on pairs of queries and texts"
)


def grams(text, n=3):
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def oracle(texts, threshold):
    """Clusters by comparing all pairs."""
    sets = [grams(text) for text in texts]
    labels = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            union = len(sets[i] | sets[j])
            if union and len(sets[i] & sets[j]) >= threshold * union and labels[i] != labels[j]:
                low, high = sorted((labels[i], labels[j]))
                labels = [low if one == high else one for one in labels]
    return labels


def varied(count, seed=0):
    """Texts of which a third are others with some words changed."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        if texts and rng.random() < 0.35:
            words = texts[rng.integers(len(texts))].split()
            for place in rng.integers(0, len(words), rng.integers(0, 5)):
                words[place] = f"c{rng.integers(1000)}"
        else:
            words = [f"w{i}" for i in rng.zipf(1.3, rng.integers(8, 50)) % 500]
        texts.append(" ".join(words))
    return texts


def test_clusters_by_hand():
    texts = [OTHER, LONG, "!!!", LONG.upper().replace(" ", ", "), LONGER, "", "", OTHER + "!", "fox", "Fox."]
    found = find_duplicates(texts)
    assert found.exact.tolist() == [0, 1, 2, 1, 4, 5, 5, 0, 8, 8]
    assert found.clusters.tolist() == [0, 1, 2, 1, 1, 5, 5, 0, 8, 8]
    report = found.report
    assert (report["clusters"], report["repeats"], report["exact_repeats"], report["near_repeats"]) == (
        4,
        5,
        4,
        1,
    )
    assert report["sizes"] == {"2": 3, "3-4": 1} and report["removed"] == 0
    largest = report["examples"][0]
    assert largest["size"] == 3 and largest["kind"] == "near"
    assert [one["id"] for one in largest["passages"]] == ["1", "3", "4"]
    assert found.kept.all() and find_duplicates(texts, DuplicateSettings(near=False)).clusters[4] == 4


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_what_is_found_is_what_comparing_all_pairs_finds(threshold):
    texts = varied(400)
    found = find_duplicates(texts, DuplicateSettings(threshold=threshold)).clusters
    expected = np.array(oracle(texts, threshold))
    assert len(set(expected)) < 380  # the texts do hold duplicates
    # No pair is joined that should not be; at most 1 in 50 is missed.
    assert all(expected[row] == expected[cluster] for row, cluster in enumerate(found))
    assert (found != expected).mean() < 0.02


def test_the_result_depends_on_neither_blocks_nor_the_order_of_texts(monkeypatch):
    texts = varied(300, seed=3)
    found = find_duplicates(texts).clusters
    monkeypatch.setattr(shingle_hashes.blocks, "__defaults__", (50,))
    assert find_duplicates(texts).clusters.tolist() == found.tolist()
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = find_duplicates([texts[row] for row in order]).clusters
    together = {
        frozenset(order[np.flatnonzero(shuffled == name)].tolist()) for name in set(shuffled.tolist())
    }
    assert together == {frozenset(np.flatnonzero(found == name).tolist()) for name in set(found.tolist())}


def test_a_chain_of_versions_is_one_cluster_named_by_its_lowest_row():
    words = [f"w{i}" for i in range(60)]
    chain = []
    for step in range(6):
        words[step * 10] = f"new{step}"
        chain.append(" ".join(words))
    similar = [len(grams(a) & grams(b)) / len(grams(a) | grams(b)) for a, b in pairwise(chain)]
    assert (
        min(similar) > 0.8 > len(grams(chain[0]) & grams(chain[-1])) / len(grams(chain[0]) | grams(chain[-1]))
    )
    assert find_duplicates([OTHER, *reversed(chain)]).clusters.tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_boilerplate_that_fills_a_band_is_bounded_and_what_is_left_out_counted():
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 2**63, 20, dtype=np.uint64) for _ in range(40)]
    ngrams = Ngrams.of([np.concatenate(sets)], [np.full(40, 20)])
    band = [(np.arange(40), np.array([40]))]
    joined = join_alike(band, ngrams, 0.8, leaders=5)
    assert joined.compared == sum(39 - turn for turn in range(5)) and joined.left_out == 35 * 34 // 2
    assert joined.labels.tolist() == list(range(40))
    alike = Ngrams.of([np.concatenate([sets[0]] * 40)], [np.full(40, 20)])
    joined = join_alike(band, alike, 0.8, leaders=5)
    assert joined.compared == 39 and joined.left_out == 0 and not joined.labels.any()


def test_exact_comparison_equals_sets():
    texts = varied(80, seed=5)
    _, words = keys_and_words(texts)
    hashes, _ = ngram_hashes(words, 3, short=True)
    sizes = np.array([max(1, len(text.split()) - 2) for text in texts])
    ngrams = Ngrams.of([hashes], [sizes])
    first, second = (one.ravel() for one in np.meshgrid(np.arange(80), np.arange(80)))
    expected = [
        len(grams(texts[a]) & grams(texts[b])) >= 0.6 * len(grams(texts[a]) | grams(texts[b]))
        for a, b in zip(first, second, strict=True)
    ]
    assert ngrams.alike(first, second, 0.6).tolist() == expected
    assert ngrams.sizes.tolist() == [len(grams(text)) for text in texts]


def test_signatures_estimate_jaccard():
    """The library does what our banding counts on: slots agree as often as the Jaccard similarity says."""
    rensa = pytest.importorskip("rensa", reason="rensa comes with the extra data")
    rng = np.random.default_rng(0)
    agreed = []
    for _ in range(60):
        drawn = rng.integers(0, 2**63, 60, dtype=np.uint64)
        flat = np.concatenate([drawn[:50], drawn[10:]])
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            flat, np.array([0, 50, 100]), PERMUTATIONS, 1
        )
        one, other = np.array(matrix.to_rows())
        agreed.append((one == other).mean())
    assert abs(np.mean(agreed) - 40 / 60) < 0.03


def test_bands_are_as_long_as_recall_allows():
    for threshold in (0.4, 0.5, 0.7, 0.8, 0.9, 1.0):
        rows = band_rows(threshold)
        assert 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.99
    assert band_rows(0.8) == 6 and band_rows(1.0) == PERMUTATIONS


def test_policies_and_representatives():
    texts = [LONG, LONGER, OTHER, OTHER.upper(), "alone here"]
    first = find_duplicates(texts, DuplicateSettings(policy="keep_first"))
    assert first.kept.tolist() == [True, False, True, False, True]
    assert first.representatives.tolist() == [0, 0, 2, 2, 4] and first.report["removed"] == 2
    longest = find_duplicates(texts, DuplicateSettings(policy="keep_longest"))
    assert longest.kept.tolist() == [False, True, True, False, True]  # a tie goes to the first
    assert longest.representatives.tolist() == [1, 1, 2, 2, 4]
    assert find_duplicates([], DuplicateSettings(policy="keep_longest")).report["passages"] == 0


def test_judgements_of_removed_documents_name_the_one_that_stays():
    tiny = collection(
        {"a": LONG, "b": OTHER, "c": LONG.upper(), "d": LONGER},
        {"q": "fox", "r": "models"},
        {"test": {"q": {"c": 2, "a": 1, "b": 0}, "r": {"b": 1}}, "train": {"r": {"d": 1}}},
    )
    found = find_duplicates(tiny.passages, DuplicateSettings(policy="keep_first"), tiny.corpus_ids)
    assert [one["id"] for one in found.report["examples"][0]["passages"]] == ["a", "c", "d"]
    left, counts = deduplicate(tiny, found)
    assert left.corpus["_id"].to_pylist() == ["a", "b"]
    assert left.judgements("test") == {"q": {"a": 2, "b": 0}, "r": {"b": 1}}
    assert left.judgements("train") == {"r": {"a": 1}}
    assert counts == {"documents_removed": 2, "judgements_moved": 2, "judgements_merged": 1}
    same, none = deduplicate(tiny, find_duplicates(tiny.passages))
    assert same is tiny and not any(none.values())


def test_negatives_that_are_removed_copies_go():
    tiny = collection({"a": LONG, "b": OTHER, "c": LONG.upper()}, {"q": "fox"}, {"train": {"q": {"a": 1}}})
    rows = [{"query_id": "q", "corpus_id": name} for name in ("b", "c")]
    object.__setattr__(tiny, "negatives", pa.Table.from_pylist(rows, NEGATIVES_SCHEMA))
    left, _ = deduplicate(tiny, find_duplicates(tiny.passages, DuplicateSettings(policy="keep_first")))
    assert left.negatives.select(["query_id", "corpus_id"]).to_pylist() == [
        {"query_id": "q", "corpus_id": "b"}
    ]


def test_a_table_without_removed_documents_is_the_same_object():
    table = collection({"a": "x"}, {"q": "x"}, {"test": {"q": {"a": 1}}}).qrels["test"]
    assert remap_judgements(table, {"gone": "a"})[0] is table


def test_without_rensa_the_error_names_the_extra_and_exact_duplicates_still_work(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name == "rensa":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"llara\[data\].*duplicates\.near"):
        find_duplicates(["a", "b"])
    assert find_duplicates(["a", "A!"], DuplicateSettings(near=False)).clusters.tolist() == [0, 0]


def test_text_of_a_script_without_spaces():
    chinese = "".join(chr(0x4E00 + 37 * place) for place in range(30))
    texts = [chinese, chinese + "\u3002", chinese[:-1], chinese[::-1]]
    assert find_duplicates(texts).clusters.tolist() == [0, 0, 0, 3]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's to tell")
def test_memory_follows_bands_and_not_texts(tmp_path):
    """Memory-mapped passages that are all different: only their bands and keys are kept."""
    script = """
import sys, pyarrow as pa, numpy as np
from llara_core.data.duplicates import find_duplicates
from llara_core.data.lazy import LazyTexts
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
rng = np.random.default_rng(0)
path, schema = sys.argv[1], pa.schema([("text", pa.string())])
count = int(sys.argv[2])
with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
    for _ in range(count // 1000):
        texts = [" ".join(map(str, row)) for row in rng.integers(0, 10**6, (1000, 60)).tolist()]
        writer.write_batch(pa.record_batch([texts], schema=schema))
texts = LazyTexts(pa.ipc.open_file(pa.memory_map(path)).read_all(), ("text",), str)
assert find_duplicates(texts).report["repeats"] == 0
print(peak())
"""
    peaks = []
    for count in (2000, 20000):
        command = [sys.executable, "-c", script, str(tmp_path / f"{count}.arrow"), str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout.split()[-1]))
    # 18,000 passages more: 8 MB of text mapped, 4 MB of bands and keys; held as Python objects their
    # n-grams would be over 100 MB.
    assert peaks[1] - peaks[0] < 50


def test_near_groups_take_blocks_without_words():
    groups = NearGroups(0.8, 3)
    for first, block in blocks(["!", "", "?"]):
        groups.add(first, keys_and_words(block)[1])
    assert groups.join(np.arange(3), ["!", "", "?"]).tolist() == [0, 1, 2]
    assert duplicates_near.LEADERS > 1
