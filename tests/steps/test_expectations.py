from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from llara_core.data import checks
from llara_core.data.formats import read_beir
from llara_core.data.quality import RULES, problems
from llara_core.errors import DataError
from steps.expectations import SUITES, judge


def suites() -> list[tuple[str, dict]]:
    return [
        (path.stem, expectation)
        for path in sorted(SUITES.glob("*.json"))
        for expectation in json.loads(path.read_text())["expectations"]
    ]


def test_suites_hold_the_rules_of_the_library() -> None:
    """The suites are data of their own; they must not drift from ``quality``."""
    named = {one["meta"]["rule"] for _, one in suites()}
    assert named == set(RULES)
    for _, one in suites():
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
