"""What `diff` says, against hand-made cases and a slow comparison with dictionaries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.data.collection import (
    CORPUS_SCHEMA,
    NEGATIVES_SCHEMA,
    QRELS_SCHEMA,
    QUERIES_SCHEMA,
    Collection,
)
from llara_core.data.diff import diff
from llara_core.data.diff_text import diff_text
from llara_core.data.visible import visible, visible_bytes

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = {"d1": "the cat sat", "d2": "a dog ran", "d3": "birds fly south", "d4": "fish swim"}
QUERIES = {"q1": "who sat", "q2": "who ran"}
JUDGED = {"train": [("q1", "d1", 1), ("q2", "d2", 1)], "test": [("q1", "d3", 2)]}


def corpus(rows):
    """`rows`: (id, text) or (id, title, text, group, position)."""
    full = [row if len(row) == 5 else (row[0], "", row[1], None, None) for row in rows]
    columns = [list(column) for column in zip(*full, strict=True)] or [[]] * 5
    return pa.table([*columns, list(range(len(full)))], schema=CORPUS_SCHEMA)


def collection(documents=DOCUMENTS, queries=QUERIES, judged=JUDGED):
    rows = list(documents.items()) if isinstance(documents, dict) else documents
    asked = list(queries.items()) if isinstance(queries, dict) else queries
    ids, texts = [one[0] for one in asked], [one[1] for one in asked]
    qrels = {
        split: pa.table(
            [[r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], list(range(len(rows)))],
            schema=QRELS_SCHEMA,
        )
        for split, rows in judged.items()
    }
    queries = pa.table([ids, texts, list(range(len(ids)))], schema=QUERIES_SCHEMA)
    return Collection("pets", corpus(rows), queries, qrels)


def counts(table):
    return {kind: number for kind, number in table.items() if kind != "examples" and number}


def test_identical_in_another_order():
    other = collection(dict(reversed(DOCUMENTS.items())), dict(reversed(QUERIES.items())))
    found = diff(collection(), other)
    assert found["identical"]
    assert counts(found["documents"]) == {"before": 4, "after": 4, "unchanged": 4}
    assert "no difference" in diff_text(found)


def test_each_kind_of_change_once():
    later = dict(DOCUMENTS)
    later["d2"] = "a dog ran home"  # changed
    del later["d3"]  # removed
    later["d5"] = "a new one"  # added
    later["d4b"] = later.pop("d4")  # renamed
    found = diff(collection(), collection(later))
    assert not found["identical"]
    documents = found["documents"]
    assert counts(documents) == {
        "before": 4, "after": 4, "unchanged": 1, "renamed": 1, "changed": 1, "removed": 1, "added": 1,
    }  # fmt: skip
    examples = documents["examples"]
    assert examples["renamed"] == [{"before": "d4", "after": "d4b", "text": "fish swim"}]
    assert examples["changed"] == [{"_id": "d2", "before": "a dog ran", "after": "a dog ran home"}]
    assert examples["removed"] == [{"_id": "d3", "text": "birds fly south"}]
    assert examples["added"] == [{"_id": "d5", "text": "a new one"}]
    assert json.loads(json.dumps(found)) == found
    text = diff_text(found)
    assert "documents: 4 → 4 (1 added, 1 removed, 1 changed, 1 renamed)" in text
    assert "> d4 → d4b: fish swim" in text
    assert "queries: 2 → 2 (no difference)" in text


def test_renumbering_is_renaming_although_ids_are_used_again():
    later = {"d2": DOCUMENTS["d1"], "d3": DOCUMENTS["d2"], "d4": DOCUMENTS["d3"], "d5": DOCUMENTS["d4"]}
    found = diff(collection(), collection(later))["documents"]
    assert counts(found) == {"before": 4, "after": 4, "renamed": 4}


def test_judgements_follow_renamed_documents_and_queries():
    later = {("x1" if key == "d1" else key): text for key, text in DOCUMENTS.items()}
    asked = {("p2" if key == "q2" else key): text for key, text in QUERIES.items()}
    judged = {"train": [("q1", "x1", 1), ("p2", "d2", 3)], "dev": [("q1", "d3", 2)]}
    found = diff(collection(), collection(later, asked, judged))["judgements"]
    assert counts(found["train"]) == {"before": 2, "after": 2, "renamed": 1, "changed": 1}
    assert found["train"]["examples"]["changed"] == [
        {
            "before": {"query_id": "q2", "corpus_id": "d2", "score": 1},
            "after": {"query_id": "p2", "corpus_id": "d2", "score": 3},
        }
    ]
    assert counts(found["test"]) == {"before": 1, "removed": 1}
    assert counts(found["dev"]) == {"after": 1, "added": 1}


def test_another_position_is_a_move():
    before = collection([("a", "T", "one", "g", 0), ("b", "T", "two", "g", 1)])
    after = collection([("a", "T", "one", "g", 0), ("b", "T", "two", "h", 1)])
    found = diff(before, after)["documents"]
    assert counts(found) == {"before": 2, "after": 2, "unchanged": 1, "moved": 1}
    assert found["examples"]["moved"] == [
        {"_id": "b", "before": {"group": "g", "position": 1}, "after": {"group": "h", "position": 1}}
    ]


def test_title_and_text_are_not_run_together():
    found = diff(collection([("a", "ab", "c", None, None)]), collection([("a", "a", "bc", None, None)]))
    assert counts(found["documents"]) == {"before": 1, "after": 1, "changed": 1}


def test_rows_that_stand_twice_are_counted_twice():
    found = diff(collection([("a", "x"), ("a", "x"), ("b", "y")]), collection([("a", "x"), ("b", "y")]))
    assert counts(found["documents"]) == {"before": 3, "after": 2, "unchanged": 2, "removed": 1}


def test_a_long_text_is_shown_from_its_first_difference():
    start = "word " * 200
    found = diff(collection({"a": start + "old end"}), collection({"a": start + "new end"}))
    example = found["documents"]["examples"]["changed"][0]
    assert example["before"].endswith("old end")
    assert example["after"].endswith("new end")
    assert max(map(len, example.values())) < 210


def test_hostile_text_cannot_move_the_terminals_cursor():
    evil = {"evil\n\x1b[2J": "\x1b]0;title\x07 \u202egnp.exe \u2028 line \x00"}
    text = diff_text(diff(collection(), collection(DOCUMENTS | evil)))
    assert not set(text) & set("\x1b\x07\u202e\u2028\x00")
    assert r"+ evil\n\x1b[2J: \x1b]0;title\x07 \u202egnp.exe \u2028 line \x00" in text
    assert visible("\ud800 a\tb", keep="\t") == r"\ud800 a" + "\tb"
    assert visible_bytes(b"ok \xff\n") == r"ok \xff\n"


def test_negatives_and_rows_of_adaptation_are_compared_too():
    def more(negatives, rows):
        table = pa.table([[q for q, _ in negatives], [d for _, d in negatives]], schema=NEGATIVES_SCHEMA)
        texts = pa.table([[t for t, _ in rows], [n for _, n in rows]], names=["text", "next_text"])
        return replace(collection(), negatives=table, rows=texts)

    before = more([("q1", "d2"), ("q1", "d4")], [("one", "two"), ("two", "three")])
    after = more([("q1", "d2"), ("q2", "d4")], [("two", "three"), ("three", "four"), ("one", "two")])
    found = diff(before, after)
    assert not found["identical"]
    assert counts(found["negatives"]) == {"before": 2, "after": 2, "unchanged": 1, "removed": 1, "added": 1}
    assert counts(found["rows"]) == {"before": 2, "after": 3, "unchanged": 2, "added": 1}
    text = diff_text(found)
    assert "negatives: 2 → 2 (1 added, 1 removed)\n  + q2, d4\n  - q1, d4" in text
    assert "rows of adaptation: 2 → 3 (1 added)\n  + three" in text
    assert counts(diff(collection(), after)["rows"]) == {"after": 3, "added": 3}
    assert "rows" not in diff(collection(), collection())


def test_nothing_at_all():
    empty = collection({}, {}, {})
    assert diff(empty, empty)["identical"]
    assert counts(diff(empty, collection())["documents"]) == {"after": 4, "added": 4}


def slow(a, b):
    """The same rules with Counters of (id, text) pairs."""
    left, right = Counter(a), Counter(b)
    same = left & right
    left, right = left - same, right - same
    renamed = Counter(text for _, text in left.elements()) & Counter(text for _, text in right.elements())

    def without(rows):
        kept, todo = [], Counter(renamed)
        for row in rows:
            if todo[row[1]]:
                todo[row[1]] -= 1
            else:
                kept.append(row[0])
        return Counter(kept)

    # With distinct (id, text) pairs per id below, which of several equal texts was renamed does not matter
    # for the sums that are compared.
    only_a, only_b = without(left.elements()), without(right.elements())
    return same.total(), renamed.total(), only_a.total(), only_b.total()


rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.text("xyz", max_size=2)), max_size=8)


@given(rows, rows)
@settings(max_examples=200)
def test_counts_add_up_and_agree_with_a_slow_comparison(a, b):
    old, new = collection(a, {}, {}), collection(b, {}, {})
    found = diff(old, new)["documents"]
    same, renamed, only_a, only_b = slow(a, b)
    assert (found["unchanged"], found["renamed"]) == (same, renamed)
    assert found["changed"] + found["removed"] == only_a
    assert found["changed"] + found["added"] == only_b
    assert (old.content_hash == new.content_hash) == (found["unchanged"] == len(a) == len(b))


@given(st.permutations(list(DOCUMENTS)), st.permutations(["train", "test"]), st.integers(1, 4))
@settings(max_examples=30)
def test_order_shards_and_chunks_do_not_change_the_content_hash(order, splits, cut):
    shuffled = collection({key: DOCUMENTS[key] for key in order}, judged={key: JUDGED[key] for key in splits})
    table = shuffled.corpus
    shards = pa.concat_tables([table.slice(0, cut), table.slice(cut)])  # as from several files
    assert replace(shuffled, corpus=shards).content_hash == collection().content_hash


MEMORY = """
import resource, sys, threading, time, tempfile
from pathlib import Path
import numpy as np, pyarrow as pa
from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.diff import diff
def anonymous():
    return int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1]) / 1024
