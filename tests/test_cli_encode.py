"""`llara encode`: options, what it writes, and going on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from llara_core.cli.app import run
from llara_core.model.retriever import Retriever
from llara_core.retrieval import vectors as vectors_module
from llara_core.retrieval.hashes import passage_hashes


def encode(work, output, *more):
    return run(["encode", "--model", f"{work}/base", "--data", f"{work}/tiny", "-o", str(output), *more])


def test_the_folder_holds_vectors_hashes_and_facts(work, tmp_path, capsys):
    assert encode(work, tmp_path / "out", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "vectors.npy", "hashes.npy", "ids.json", "vectors.json",
    }  # fmt: skip
    texts = [
        f"{row['title']} {row['text']}"
        for row in map(json.loads, (work / "tiny" / "corpus.jsonl").read_text().splitlines())
    ]
    retriever = Retriever.from_pretrained(work / "base", "cpu")
    vectors = np.load(tmp_path / "out" / "vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(vectors, retriever.encode_passages(texts))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "hashes.npy"), passage_hashes(texts))
    rows, cut = retriever.encoder.encode_counted(texts, "passage")
    facts = json.loads((tmp_path / "out" / "vectors.json").read_text())
    assert facts["dtype"] == "float32" and facts["passage_length"] == 32
    assert facts["encoding"]["cut"] == cut > 0 and facts["encoding"]["tokens"] == sum(map(len, rows))
    assert f"{cut} cut at 32 tokens" in said and "24 encoded" in said and "tokens/s" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_cache_is_shared_and_halves_are_halves(work, tmp_path, capsys):
    assert encode(work, tmp_path / "one", "--cache", str(tmp_path / "cache"), "--dtype", "float16") == 0
    assert encode(work, tmp_path / "two", "--cache", str(tmp_path / "cache"), "--dtype", "float16") == 0
    assert "0 encoded" in capsys.readouterr().out.splitlines()[-1]
    one, two = (np.load(tmp_path / name / "vectors.npy") for name in ("one", "two"))
    assert one.dtype == np.float16
    np.testing.assert_array_equal(one, two)
    assert (
        encode(work, tmp_path / "two", "--cache", str(tmp_path / "cache")) == 0
    )  # an earlier output of ours
    assert np.load(tmp_path / "two" / "vectors.npy").dtype == np.float32


def test_a_foreign_folder_is_refused_before_the_work(work, tmp_path, capsys, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    monkeypatch.setattr(vectors_module, "stored_vectors", pytest.fail)
    assert encode(work, tmp_path / "notes") == 2
    assert "holds something else" in capsys.readouterr().err
    assert encode(work, tmp_path / "out", "--processes", "0") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


KILLED = """
import sys, time
from llara_core.retrieval import vectors, vector_processes
from llara_core.model.retriever import Retriever
stored, blocks = vectors.stored_vectors, Retriever.encode_blocks
def small(*arguments, **options):
    return stored(*arguments, **{**options, "block": 5})
def slow(self, texts, *arguments, **options):
    for encoded in blocks(self, texts, *arguments, **options):
        yield encoded
        if len(sys.argv) > 1 and sys.argv[1] == "slow":
            time.sleep(30)
vector_processes.stored_vectors = small
Retriever.encode_blocks = slow
from llara_core.cli.app import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(work, tmp_path):
    def start(speed, output):
        command = ["encode", "--model", f"{work}/base", "--data", f"{work}/tiny", "-o", str(output)]
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, speed, *command, "--device", "cpu"],
            stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    process = start("slow", tmp_path / "out")
    while not list(tmp_path.glob(".out.encoding/.*.partial/manifest.json")) or not any(
        json.loads(path.read_text())["done"]
        for path in tmp_path.glob(".out.encoding/.*.partial/manifest.json")
    ):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out").exists()
    said = start("fast", tmp_path / "out").communicate()[0].decode()
    assert "5 by an interrupted run" in said and "19 encoded" in said
    assert start("fast", tmp_path / "whole").wait() == 0
    for name in ("vectors.npy", "hashes.npy", "ids.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "whole")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(work, tmp_path):
    assert encode(work, tmp_path / "one", "--device", "cpu") == 0
    assert encode(work, tmp_path / "two", "--device", "cpu", "--processes", "2") == 0
    for name in ("vectors.npy", "hashes.npy", "ids.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
