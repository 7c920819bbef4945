"""``llara index`` and ``llara search --index``, run for real on the tiny collection."""

from __future__ import annotations

import json
import shutil

import pytest

from llara_core.cli.app import run
from tests.conftest import write_jsonl


@pytest.fixture(scope="module")
def indexed(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed") / "index"
    command = ["index", "build", "--model", f"{work}/finetuned", "--data", f"{work}/tiny", "-o", str(folder)]
    assert run([*command, "--shards", "2"]) == 0
    return folder


@pytest.fixture
def index(indexed, tmp_path):
    return shutil.copytree(indexed, tmp_path / "index")


def found(capsys, *command):
    capsys.readouterr()
    assert run(["search", *command, "--json", "where do cranes unload"]) == 0
    return json.loads(capsys.readouterr().out)


def test_search_in_an_index_is_search_in_the_corpus(work, index, capsys):
    model = ["--model", f"{work}/finetuned"]
    plain = found(capsys, *model, "--data", f"{work}/tiny")
    with_texts = found(capsys, *model, "--data", f"{work}/tiny", "--index", str(index))
    assert with_texts == plain and len(plain) == 10
    ids_only = found(capsys, *model, "--index", str(index))
    assert [one["id"] for one in ids_only] == [one["id"] for one in plain]
    assert {one["text"] for one in ids_only} == {""}
    assert run(["search", *model, "--index", str(index), "cranes"]) == 0
    assert plain[0]["id"].split("-")[0] in capsys.readouterr().out


def test_another_model_is_refused_by_fingerprint(work, index, capsys):
    names = [
        json.loads((work / name / "llara.json").read_text())["fingerprint"]
        for name in ("finetuned", "adapted")
    ]
    for command in (
        ["search", "--index", str(index), "q"],
        ["index", "refresh", str(index), "--data", f"{work}/tiny"],
    ):
        capsys.readouterr()
        assert run([*command, "--model", f"{work}/adapted"]) == 2
        error = capsys.readouterr().err
        assert all(name[:20] in error for name in names) and "do not mix" in error
    assert run(["search", "--index", str(index), "--model", "bm25", "q"]) == 2
    assert "give --model the bundle" in capsys.readouterr().err


def test_refresh_encodes_what_is_new(work, index, beir_folder, capsys):
    rows = [json.loads(line) for line in (beir_folder / "corpus.jsonl").read_text().splitlines()]
    rows[0]["text"] = "entirely new words about the same"
    write_jsonl(
        beir_folder / "corpus.jsonl", [*rows[:20], {"_id": "new", "title": "", "text": "a new document"}]
    )
    model = ["--model", f"{work}/finetuned", "--data", str(beir_folder)]
    found(capsys, *model, "--index", str(index), "--top", "24")
    assert run(["search", *model, "--index", str(index), "--top", "24", "q"]) == 0
    assert "5 of the 24 passages found are not in tiny as they were indexed" in capsys.readouterr().err
    assert run(["index", "refresh", str(index), *model]) == 0
    told = capsys.readouterr().out
    assert "19 kept, 1 added, 1 changed, 4 deleted, 2 encoded" in told
    again = found(capsys, *model, "--index", str(index), "--top", "30")
    plain = found(capsys, *model, "--top", "30")
    assert [one["id"] for one in again] == [one["id"] for one in plain] and len(again) == 21
    # Encoded in other batches, so the last bit of a score may differ.
    assert [one["score"] for one in again] == pytest.approx([one["score"] for one in plain], abs=1e-6)


def test_show_says_what_it_holds_and_whether_it_is_sound(work, index, capsys):
    assert run(["index", "show", str(index)]) == 0
    out = capsys.readouterr().out
    fingerprint = json.loads((work / "finetuned" / "llara.json").read_text())["fingerprint"]
    assert "flat, 24 passages of 32 dimensions, 2 shards of float32" in out and fingerprint in out
    assert "template: slots-" in out
    assert run(["index", "show", str(index), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 24
    path = next(index.glob("state-*/vectors-00000.npy"))
    path.write_bytes(path.read_bytes()[:-4])
    assert run(["index", "show", str(index), "--verify"]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--parameter", "nprobe"], "expected NAME=NUMBER"),
        (["--parameter", "nprobe=x"], "expected NAME=NUMBER"),
        (["--kind", "hnsw", "--parameter", "nprobe=3"], "hnsw has no parameter 'nprobe'"),
    ],
)
def test_unusable_parameters(work, tmp_path, capsys, more, said):
    command = [
        "index",
        "build",
        "--model",
        f"{work}/finetuned",
        "--data",
        f"{work}/tiny",
        "-o",
        f"{tmp_path}/i",
    ]
    assert run([*command, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "i").exists()


def test_no_index(work, tmp_path, capsys):
    assert run(["search", "--model", f"{work}/finetuned", "--index", str(tmp_path), "q"]) == 2
    assert "llara index build" in capsys.readouterr().err
