"""`llara mine`: the audit on the terminal and as a page, a fine-tuned model, a bundle as teacher."""

from __future__ import annotations

import json

from llara_core.cli.app import run


def mined(work, tmp_path, *more):
    output = tmp_path / "negatives.jsonl"
    shared = ["mine", "--data", f"{work}/tiny", "-c", f"{work}/c.yaml", "-o", str(output), *more]
    code = run(shared)
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    return code, rows


def test_the_audit_is_printed_and_written(work, tmp_path, capsys):
    page = tmp_path / "new" / "audit.html"
    code, rows = mined(work, tmp_path, "--model", f"{work}/adapted", "--audit", str(page))
    out = capsys.readouterr().out
    assert code == 0 and rows
    assert f"{len(rows)} negatives for" in out and "suspected false negatives: " in out
    assert "left out: " in out and f"the audit as a page: {page}" in out
    assert "Mining audit" in page.read_text(encoding="utf-8")
    again, same = mined(work, tmp_path, "--model", f"{work}/adapted")
    assert again == 0 and same == rows


def test_a_fine_tuned_model_mines_the_next_round(work, tmp_path):
    code, rows = mined(work, tmp_path, "--model", f"{work}/finetuned")
    assert code == 0 and set(rows[0]) == {"query_id", "corpus_id", "source", "rank", "score"}


def test_a_bundle_may_be_the_teacher(work, tmp_path, capsys):
    veto = ["--set", f"mine.veto.model={work}/finetuned", "--set", "mine.veto.share=0.5"]
    code, rows = mined(work, tmp_path, "--model", f"{work}/adapted", *veto)
    assert code == 0 and " veto" in capsys.readouterr().out
    free, unvetoed = mined(work, tmp_path, "--model", f"{work}/adapted")
    assert free == 0 and len(rows) < len(unvetoed)


def test_a_teacher_that_is_not_there_is_said_so(work, tmp_path, capsys):
    veto = ["--set", f"mine.veto.model={tmp_path}/nothing"]
    code, _ = mined(work, tmp_path, "--model", f"{work}/adapted", *veto)
    assert code == 2 and "mine.veto.model" in capsys.readouterr().err
