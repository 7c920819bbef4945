"""``llara data``: every command, its record and its exit code (0 fine, 1 a gate says no, 2 bad input)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llara_core.cli.app import run
from llara_core.data.collection import Collection
from llara_core.data.formats import FORMATS, read_beir
from tests.conftest import TOPICS


def told(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def ingested(place: Path, output: Path, *more: str) -> Collection:
    assert run(["data", "ingest", str(place), "-o", str(output), *more]) == 0
    return Collection.load(output)


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's own tables: columns of their own, three documents a topic."""
    rows = [["article", "heading", "body"]]
    rows += [
        [f"{topic}-{part}", topic.title(), f"Part {part}, of three: {sentence}"]
        for topic, sentence in TOPICS.items()
        for part in range(3)
    ]
    write_csv(tmp_path / "own" / "documents.csv", rows)
    asked = [["asked", "answered_by"]]
    asked += [[f"what is part {part} of {topic}", f"{topic}-{part}"] for topic in TOPICS for part in range(3)]
    write_csv(tmp_path / "own" / "questions.csv", asked)
    answers = [["question", "answer"], *([f"tell me of a {topic}", text] for topic, text in TOPICS.items())]
    write_csv(tmp_path / "own" / "answers.csv", answers)
    return tmp_path / "own"


ASKED = ["--column", "query=asked"]
COLUMNS = ["--column", "id=article", "--column", "title=heading", "--column", "text=body"]


def test_the_folder_holds_what_the_source_holds(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = ingested(beir_folder, tmp_path / "out", "--json")
    assert collection.content_hash == read_beir(beir_folder).content_hash
    record = told(capsys)
    assert (record["read"], record["accepted"], record["quarantined"]) == (64, 64, 0)
    assert ingested(tmp_path / "out", tmp_path / "again").content_hash == collection.content_hash


def test_every_command_takes_the_folder(beir_folder: Path, tmp_path: Path) -> None:
    ingested(beir_folder, tmp_path / "out")
    scores = [tmp_path / "a.json", tmp_path / "b.json"]
    for place, target in zip((beir_folder, tmp_path / "out"), scores, strict=True):
        assert run(["evaluate", "--model", "bm25", "--data", str(place), "-o", str(target)]) == 0
    assert json.loads(scores[0].read_text()) == json.loads(scores[1].read_text())


def test_documents_and_questions_in_columns_of_their_own(own: Path, tmp_path: Path) -> None:
    asked = [
        "--questions",
        f"{own}/questions.csv",
        "--column",
        "query=asked",
        "--column",
        "corpus_id=answered_by",
    ]
    collection = ingested(own / "documents.csv", tmp_path / "out", *COLUMNS, *asked, "--hold-out", "0.25")
    assert collection.corpus.num_rows == 24 and collection.queries.num_rows == 24
    assert {split: table.num_rows for split, table in collection.qrels.items()} == {"train": 18, "test": 6}
    ids, texts = collection.split_queries("test")
    judged = collection.judgements("test")
    for query, text in zip(ids, texts, strict=True):
        [(document, grade)] = judged[query].items()
        topic, part = document.split("-")
        assert (text, grade) == (f"what is part {part} of {topic}", 1)
    assert collection.corpus["title"][0].as_py() == "Volcano"


def test_answers_as_text_become_documents(own: Path, tmp_path: Path) -> None:
    collection = ingested(
        own / "documents.csv", tmp_path / "out", *COLUMNS, "--questions", f"{own}/answers.csv"
    )
    assert collection.corpus.num_rows == 24 + 8
    texts = dict(zip(collection.corpus_ids, collection.corpus["text"].to_pylist(), strict=True))
    asked = dict(zip(*collection.split_queries("train"), strict=True))
    found = {
        asked[query]: texts[one] for query, judged in collection.judgements("train").items() for one in judged
    }
    assert found == {f"tell me of a {topic}": text for topic, text in TOPICS.items()}


def test_titles_ask_for_their_texts_and_stand_in_no_passage(own: Path, tmp_path: Path) -> None:
    collection = ingested(own / "documents.csv", tmp_path / "out", *COLUMNS, "--titles-as-queries")
    assert set(collection.corpus["title"].to_pylist()) == {""}
    assert sorted(collection.queries["text"].to_pylist()) == sorted(topic.title() for topic in TOPICS)
    assert collection.qrels["train"].num_rows == 24


def test_a_column_that_is_not_there_is_named(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--questions",
        f"{own}/questions.csv",
        "--column",
        "query=asked",
        "--column",
        "corpus_id=nowhere",
    ]
    command = ["data", "ingest", f"{own}/documents.csv", "-o", f"{tmp_path}/out", *COLUMNS, *asked]
    assert run(command) == 2
    assert "corpus_id named 'nowhere'; there are: asked, answered_by" in capsys.readouterr().err
    assert run([*command[:5], "--column", "text"]) == 2
    assert "expected OURS=THEIRS" in capsys.readouterr().err


def broken(folder: Path) -> Path:
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "late", "title": "Late", "text": 7}\nnot json\n')
    return folder


