"""Ingestion: every row is accounted for, with its rule; sound collections come through unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.data.collection import Collection
from llara_core.data.ingest import IngestStopped, ingest
from llara_core.data.ingest_counts import Counts, exceeds
from llara_core.data.strict import strict_collection
from llara_core.data_settings import POLICIES, IngestSettings
from llara_core.errors import DataError
from tests.oracles.memory_source import document, judged, memory_source, small

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NEVER = {rule: {"action": policy.action, "stop_above": None} for rule, policy in POLICIES.items()}
LENIENT = IngestSettings.parse({"rules": NEVER, "stop_above": None, "longest_text": 1000}, "ingest")


def aside(ingested, action="quarantine"):
    """(file, row, rule) of every row of one action."""
    return [
        (row["file"], row["row"], row["rule"])
        for row in ingested.quarantine.to_pylist()
        if row["action"] == action
    ]


def test_a_sound_source_comes_through_whole(tmp_path):
    source = memory_source(**small())
    done = ingest(source, tmp_path / "out")
    assert done.counts["read"] == done.counts["accepted"] == 16 and done.quarantine.num_rows == 0
    assert done.collection.content_hash == strict_collection(source).content_hash
    saved = Collection.load(tmp_path / "out")
    assert saved.corpus.to_pylist() == strict_collection(source).corpus.to_pylist()
    facts = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert facts["content_hash"] == saved.content_hash


BAD = {
    "valid_json": b'{"_id": "x", "text": ',
    "valid_utf8": b'{"_id": "x", "text": "caf\xe9"}',
    "json_object": b'["x"]',
    "has_id": {"text": "no id"},
    "has_text": {"_id": "x", "text": 7},
    "non_empty_ids": document(" "),
    "unique_ids": document("d0", "another text"),
    "text_length": document("x", "y" * 1001),
    "control_characters": document("x", "a\x00b"),
    "bidi_controls": document("x", "a\u202eb"),
    "html_debris": document("x", "<p></p><br><div><td></td></div>&nbsp;"),
    "base64_debris": document("x", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2" * 5),
}


@pytest.mark.parametrize("rule", BAD)
def test_bad_document_is_put_aside_by_name(tmp_path, rule):
    rows = small()
    rows["corpus"].insert(3, BAD[rule])  # behind the first document of the id that it takes
    place = next(number for number, row in enumerate(rows["corpus"], 1) if row is BAD[rule])
    done = ingest(memory_source(**rows), tmp_path / "out", LENIENT)
    wanted = [("corpus.jsonl", place, rule)]
    assert [one for one in aside(done) if one[0] == "corpus.jsonl"] == wanted
    row = done.quarantine.to_pylist()[0]
    raw = BAD[rule] if isinstance(BAD[rule], bytes) else json.dumps(BAD[rule]).encode()
    assert row["raw"] == raw and row["size"] == len(raw) and row["reason"]
    assert done.counts["read"] == done.counts["accepted"] + done.counts["quarantined"] == 17
    assert done.counts["rules"][rule]["quarantine"] == 1


def test_half_a_surrogate_pair_is_put_aside(tmp_path):
    rows = small()
    rows["corpus"].append(document("x", "fine"))
    source = memory_source(**rows, convert=None)
    files = list(source.files)

    def spoiled(record):
        values = files[0].convert(record)
        return (values[0], values[1], "a\ud800", *values[3:]) if values[0] == "x" else values

    source = type(source)(
        "memory", "test", [type(files[0])("corpus", "corpus.jsonl", files[0].read, spoiled), *files[1:]]
    )
    assert aside(ingest(source, tmp_path / "out", LENIENT)) == [("corpus.jsonl", 9, "valid_utf8")]


def test_broken_references_and_their_cause(tmp_path):
    rows = small()
    rows["corpus"][1] = document("d1", "a\u202eb")
    rows["qrels_test"] += [judged("nobody", "d2"), judged("q2", "nothing"), judged("q2", "d3", 1000)]
    done = ingest(memory_source(**rows), tmp_path / "out", LENIENT)
    assert aside(done) == [
        ("corpus.jsonl", 2, "bidi_controls"),
        ("qrels_test.jsonl", 7, "grades_in_range"),
        ("qrels_test.jsonl", 5, "known_query"),
        ("qrels_test.jsonl", 2, "known_document"),
        ("qrels_test.jsonl", 6, "known_document"),
    ]
    reasons = {
        row["row"]: row["reason"] for row in done.quarantine.to_pylist() if row["role"] == "qrels/test"
    }
    assert "put aside itself [bidi_controls]" in reasons[2] and "not in the corpus" in reasons[6]


def test_unresolved_judgements_are_kept_where_the_collection_says_so(tmp_path):
    rows = small()
    rows["qrels_test"].append(judged("q2", "nothing"))
    source = memory_source(**rows)
    done = ingest(source, tmp_path / "out", unresolved_share=0.5)
    assert done.collection.content_hash == strict_collection(source).content_hash
    assert done.collection.unresolved_share == 0.5
    assert aside(done, "flag") == [("qrels_test.jsonl", 5, "known_document")]
    with pytest.raises(IngestStopped, match="1 of 5 rows"):
        ingest(source, tmp_path / "strict")


def test_the_same_row_twice_comes_in_once(tmp_path):
    rows = small()
    rows["corpus"].append(rows["corpus"][0])
    rows["queries"].insert(1, rows["queries"][0])
    done = ingest(memory_source(**rows), tmp_path / "out")
    assert done.counts["repeated"] == 2 and done.counts["accepted"] == done.counts["read"] == 18
    assert done.collection.content_hash == strict_collection(memory_source(**small())).content_hash


def test_marked_rows_come_in_and_are_told(tmp_path):
    rows = small()
    rows["corpus"] += [
        document("m", "it\u00e2\u20ac\u2122s"),
        document("r", "a\ufffd"),
        document("t", "text number 0", "title 0"),
    ]
    rows["qrels_test"].append(judged("q0", "d0", 2))
    done = ingest(memory_source(**rows), tmp_path / "out")
    assert aside(done) == []
    assert sorted(aside(done, "flag")) == [
        ("corpus.jsonl", 9, "mojibake"),
        ("corpus.jsonl", 10, "replacement_characters"),
        ("corpus.jsonl", 11, "duplicate_text"),
        ("qrels_test.jsonl", 5, "unique_judgements"),
    ]
    assert done.counts["flagged"] == 4 and done.counts["accepted"] == done.counts["read"]


def test_mojibake_is_mended_where_wanted(tmp_path):
    pytest.importorskip("ftfy")
    rows = small()
    rows["corpus"][2] = document("d2", "it\u00e2\u20ac\u2122s", "caf\u00c3\u00a9")
    done = ingest(memory_source(**rows), tmp_path / "out", IngestSettings(mojibake="repair"))
    assert done.collection.corpus["text"][2].as_py() == "it\u2019s"
    assert done.collection.corpus["title"][2].as_py() == "caf\u00e9"
    assert done.counts["repaired"] == 1 and done.counts["quarantined"] == 0


def test_policies_decide(tmp_path):
    rows = small()
    rows["corpus"] += [document("m", "it\u00e2\u20ac\u2122s"), document("b", "a\u202eb")]
    settings = IngestSettings.parse(
        {
            "rules": {"mojibake": {"stop_above": 5}, "bidi_controls": {"action": "flag", "stop_above": 5}},
            "stop_above": 5,
        },
        "ingest",
    )
    done = ingest(memory_source(**rows), tmp_path / "out", settings)
    assert aside(done) == [("corpus.jsonl", 9, "mojibake")]
    assert aside(done, "flag") == [("corpus.jsonl", 10, "bidi_controls")]


def test_too_many_bad_rows_stop_and_leave_the_quarantine(tmp_path):
    rows = small()
    rows["corpus"].insert(2, b"broken")
    with pytest.raises(IngestStopped) as caught:
        ingest(memory_source(**rows), tmp_path / "out")
    error = caught.value
    assert (error.rule, error.row, str(error.file)) == ("valid_json", 3, "corpus.jsonl")
    assert isinstance(error, DataError) and error.exit_code == 2
    assert (tmp_path / "out" / "quarantine" / "quarantine.arrow").is_file()
    with pytest.raises(DataError, match="not a saved collection"):
        Collection.load(tmp_path / "out")
    assert ingest(memory_source(**rows), tmp_path / "out", LENIENT).collection.corpus.num_rows == 8


def test_an_accepted_collection_outlives_a_refused_one(tmp_path):
    before = ingest(memory_source(**small()), tmp_path / "out").collection.content_hash
    rows = small()
    rows["corpus"][0] = b"broken"
    with pytest.raises(IngestStopped) as caught:
        ingest(memory_source(**rows), tmp_path / "out")
    assert Collection.load(tmp_path / "out").content_hash == before
    assert caught.value.folder == tmp_path / "out.stopped"
    ingest(memory_source(**small()), tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out"]


def test_a_test_query_in_training_stops(tmp_path):
    rows = small()
    rows["qrels_train"] = [judged("q0", "d5")]
    with pytest.raises(IngestStopped, match=r"training query too.*train_overlap_id"):
        ingest(memory_source(**rows), tmp_path / "out")
    done = ingest(memory_source(**rows), tmp_path / "out", refuse=False)
    assert [stop.rule for stop in done.stopped] == ["train_overlap_id"]


def test_empty_corpus_and_empty_split_stop(tmp_path):
    with pytest.raises(IngestStopped, match="corpus_not_empty"):
        ingest(memory_source(corpus=[]), tmp_path / "out")
    with pytest.raises(IngestStopped, match="split_has_queries"):
        ingest(memory_source(**small() | {"qrels_test": []}), tmp_path / "out")


def test_interrupted_reading_leaves_nothing(tmp_path):
    def rows():
        yield document("a")
        raise KeyboardInterrupt

    source = memory_source(corpus=[])
    file = source.files[0]

    def read():
        from tests.oracles.memory_source import read as reading

        yield from reading([document("a")])
        raise KeyboardInterrupt

    source = type(source)("memory", "test", [type(file)(file.role, file.file, read, file.convert)])
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_pairs_and_adaptation_rows(tmp_path):
    def pair(record):
        return (
            None,
            record["q"],
            [(None, "", one) for one in record["p"]],
            [(None, "", one) for one in record["n"]],
        )

    rows = [
        {"q": "one", "p": ["a b"], "n": ["c d", "e f"]},
        {"q": "two", "p": ["c d"], "n": ["a b"]},
        {"q": "one", "p": ["a b", "e f"], "n": []},  # e f was a negative of one: no longer
        {"q": " ", "p": ["x"], "n": []},
        {"q": "three", "p": ["a\u202e"], "n": []},
        {"q": "four", "p": [""], "n": []},
    ]
    source = memory_source(convert=pair, pairs_train=rows)
    done = ingest(source, tmp_path / "out", LENIENT)
    assert sorted(aside(done)) == [
        ("pairs_train.jsonl", 4, "query_text"),
        ("pairs_train.jsonl", 5, "bidi_controls"),
        ("pairs_train.jsonl", 6, "has_text"),
    ]
    clean = strict_collection(memory_source(convert=pair, pairs_train=rows[:3]))
    assert done.collection.content_hash == clean.content_hash
    assert done.collection.negatives.num_rows == 2

    def adaptation(record):
        return record["t"], record["n"]

    rows = [{"t": "a", "n": "b"}, {"t": "b", "n": " "}, {"t": "b", "n": "c"}]
    files = memory_source(convert=adaptation, corpus=rows).files
    source = type(source)("memory", "test", [type(files[0])("rows", "rows.jsonl", files[0].read, adaptation)])
    done = ingest(source, tmp_path / "rows", LENIENT)
    assert aside(done) == [("rows.jsonl", 2, "has_text")]
    assert done.collection.rows.to_pylist() == [
        {"text": "a", "next_text": "b"},
        {"text": "b", "next_text": "c"},
    ]
    assert done.collection.corpus["text"].to_pylist() == ["a", "b", "c"]


def test_many_batches_give_what_one_gives(tmp_path, monkeypatch):
    rows = small(documents=50, queries=20)
    rows["corpus"] += [document("d3", "other"), rows["corpus"][7]]
    whole = ingest(memory_source(**rows), tmp_path / "one", LENIENT)
    monkeypatch.setattr("llara_core.data.ingest_reading._ROWS", 3)
    pieces = ingest(memory_source(**rows), tmp_path / "two", LENIENT)
    assert pieces.collection.content_hash == whole.collection.content_hash
    assert pieces.quarantine.to_pylist() == whole.quarantine.to_pylist()
    assert pieces.counts == whole.counts


def test_counts_that_do_not_add_up_are_a_bug():
    counts = Counts()
    counts.add("corpus", "f", "read", 2)
    counts.add("corpus", "f", "accepted")
    with pytest.raises(RuntimeError, match="2 rows read, but 1 accepted and 0 quarantined"):
        counts.check()


@pytest.mark.parametrize(
    ("rows", "read", "bound", "stops"),
    [
        (1, 100, 0.01, False),
        (2, 100, 0.01, True),
        (1, 9, 0, True),
        (5, 9, 5, False),
        (6, 9, 5, True),
        (9, 9, None, False),
        (0, 9, 0, False),
    ],
)
def test_bounds(rows, read, bound, stops):
    assert exceeds(rows, read, bound) is stops


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the public collections in ../shared/data")
@pytest.mark.parametrize(
    ("name", "tolerated", "start"),
    [
        ("scifact", 0.0, "2c87de56eff8"),
        ("arguana", 0.01, "0c5c450383ed"),
        ("cranfield", 0.0, "665536dffe49"),
        ("cisi", 0.0, "4216acfa5229"),
    ],
)
def test_public_collections_keep_their_content(tmp_path, name, tolerated, start):
    from llara_core.data.formats import open_place_as_source

    done = ingest(open_place_as_source(SHARED / name), tmp_path / "out", unresolved_share=tolerated)
    assert done.collection.content_hash.startswith(start)  # as before there was ingestion
    assert done.counts["quarantined"] == 0
