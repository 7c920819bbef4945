"""Every rule: broken on purpose, found at the right file and row, with the right weight."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pytest

from llara_core.data import quality
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.formats import read_beir
from llara_core.errors import DataError


def edit(folder, name, row, **changes):
    lines = (folder / name).read_text().splitlines()
    lines[row - 1] = json.dumps(json.loads(lines[row - 1]) | changes)
    (folder / name).write_text("\n".join(lines) + "\n")


def append(folder, name, line):
    with (folder / name).open("a") as stream:
        stream.write(line + "\n")


def copy_query(folder):
    """Give a test query a training query's words, in other letters and with space around."""
    edit(folder, "queries.jsonl", 4, text="  WHAT is a volcano down rock ")


TEST, CORPUS, QUERIES = "qrels/test.tsv", "corpus.jsonl", "queries.jsonl"


def judged(query, document, grade):
    """Add a judgement, as row 18 of the test split."""
    return lambda folder: append(folder, TEST, f"{query}\t{document}\t{grade}")


def edited(name, row, **changes):
    return lambda folder: edit(folder, name, row, **changes)


BREACHES = {
    # rule: (how it is broken, file, row, critical)
    "non_empty_ids": (edited(CORPUS, 5, _id=" "), CORPUS, 5, True),
    "unique_ids": (edited(CORPUS, 5, _id="volcano-1"), CORPUS, 5, True),
    "query_text": (edited(QUERIES, 3, text="\t"), QUERIES, 3, True),
    "passage_text": (edited(CORPUS, 7, title="", text=" "), CORPUS, 7, False),
    "text_length": (edited(QUERIES, 2, text="x" * 100_001), QUERIES, 2, True),
    "control_characters": (edited(CORPUS, 8, text="a\x00b"), CORPUS, 8, True),
    "replacement_characters": (edited(CORPUS, 8, text="a\ufffdb"), CORPUS, 8, False),
    "known_query": (judged("nobody", "comet-0", 1), TEST, 18, True),
    "known_document": (judged("test-loom", "none", 1), TEST, 18, True),
    "grades_in_range": (judged("test-loom", "loom-0", 101), TEST, 18, True),
    "unique_judgements": (judged("test-loom", "loom-1", 0), TEST, 18, False),
    "split_has_queries": (lambda f: (f / TEST).write_text("query-id\tcorpus-id\tscore\n"), TEST, None, True),
    "train_overlap_id": (judged("train-loom", "loom-0", 1), TEST, 18, True),
    "train_overlap_text": (copy_query, QUERIES, 4, False),
}


def test_sound_collection_breaks_no_rule(beir_folder):
    assert quality.check(read_beir(beir_folder)) == []


@pytest.mark.parametrize("rule", BREACHES)
def test_rule(beir_folder, rule, caplog):
    spoil, name, row, critical = BREACHES[rule]
    spoil(beir_folder)
    collection = read_beir(beir_folder)
    found = [one for one in quality.problems(collection) if one.rule == rule]
    assert [(one.file, one.row, one.critical) for one in found] == [(str(beir_folder / name), row, critical)]
    if critical:
        with pytest.raises(DataError) as caught:
            quality.check(collection)
        assert caught.value.exit_code == 2
    else:
        assert rule in {one.rule for one in quality.check(collection)}
        assert rule in caplog.text and str(beir_folder / name) in caplog.text


def test_every_rule_has_a_test():
    built_by_hand = {"corpus_not_empty", "valid_utf8"}
    assert set(BREACHES) | built_by_hand == set(quality.RULES)


def test_duplicate_id_names_the_first_row(beir_folder):
    edit(beir_folder, "corpus.jsonl", 9, _id="volcano-1")
    with pytest.raises(DataError) as caught:
        quality.check(read_beir(beir_folder))
    message = str(caught.value)
    assert message.startswith(f"{beir_folder / 'corpus.jsonl'}:9: ")
    assert "'volcano-1' stands in row 2 already" in message and message.endswith("[unique_ids]")
    # The judgement of the id that is gone now breaks a rule too, and is counted.
    assert "(1 more critical problem)" in message


def hand_made(ids, texts):
    columns = [ids, [""] * len(ids), texts, [None] * len(ids), [None] * len(ids), [None] * len(ids)]
    corpus = pa.Table.from_arrays(
        [pa.array(column, field.type) if not isinstance(column, pa.Array) else column
         for column, field in zip(columns, CORPUS_SCHEMA, strict=True)],
        schema=CORPUS_SCHEMA,
    )  # fmt: skip
    return Collection("hand", corpus, QUERIES_SCHEMA.empty_table(), {})


def test_empty_corpus():
    found = quality.problems(hand_made([], []))
    assert [(one.file, one.row, one.rule) for one in found] == [("corpus", None, "corpus_not_empty")]


def test_invalid_bytes_in_a_column_are_found():
    texts = pa.array([b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    found = quality.problems(hand_made(["a", "b"], texts))
    assert [(one.row, one.rule, one.critical) for one in found] == [(2, "valid_utf8", True)]


def many(unknown, tolerated=0.0):
    """1,000 judgements, of which ``unknown`` name documents that do not exist."""
    corpus = hand_made([f"d{i}" for i in range(1000)], ["text"] * 1000).corpus
    queries = pa.table([["q"], ["words"], [1]], schema=QUERIES_SCHEMA)
    documents = [f"none{i}" if i < unknown else f"d{i}" for i in range(1000)]
    qrels = pa.table([["q"] * 1000, documents, [1] * 1000, list(range(2, 1002))], schema=QRELS_SCHEMA)
    return Collection("many", corpus, queries, {"test": qrels}, unresolved_share=tolerated)


def test_one_unknown_document_is_one_too_many():
    with pytest.raises(DataError, match=r"'none0' is not in the corpus.*collection.unresolved_share"):
        quality.check(many(1))


def test_unknown_documents_are_tolerated_up_to_the_share_that_is_set():
    few = quality.check(many(10, tolerated=0.01), max_per_rule=3)  # exactly 1%
    assert [one.rule for one in few] == ["known_document"] * 3
    assert {one.count for one in few} == {10} and few[0].row == 2
    with pytest.raises(DataError, match=r"'none0' is not in the corpus.*10 more critical problems"):
        quality.check(many(11, tolerated=0.01), max_per_rule=3)


def test_time_is_linear_in_the_passages():
    """Eight times the passages take about eight times as long, not sixty-four."""
    text = "def parse(value):\n    return [int(part) for part in value.split(',')]\n" * 8

    def seconds(passages: int) -> float:
        collection = hand_made([f"d{i}" for i in range(passages)], [text] * passages)
        start = time.process_time()
        assert quality.problems(collection) == []
        return time.process_time() - start

    few = max(min(seconds(5_000) for _ in range(2)), 0.02)
    assert seconds(40_000) < 30 * few
