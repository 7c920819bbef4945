from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from llara_core.data import checks
from llara_core.data.formats import read_beir
from llara_core.data.quality import RULES, problems
from llara_core.errors import ConfigError, DataError
from steps.expectation_rules import RULES as STEP_RULES
from steps.expectation_suites import read_suite
from steps.expectations import SUITES, Lengths, judge, judge_negatives, judge_pairs


def suites() -> list[tuple[str, dict]]:
    return [
        (path.stem, expectation)
        for path in sorted(SUITES.glob("*.json"))
        for expectation in json.loads(path.read_text())["expectations"]
    ]


def test_suites_hold_the_rules_of_the_library() -> None:
    """The suites are data of their own; they must not drift from ``quality``."""
    named = {one["meta"]["rule"] for _, one in suites()}
    assert named == set(STEP_RULES) >= set(RULES)
    for _, one in suites():
        if one["meta"]["rule"] not in RULES:
            continue  # what only the pipeline asks for is as grave as the suite says
        rule = RULES[one["meta"]["rule"]]
        expected = "critical" if rule.critical else "warning"
        if rule.tolerated:
            expected = "critical" if one["kwargs"].get("mostly") == 1 - rule.tolerated else "warning"
        assert one["severity"] == expected, one


def test_suites_hold_the_bounds_of_the_library() -> None:
    lengths = {
        (suite, one["kwargs"]["max_value"]) for suite, one in suites() if one["meta"]["rule"] == "text_length"
    }
    assert lengths == set(checks.MAXIMUM_CHARS.items())
    grades = [one["kwargs"] for _, one in suites() if one["meta"]["rule"] == "grades_in_range"]
    assert [(one["min_value"], one["max_value"]) for one in grades] == [checks.GRADES]


def test_clean_data_passes(beir_folder: Path) -> None:
    judgement = judge(read_beir(beir_folder))
    assert judgement.failures == []
    judgement.raise_critical()
    assert "every critical expectation holds" in judgement.page


def append(folder: Path, file: str, line: str) -> None:
    with (folder / file).open("a", encoding="utf-8") as target:
        target.write(line + "\n")


CASES: list[tuple[str, str, str, int, bool]] = [
    # rule, file, line appended, row that is named, critical
    ("unique_ids", "corpus.jsonl", '{"_id": "volcano-0", "title": "t", "text": "again"}', 1, True),
    ("passage_text", "corpus.jsonl", '{"_id": "new", "title": "", "text": " "}', 25, False),
    (
        "replacement_characters",
        "corpus.jsonl",
        '{"_id": "new", "title": "", "text": "a \\ufffd b"}',
        25,
        False,
    ),
    ("control_characters", "corpus.jsonl", '{"_id": "new", "title": "", "text": "a \\u0001 b"}', 25, True),
    ("query_text", "queries.jsonl", '{"_id": "new", "text": " "}', 17, True),
    ("known_document", "qrels/test.tsv", "test-volcano\tnowhere\t1", 18, True),
    ("known_query", "qrels/test.tsv", "nobody\tvolcano-0\t1", 18, True),
    ("grades_in_range", "qrels/test.tsv", "test-volcano\tcomet-0\t101", 18, True),
    ("unique_judgements", "qrels/test.tsv", "test-volcano\tvolcano-1\t2", 2, False),
    ("train_overlap_id", "qrels/test.tsv", "train-volcano\tvolcano-1\t1", 18, True),
]


@pytest.mark.parametrize(("rule", "file", "line", "row", "critical"), CASES, ids=[one[0] for one in CASES])
def test_a_broken_rule_is_named_with_file_and_row(
    beir_folder: Path, rule: str, file: str, line: str, row: int, critical: bool
) -> None:
    append(beir_folder, file, line)
    collection = read_beir(beir_folder)
    judgement = judge(collection)
    found = {one.rule: one for one in judgement.failures}
    assert rule in found
    assert (found[rule].file, found[rule].row) == (str(beir_folder / file), row)
    assert found[rule].critical is critical
    # The library's own check, which the command line uses, says the same of the data.
    own = {one.rule: one.critical for one in problems(collection)}
    assert {one.rule: one.critical for one in judgement.failures} == own
    if critical:
        with pytest.raises(DataError, match=rule) as stopped:
            judgement.raise_critical()
        assert stopped.value.file == beir_folder / file


