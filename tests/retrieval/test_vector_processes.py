"""Several encoding processes: the bytes of one, and sound ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from llara_core.config import FromScratchSettings, ModelSettings
from llara_core.errors import ConfigError, LlaraError, ModelError
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever
from llara_core.retrieval.vector_processes import EncoderProcesses, encode_corpus
from llara_core.retrieval.vector_store import Dtype
from llara_core.retrieval.vectors import stored_vectors
from tests.training.contrastive_toys import toy_collection

ODD = ["", "\ud800 alone", "nul \0", "line\nbreak \u2028 and \x85", '{"texts": 3}', "ü 要約 👩"]
TEXTS = [*ODD, *(" ".join(f"word{n * k % 17}" for k in range(1 + n % 9)) for n in range(60))]
BLOCK = 11
BLOCKS = [TEXTS[start : start + BLOCK] for start in range(0, len(TEXTS), BLOCK)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = FromScratchSettings(
        vocabulary_size=300, hidden_size=32, intermediate_size=48, layers=2, heads=2, max_positions=64
    )
    settings = ModelSettings(from_scratch=small, template="slots", query_length=8, passage_length=6)
    folder = tmp_path_factory.mktemp("model") / "base"
    return prepare_base(settings, toy_collection(TEXTS[6:], ["word1"], [("q0", "d0", 1)]), folder, seed=0)


@pytest.fixture(scope="module")
def several(model: Path) -> Iterator[EncoderProcesses]:
    """Started once: a process takes seconds to import torch."""
    with EncoderProcesses(model, 2, "cpu") as started:
        yield started
    assert [worker.process.poll() for worker in started._workers] == [0, 0]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_two_processes_give_the_bytes_of_one(
    model: Path, several: EncoderProcesses, tmp_path: Path, dtype: Dtype
) -> None:
    one = encode_corpus(model, TEXTS, tmp_path / "one", device="cpu", dtype=dtype, block=BLOCK)
    two = stored_vectors(several, TEXTS, tmp_path / "two", dtype=dtype, block=BLOCK)
    assert one.folder is not None and two.folder is not None
    for name in ("vectors.npy", "hashes.npy"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    for fact in ("passages", "encoded", "copied", "cut", "tokens"):
        assert one.facts[fact] == two.facts[fact]
    retriever = Retriever.from_pretrained(model, "cpu")
    _, cut = retriever.encoder.encode_counted(list(dict.fromkeys(TEXTS)), "passage")
    assert one.facts["cut"] == cut > 0
    plain = retriever.encode_passages(TEXTS)
    np.testing.assert_allclose(two.vectors, plain, atol=1e-3 if dtype == "float16" else 1e-6)


def test_processes_are_an_encoder(model: Path, several: EncoderProcesses) -> None:
    retriever = Retriever.from_pretrained(model, "cpu")
    assert (several.dimension, several.fingerprint) == (32, retriever.fingerprint)
    np.testing.assert_array_equal(several.encode_queries(TEXTS), retriever.encode_queries(TEXTS))
    np.testing.assert_array_equal(several.encode_passages(TEXTS), retriever.encode_passages(TEXTS))
    assert several.encode_passages([]).shape == (0, 32)
    counted: list[int] = []
    parts = list(several.encode_blocks(BLOCKS, on_texts=counted.append))
    assert [len(part.vectors) for part in parts] == [len(block) for block in BLOCKS]
    assert sum(counted) == len(TEXTS)


def test_a_process_that_is_killed_is_reported(model: Path) -> None:
    def kill_in_between() -> Iterator[list[str]]:
        for number, block in enumerate(BLOCKS):
            if number == 3:
                worker.kill()
                worker.wait()
            yield block

    with (
        pytest.raises(LlaraError, match=r"died \(exit code -9, killed\)"),
        EncoderProcesses(model, 1, "cpu") as one,
    ):
        worker = one._workers[0].process
        list(one.encode_blocks(kill_in_between()))


def test_an_early_end_leaves_no_process(model: Path) -> None:
    with EncoderProcesses(model, 1, "cpu") as one:
        blocks = one.encode_blocks([TEXTS] * 5)
        next(blocks)
        blocks.close()
        assert one._workers[0].process.poll() is not None


def test_what_cannot_work_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        EncoderProcesses(model, 0, "cpu")
    with pytest.raises(ModelError, match="no such folder"):
        EncoderProcesses(tmp_path / "none", 2, "cpu")
    monkeypatch.setattr("llara_core.model.backbone.choose_device", lambda device: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        EncoderProcesses(model, 3, "cuda")
    with pytest.raises(ConfigError, match="cannot share cuda:1"):
        EncoderProcesses(model, 2, "cuda:1")
    assert EncoderProcesses(model, 2, "cuda")._devices == ["cuda:0", "cuda:1"]


def test_an_error_of_a_process_is_the_error_of_the_call(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError), EncoderProcesses(broken, 1, "cpu"):
        pass


@pytest.mark.slow
def test_a_script_without_a_guard_may_use_processes(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from llara_core.retrieval.vector_processes import encode_corpus\n"
        f"done = encode_corpus(Path({str(model)!r}), ['a', 'b', 'c'], processes=2, device='cpu', block=1)\n"
        "print(done.vectors.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(3, 32)"), done.stderr
