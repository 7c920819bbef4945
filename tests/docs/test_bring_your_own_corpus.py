"""The guide's commands, word for word, in a folder with a reader's two tables."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from llara_core.cli.app import run
from tests.conftest import TOPICS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "bring-your-own-corpus.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if kind == language]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line)) and words[0] == "llara"]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two tables, with the guide's own columns and rows first, and what the guide has saved."""
    documents, questions = (list(csv.reader(block.splitlines())) for block in blocks("csv"))
    for topic, sentence in TOPICS.items():
        for part in range(4):
            documents.append(
                [f"{topic}-{part}", topic.title(), f"{sentence}. Part {part}. {sentence[part * 5 :]}"]
            )
            questions.append([f"what is number {part} of the {topic}", f"{topic}-{part}"])
    for name, rows in (("documents.csv", documents), ("questions.csv", questions)):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)
    settings = yaml.safe_load(blocks("yaml")[0])
    model, stages = settings["parameters"]["model"], settings["parameters"]
    model["from_scratch"].update(vocabulary_size=400, hidden_size=32, intermediate_size=32, heads=2)
    stages["adapt"].update(steps=3, batch_size=8)
    stages["finetune"].update(steps=3, batch_size=8)
    (tmp_path / "my-corpus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_guide_work_as_they_stand(
    reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rensa")
    done = []
    for words in commands():
        if words[:2] == ["data", "diff"]:  # last year's version, which a reader has by then
            (reader / "data" / "mine").rename(reader / "data" / "mine-2025")
            assert run(done[0]) == 0
        assert run(words) == 0, shlex.join(words)
        done.append(words)
    assert done[0][:2] == ["data", "ingest"] and len(done) == 11
    counts = json.loads((reader / "data" / "mine" / "collection.json").read_text(encoding="utf-8"))
    assert counts["documents"] == counts["queries"] == 34
    assert counts["judgements"]["train"] + counts["judgements"]["test"] == 34
    assert 4 <= counts["judgements"]["test"] <= 6
    assert (reader / "data" / "mine.html").is_file()
    assert json.loads((reader / "scores.json").read_text())["queries"] == counts["judgements"]["test"]
    said = capsys.readouterr().out
    assert "102 rows read: 102 accepted" in said and "evaluation_queries" in said and "mine/test" in said
