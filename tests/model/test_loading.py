"""Decoders from folders and hubs: what is loaded, and what is said when nothing can be."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llara_core.cli.app import run
from llara_core.errors import ConfigError, ModelError
from llara_core.model import loading
from llara_core.model.backbone import choose_device
from llara_core.model.loading import load_decoder
from llara_core.model.retriever import Retriever
from tests.model.conftest import settings
from tests.oracles.fake_hub import fake_hub

NOBODY = "http://127.0.0.1:9"  # the port for discarding: nothing listens there


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_folder_without_a_decoder(tmp_path: Path, base: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path / "missing")))
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="no weights"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"")
    for kind in ("bert", "t5"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ModelError, match="no decoder-only"):
            load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    with pytest.raises(ModelError, match=r"no llara\.json"):
        Retriever.from_pretrained(tmp_path)
    model, _ = load_decoder(settings(from_scratch=None, base=str(base)))
    assert model.config.model_type == "llama"


def test_half_a_download(tmp_path: Path, base: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "half"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="cannot be loaded as a decoder") as caught:
        load_decoder(settings(from_scratch=None, base=str(folder)))
    assert "hf download" not in str(caught.value)  # the folder is here; it is broken
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "tokenizer.model").write_bytes(b"sentences")
    with pytest.raises(ModelError, match="pip install sentencepiece"):
        load_decoder(settings(from_scratch=None, base=str(folder)))


def test_no_hub_says_what_to_download_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    attempts: list[object] = []
    connect = socket.create_connection

    def counted(address: object, *rest: object, **named: object) -> object:
        attempts.append(address)
        return connect(address, *rest, **named)

    monkeypatch.setattr(socket, "create_connection", counted)
    with pytest.raises(ModelError) as caught:
        load_decoder(settings(from_scratch=None, base="nobody/no-such-model"))
    message = str(caught.value)
    assert "no model hub can be reached" in message and NOBODY in message
    assert "`hf download nobody/no-such-model --local-dir models/no-such-model`" in message
    assert "--base models/no-such-model" in message
    assert attempts.count(("127.0.0.1", 9)) == 1  # one look, no retries


def test_offline_by_the_users_wish_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ModelError, match="no model hub can be reached"):
        load_decoder(settings(from_scratch=None, base="nobody/no-such-model"))


def test_behind_a_proxy_only_the_client_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("asked"))
    assert loading._hub_answers()


def test_the_command_line_says_it_in_one_line(
    beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    base = ["--base", "HuggingFaceTB/SmolLM2-135M", "--data", str(beir_folder)]
    assert run(["prepare", *base, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "hf download HuggingFaceTB/SmolLM2-135M" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_hub_id_loads_where_there_is_a_hub(tmp_path: Path, base: Path, beir_folder: Path) -> None:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    command = [sys.executable, "-m", "llara_core.cli", "prepare", "--data", str(beir_folder)]
    for setting in ("base=someone/tiny", "template=slots", "query_length=8", "passage_length=16"):
        command += ["--set", f"model.{setting}"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    with fake_hub("someone/tiny", base) as address:
        online = {**environment, "HF_ENDPOINT": address}
        out = ["-o", str(tmp_path / "out")]
        first = subprocess.run([*command, *out], env=online, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    card = json.loads((tmp_path / "out" / "llara.json").read_text())
    assert card["base_model"] == "someone/tiny"
    # The hub is gone; what was downloaded is still there.
    again = [*command, "-o", str(tmp_path / "again")]
    offline = {**environment, "HF_ENDPOINT": address}
    second = subprocess.run(again, env=offline, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert json.loads((tmp_path / "again" / "llara.json").read_text())["fingerprint"] == card["fingerprint"]


def test_devices() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device() in ("cpu", "cuda")
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(ConfigError, match="this machine has: cpu"):
            choose_device(device)