def saved(folder, rows, changed):
    Path(folder, 'qrels').mkdir(parents=True)
    with pa.OSFile(f'{folder}/corpus.arrow', 'wb') as sink, pa.ipc.new_file(sink, CORPUS_SCHEMA) as writer:
        for start in range(0, rows, 20_000):
            part = range(start, min(rows, start + 20_000))
            start_of = ['' if row % changed else 'later ' for row in part]
            text = [f'{one}passage {row} ' + 'filling words ' * 28 for one, row in zip(start_of, part)]
            none = [None] * len(part)
            columns = [[f'd{row}' for row in part], [''] * len(part), text, none, none, list(part)]
            writer.write_table(pa.table(columns, schema=CORPUS_SCHEMA))
    corpus = pa.ipc.open_file(pa.memory_map(f'{folder}/corpus.arrow')).read_all()
    found = Collection('c', corpus, QUERIES_SCHEMA.empty_table(), {})
    found.__dict__['content_hash'] = folder  # measured elsewhere
    return found
rows = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    a, b = saved(f'{folder}/a', rows, rows + 1), saved(f'{folder}/b', rows, 10)  # row 0 is later in both
    pa.default_memory_pool().release_unused()
    before = anonymous(); peak = [before]; done = threading.Event()
    def watch():
        while not done.wait(0.005): peak[0] = max(peak[0], anonymous())
    thread = threading.Thread(target=watch); thread.start()
    started = time.perf_counter(); found = diff(a, b); seconds = time.perf_counter() - started
    done.set(); thread.join()
    assert found['documents']['changed'] == len(range(10, rows, 10)), found['documents']
    print(peak[0] - before, a.corpus.nbytes / 2**20, seconds)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_far_below_the_texts():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "100000"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    used, size, _ = map(float, done.stdout.split())
    assert size > 38
    # Hashes and their order: about 100 bytes a row of both versions; texts: one slice of 16 MiB a few times.
    assert used < 90, used