def test_what_is_put_aside_is_mended_and_fed_back(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = read_beir(beir_folder).content_hash
    broken(beir_folder)
    out, rows = tmp_path / "out", tmp_path / "rows.jsonl"
    command = ["data", "ingest", str(beir_folder), "-o", str(out)]
    assert run(command) == 1  # 2 of 26 rows are more than one in a hundred
    assert "corpus.jsonl:25" in (said := capsys.readouterr().err) and "Traceback" not in said
    assert not (out / "collection.json").exists() and (out / "quarantine").is_dir()
    lenient = [*command, "--set", "collection.ingest.stop_above=0.5"]
    for rule in ("has_text", "valid_json"):
        lenient += ["--set", f"collection.ingest.rules.{rule}={{stop_above: 5}}"]
    assert run(lenient) == 0
    assert Collection.load(out).content_hash == clean
    assert run(["data", "repair", str(out), "-o", str(rows)]) == 0
    mended = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(one["row"], one["rule"]) for one in mended] == [(25, "has_text"), (26, "valid_json")]
    mended[0]["record"]["text"] = "the seven wonders"
    mended[1]["drop"] = True
    rows.write_text("".join(json.dumps(one) + "\n" for one in mended))
    assert run([*command, "--repaired", str(rows)]) == 0
    repaired = Collection.load(out)
    assert repaired.corpus.num_rows == 25 and repaired.corpus["text"][24].as_py() == "the seven wonders"


def test_diff_says_what_changed_and_exits_1_when_asked(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingested(beir_folder, tmp_path / "out")
    capsys.readouterr()
    command = ["data", "diff", str(tmp_path / "out"), str(beir_folder), "--exit-code"]
    assert run(command) == 0
    with (beir_folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "new", "title": "", "text": "a new one"}\n')
    capsys.readouterr()
    assert run([*command, "--json"]) == 1
    assert told(capsys)["documents"]["added"] == 1
    assert run(command[:-1]) == 0


def test_duplicates_are_counted_and_left_out(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rensa")
    first = json.loads((beir_folder / "corpus.jsonl").read_text().splitlines()[0])
    with (beir_folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write(json.dumps({**first, "_id": "copy", "text": first["text"].upper()}) + "\n")
    command = ["data", "duplicates", str(beir_folder), "--json"]
    assert run([*command, "--policy", "keep_first", "-o", str(tmp_path / "out")]) == 0
    assert told(capsys)["exact_repeats"] == 1
    assert "copy" not in list(Collection.load(tmp_path / "out").corpus_ids)
    assert run([*command, "--stop-above", "0"]) == 1
    assert run([*command, "--stop-above", "0.99"]) == 0


def test_leaks_are_told_stopped_or_left_out_of_training(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (beir_folder / "queries.jsonl").read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "text": json.loads(lines[1])["text"]})
    (beir_folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    command = ["data", "leaks", str(beir_folder)]
    assert run([*command, "--json", "--record", str(tmp_path / "leaks.json")]) == 0
    record = told(capsys)
    assert record["kinds"]["query_verbatim"]["queries"] == 1
    assert json.loads((tmp_path / "leaks.json").read_text()) == record
    assert run([*command, "--action", "stop"]) == 1
    assert "leak" in capsys.readouterr().err
    assert run([*command, "-o", str(tmp_path / "out")]) == 0
    after = Collection.load(tmp_path / "out")
    assert "train-volcano" not in after.judgements("train")
    assert after.judgements("test") == read_beir(beir_folder).judgements("test")
    assert run([*command, "--split", "nowhere"]) == 2


def test_the_page_shows_what_was_put_aside(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingested(beir_folder, tmp_path / "before")
    broken(beir_folder)
    rules = ["--set", "collection.ingest.stop_above=5"]
    for rule in ("has_text", "valid_json"):
        rules += ["--set", f"collection.ingest.rules.{rule}={{stop_above: 5}}"]
    page = tmp_path / "page.html"
    ingested(beir_folder, tmp_path / "out", *rules, "--report", str(page))
    assert "not json" in page.read_text(encoding="utf-8")
    assert run(
        ["data", "report", f"{tmp_path}/out", "-o", f"{page}.2", "--previous", f"{tmp_path}/before"]
    ) == 0  # fmt: skip
    assert "<script src=" not in Path(f"{page}.2").read_text(encoding="utf-8")


def test_long_documents_are_cut_into_passages_as_they_come_in(beir_folder: Path, tmp_path: Path) -> None:
    whole = read_beir(beir_folder)
    cut = ingested(beir_folder, tmp_path / "out", "--set", "collection.passages.tokens=8")
    assert cut.corpus.num_rows > whole.corpus.num_rows
    assert all(len(text.split()) <= 8 for text in cut.passages)
    assert {one.split("#")[0] for one in cut.corpus_ids} == set(whole.corpus_ids)
    said = dict.fromkeys(cut.qrels["test"]["corpus_id"].to_pylist())
    assert set(said) <= set(cut.corpus_ids)  # judgements follow their documents
    assert not list(tmp_path.glob(".out*"))


def test_a_tokenizer_that_is_none_is_named(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--set", f"collection.passages.tokenizer={tmp_path / 'nothing'}"]
    assert run(["data", "ingest", str(beir_folder), "-o", str(tmp_path / "out"), *asked]) == 2
    assert "collection.passages.tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_format_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "formats", "--json"]) == 0
    assert set(told(capsys)) == set(FORMATS)
    assert run(["data", "formats"]) == 0
    assert all(
        f"\n{name}\n" in f"\n{capsys_out}" for capsys_out in [capsys.readouterr().out] for name in FORMATS
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "/nowhere", "-o", "OUT"], "/nowhere"),
        (
            ["ingest", "TINY", "-o", "OUT", "--format", "jsonk"],
            "'jsonk'; did you mean 'jsonl'?",
        ),
        (["ingest", "TINY", "-o", "OUT", "--set", "collection.ingest.rules.has_txt={}"], "has_txt"),
        (["ingest", "TINY", "-o", "OUT", "--hold-out", "0.5"], "has a split 'test' already"),
        (["ingest", "TINY", "-o", "TINY"], "holds something else"),
        (["repair", "TINY", "-o", "OUT"], "no quarantine here"),
        (["diff", "TINY", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_used_exits_2_and_says_why(
    beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    places = {"TINY": str(beir_folder), "OUT": str(tmp_path / "out")}
    assert run(["data", *(places.get(word, word) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
