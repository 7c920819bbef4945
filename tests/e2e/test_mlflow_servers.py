"""MLflow's own servers: one that serves the champion as the guide says, one that keeps it far away."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llara_core.model.bundle import read_bundle
from llara_core.model.retriever import Retriever
from tests.registered_champion import champion

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "from-python.md"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], ready: str, folder: Path, **environment: str) -> Iterator[None]:
    """A server, until its ``ready`` address answers and the block has ended."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=folder, start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment},
        )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while True:
            assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(url: str, body: str) -> tuple[int, Any]:
    asked = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_champion_is_served_as_the_guide_says(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    block = next(one for one in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "models serve" in one)
    serve, curl = (shlex.split(line) for line in block.replace("\\\n", " ").splitlines())
    port = free_port()
    told = serve[serve.index("--port") + 1]
    serve[serve.index("--port") + 1] = str(port)
    url = next(word for word in curl if word.startswith("http")).replace(f":{told}", f":{port}")
    body = curl[curl.index("-d") + 1]
    python = [sys.executable, "-m", *serve]
    with running(python, f"http://127.0.0.1:{port}/ping", tmp_path, MLFLOW_TRACKING_URI=champion().uri):
        status, answer = post(url, body)
        assert status == 200, answer
        query, passage = json.loads(body)["dataframe_records"]
        retriever = Retriever.from_pretrained(champion().base, "cpu")
        found = np.array(answer["predictions"], np.float32)
        np.testing.assert_allclose(found[:1], retriever.encode_queries([query["text"]]), atol=1e-6)
        np.testing.assert_allclose(found[1:], retriever.encode_passages([passage]), atol=1e-6)
        status, answer = post(url, '{"dataframe_records": [{"text": "a", "kind": "doc"}]}')
        assert status == 400 and "kind 'doc'; expected one of query, passage" in answer["message"]
        bodies = [json.dumps({"dataframe_records": [{"text": f"text {number}"}]}) for number in range(24)]
        wanted = retriever.encode_queries([f"text {number}" for number in range(24)])
        with ThreadPoolExecutor(8) as pool:
            for (status, answer), vector in zip(
                pool.map(lambda one: post(url, one), bodies), wanted, strict=True
            ):
                assert status == 200
                np.testing.assert_allclose(np.array(answer["predictions"])[0], vector, atol=1e-6)


OPEN = """
import sys
from importlib.metadata import EntryPoint, EntryPoints
from llara_core.model import registries
point = EntryPoint("mlflow", "llara_mlflow.registry:fetch", registries.GROUP)
registries.entry_points = lambda group: EntryPoints([point])
from llara_core import Retriever
opened = Retriever.from_registry("far", tracking_uri=sys.argv[1], device="cpu")
print(opened.source.folder, opened.fingerprint, opened.encode_queries(["a"]).shape)
"""


def test_a_champion_behind_a_tracking_server_is_fetched_by_many_processes(tmp_path: Path) -> None:
    import mlflow

    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{tmp_path / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(tmp_path / "store")]
    with running(command, f"{uri}/health", tmp_path):
        client = mlflow.MlflowClient(uri, uri)
        run = client.create_run(client.create_experiment("far"))
        client.log_artifacts(run.info.run_id, str(champion().base), "retriever/artifacts/bundle")
        client.create_registered_model("far")
        fingerprint = read_bundle(champion().base).fingerprint
        source = f"{run.info.artifact_uri}/retriever"
        assert source.startswith("mlflow-artifacts:")
        client.create_model_version("far", source, run.info.run_id, tags={"fingerprint": fingerprint})
        client.set_registered_model_alias("far", "champion", "1")
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "LLARA_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        started = [
            subprocess.Popen(
                [sys.executable, "-c", OPEN, uri], stdout=subprocess.PIPE, text=True, env=environment
            )
            for _ in range(3)
        ]
        said = {process.communicate(timeout=300)[0].strip() for process in started}
        assert [process.returncode for process in started] == [0, 0, 0]
    (line,) = said
    folder, found, shape = line.split(" ", 2)
    assert found == fingerprint and shape == "(1, 32)"
    assert Path(folder).is_relative_to(tmp_path / "cache")
    assert len(list((tmp_path / "cache").rglob("model.safetensors"))) == 1
    # The server has gone: a version that is here can be had, an alias cannot.
    pinned = OPEN.replace('"far", ', '"far", version=1, ')
    done = subprocess.run(
        [sys.executable, "-c", pinned, uri], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0 and fingerprint in done.stdout, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", OPEN, uri], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode != 0 and "The cache holds version 1: take one with version='1'" in done.stderr