def test_a_split_without_relevant_documents_is_critical(beir_folder: Path) -> None:
    (beir_folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\ntest-comet\tcomet-1\t0\n")
    judgement = judge(read_beir(beir_folder))
    assert [(one.rule, one.critical, Path(one.file).name) for one in judgement.failures] == [
        ("split_has_queries", True, "dev.tsv")
    ]


def test_invalid_utf8_in_a_saved_collection_is_found(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    broken = pa.array([b"\xff\xfe"] + [b"ok"] * (collection.corpus.num_rows - 1), pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(broken), broken.buffers())
    index = collection.corpus.schema.get_field_index("text")
    spoilt = type(collection)(
        name="tiny",
        corpus=collection.corpus.set_column(index, "text", text),
        queries=collection.queries,
        qrels=collection.qrels,
        files=collection.files,
    )
    failures = {one.rule: one for one in judge(spoilt).failures}
    assert failures["valid_utf8"].critical
    assert failures["valid_utf8"].row == 1


def test_the_page_is_self_contained_and_escapes_the_corpus(beir_folder: Path) -> None:
    append(
        beir_folder,
        "corpus.jsonl",
        '{"_id": "<script>x</script>", "title": "", "text": "a \\u0001 <img src=x> $COST ${x} {{ y }}"}',
    )
    page = judge(read_beir(beir_folder)).page
    assert "<script" not in page
    assert "<img" not in page
    for outside in ('src="http', 'href="http', "cdn.", "@import"):
        assert outside not in page
    assert "default-src 'none'" in page


def test_the_summary_counts_rows_and_names_versions(beir_folder: Path) -> None:
    judgement = judge(read_beir(beir_folder), lengths=Lengths(1000, 100))
    versions = {name: read_suite(name).version for name in ("corpus", "queries", "qrels", "splits")}
    assert judgement.versions == {**versions, "training_pairs": read_suite("training_pairs").version}
    assert judgement.summary["suite_version.qrels"] == versions["qrels"]
    assert judgement.rows == 24 + 16 + 8 + 16 + 2 + 8  # documents, queries, two splits' qrels, splits, pairs
    without = judge(read_beir(beir_folder))
    assert judgement.expectations == without.expectations + 4  # tokens of corpus, queries and both of pairs


def test_texts_longer_than_the_model_reads_are_a_warning(beir_folder: Path) -> None:
    judgement = judge(read_beir(beir_folder), lengths=Lengths(20, 100))
    assert [(one.rule, one.critical, one.row, one.count) for one in judgement.failures] == [
        ("passage_tokens", False, 1, 24),
        ("passage_tokens", False, 2, 8),
    ]
    judgement.raise_critical()


def test_an_edited_suite_is_used_and_a_broken_one_stops(beir_folder: Path, tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    suites.mkdir()
    for file in SUITES.glob("*.json"):
        (suites / file.name).write_text(file.read_text())
    suite = json.loads((suites / "queries.json").read_text())
    suite["meta"]["version"] = 99
    short = {"column": "text", "min_value": 500}
    suite["expectations"].append(
        {
            "type": "expect_column_value_lengths_to_be_between",
            "kwargs": short,
            "severity": "critical",
            "meta": {"rule": "query_text"},
        }
    )
    (suites / "queries.json").write_text(json.dumps(suite))
    judgement = judge(read_beir(beir_folder), suites=suites)
    assert judgement.versions["queries"] == 99
    with pytest.raises(DataError, match=r"queries.jsonl:1: every query has text: got text 'what is"):
        judgement.raise_critical()
    (suites / "qrels.json").write_text("{")
    with pytest.raises(ConfigError, match=r"qrels.json:1: not valid JSON"):
        judge(read_beir(beir_folder), suites=suites)


def test_a_training_pair_without_a_passage_or_with_its_query_for_one_is_found(beir_folder: Path) -> None:
    append(beir_folder, "corpus.jsonl", '{"_id": "blank", "title": "", "text": " "}')
    append(
        beir_folder, "corpus.jsonl", '{"_id": "echo", "title": "", "text": "What IS a volcano down rock "}'
    )
    append(beir_folder, "qrels/train.tsv", "train-volcano\tblank\t1")
    append(beir_folder, "qrels/train.tsv", "train-volcano\techo\t1")
    judgement = judge_pairs(read_beir(beir_folder))
    file = str(beir_folder / "qrels/train.tsv")
    found = {(one.rule, one.file, one.row, one.critical) for one in judgement.failures}
    assert found == {("pair_passage_text", file, 10, True), ("pair_texts_differ", file, 11, False)}
    with pytest.raises(DataError, match="no split 'dev'"):
        judge_pairs(read_beir(beir_folder), "dev")


MINED = [  # query, document, source, rank, score
    ("train-volcano", "comet-1", "bm25", 1, 0.5),
    ("train-volcano", "comet-2", "dense", 2, -0.25),
    ("train-comet", "volcano-1", "random", 1, 0.1),
]


def mined(rows: list[tuple[object, ...]]) -> pa.Table:
    names = ["query_id", "corpus_id", "source", "rank", "score"]
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def test_good_negatives_pass(beir_folder: Path) -> None:
    judgement = judge_negatives(read_beir(beir_folder), mined(MINED))
    assert (judgement.failures, judgement.rows) == ([], 3)
    named = mined(MINED).select(["query_id", "corpus_id"])  # from a training file: no source, rank or score
    assert judge_negatives(read_beir(beir_folder), named).failures == []


@pytest.mark.parametrize(
    ("row", "rule", "critical"),
    [
        (("nobody", "comet-1", "bm25", 1, 0.5), "negative_known_query", True),
        (("train-comet", "nowhere", "bm25", 1, 0.5), "negative_known_document", True),
        (("train-comet", "comet-0", "bm25", 1, 0.5), "negative_is_no_positive", True),
        (("train-volcano", "comet-1", "dense", 9, 0.5), "unique_negatives", False),
        (("train-comet", "volcano-2", "guessed", 1, 0.5), "negative_source", False),
        (("train-comet", "volcano-2", "bm25", 0, 0.5), "negative_rank", False),
        (("train-comet", "volcano-2", "bm25", 1, 1.5), "negative_score", False),
        (("train-comet", "blank", "bm25", 1, 0.5), "negative_passage_text", False),
        (("train-comet", "echo", "bm25", 1, 0.5), "negative_differs_from_query", False),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_bad_negative_is_named_with_its_row(
    beir_folder: Path, row: tuple[object, ...], rule: str, critical: bool
) -> None:
    append(beir_folder, "corpus.jsonl", '{"_id": "blank", "title": "", "text": " "}')
    append(beir_folder, "corpus.jsonl", '{"_id": "echo", "title": "", "text": "what is a comet of warms"}')
    judgement = judge_negatives(read_beir(beir_folder), mined([*MINED, row]), file="mined.jsonl")
    found = [(one.file, one.row, one.rule, one.critical) for one in judgement.failures]
    first = 1 if rule == "unique_negatives" else 4
    assert found == [("mined.jsonl", first, rule, critical)]


def test_negatives_that_a_training_file_names_are_judged_with_the_collection(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    named = pa.table({"query_id": ["train-comet"], "corpus_id": ["comet-0"]})
    judgement = judge(replace(collection, negatives=named))
    assert [(one.file, one.rule) for one in judgement.failures] == [("negatives", "negative_is_no_positive")]


def test_negatives_without_ids_are_refused(beir_folder: Path) -> None:
    with pytest.raises(DataError, match="need a column 'corpus_id'"):
        judge_negatives(read_beir(beir_folder), pa.table({"query_id": ["train-comet"]}))
