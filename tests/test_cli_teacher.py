"""``llara finetune --teacher``: a file of scores is read, and what cannot teach is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.cli.app import run


def command(work: Path, output: Path) -> list[str]:
    return [
        "finetune", "--data", f"{work}/tiny", "-c", f"{work}/c.yaml", "--model", f"{work}/adapted",
        "--negatives", f"{work}/negatives.jsonl", "-o", str(output),
    ]  # fmt: skip


def scores(work: Path, path: Path) -> Path:
    """A teacher that scores every negative below its query's positive."""
    rows = [json.loads(line) for line in (work / "negatives.jsonl").read_text().splitlines()]
    taught = [{"query_id": row["query_id"], "corpus_id": row["corpus_id"], "score": 0} for row in rows]
    judged = [line.split("\t") for line in (work / "tiny/qrels/train.tsv").read_text().splitlines()[1:]]
    taught += [{"query_id": query, "corpus_id": document, "score": 2.5} for query, document, _ in judged]
    path.write_text("\n".join(json.dumps(row) for row in taught))
    return path


def test_teacher_is_distilled(work: Path, tmp_path: Path) -> None:
    teacher = scores(work, tmp_path / "teacher.jsonl")
    chosen = ["--teacher", str(teacher), "--set", "finetune.distillation_weight=0.5"]
    assert run([*command(work, tmp_path / "out"), *chosen]) == 0
    (*_, stage) = json.loads((tmp_path / "out/llara.json").read_text())["history"]
    assert stage["settings"]["distillation_weight"] == 0.5
    assert all(line["distillation"] > 0 for line in stage["curve"])


def test_weight_and_teacher_belong_together(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = scores(work, tmp_path / "teacher.jsonl")
    assert run([*command(work, tmp_path / "out"), "--teacher", str(teacher)]) == 2
    assert "finetune.distillation_weight is 0" in capsys.readouterr().err
    assert run([*command(work, tmp_path / "out"), "--set", "finetune.distillation_weight=1"]) == 2
    assert "there is no teacher" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"query_id": 3')
    for name, message in (("none.jsonl", "no such file"), ("bad.jsonl", "not a file of teacher scores"),
                          ("bad.csv", "expected a name that ends in")):  # fmt: skip
        assert run([*command(work, tmp_path / "out"), "--teacher", f"{tmp_path}/{name}"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
