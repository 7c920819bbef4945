"""What the serving benchmark serves, and the servers: same weights, same queries, same cores and threads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from contrastive_task import ROOT, collection
from numpy.typing import NDArray

from llara_core.config import FromScratchSettings, ModelSettings
from llara_core.data.collection import Collection
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever

OURS, SEARCH, EMPTY = "llara serve /embed", "llara serve /search", "the clients alone"
MLFLOW, PLAIN = "mlflow models serve", "FastAPI + SentenceTransformer"
QUERIES = 512  # different ones
PASSAGES = 2000  # to search; at this size encoding the query is what takes the time
_START = 180  # seconds that a server may take
# configs/demo.yaml's model with one layer more, as people would have it once it is to serve.
MODEL = FromScratchSettings(
    vocabulary_size=12000, hidden_size=384, intermediate_size=96, layers=2, heads=6, key_value_heads=2,
)  # fmt: skip


@dataclass
class Task:
    """What is served.

    Args:
        folder: of everything.
        base: bundle.
        peer: the same for sentence-transformers.
        data: name of the collection, and its folder.
        queries: to ask.
        vectors: of them, float32 [Q, D].
    """

    folder: Path
    base: Path
    peer: Path
    data: tuple[str, Path]
    queries: list[str]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """An endpoint.

    Args:
        name: in the table.
        path: of the endpoint.
        body: of a request for one query.
        vector: of an answer; None: it gives none.
        server: name of the server that has it.
    """

    name: str
    path: str
    body: Callable[[str], dict[str, Any]]
    vector: Callable[[dict[str, Any]], list[float]] | None
    server: str


def ways(workers: int) -> list[Way]:
    """Every endpoint that is measured.

    Args:
        workers: of MLflow's server, beside its default of one.
    """
    several = f"{MLFLOW}, --workers {workers}"

    def asked(query: str) -> dict[str, Any]:
        return {"dataframe_records": [{"text": query, "kind": "query"}]}

    def first(answer: dict[str, Any]) -> list[float]:
        return list(answer["predictions"][0])

    return [
        Way(OURS, "/embed", lambda query: {"texts": [query], "kind": "query"}, _first_vector, "ours"),
        Way(SEARCH, "/search", lambda query: {"query": query, "k": 10}, None, "ours"),
        Way(MLFLOW, "/invocations", asked, first, MLFLOW),
        Way(several, "/invocations", asked, first, several),
        Way(PLAIN, "/embed", lambda query: {"text": query}, lambda answer: list(answer["vector"]), PLAIN),
        Way(EMPTY, "/", lambda query: {"texts": [query], "kind": "query"}, None, EMPTY),
    ]


def _first_vector(answer: dict[str, Any]) -> list[float]:
    return list(answer["vectors"][0])


def build(folder: Path) -> Task:
    """Bundle with random weights, its export, an MLflow registry that has it, and the queries."""
    from llara_core.model.export import export_bundle

    whole = collection()
    settings = ModelSettings(from_scratch=MODEL, template="slots", query_length=24, passage_length=64)
    base = prepare_base(settings, whole, folder / "base", seed=0)
    export_bundle(base, "sentence-transformers", folder / "peer")
    data = Collection(whole.name, whole.corpus.slice(0, PASSAGES), whole.queries, {}).save(folder / "data")
    rows = np.random.default_rng(0).permutation(whole.queries.num_rows)[:QUERIES].tolist()
    queries = whole.queries["text"].take(rows).to_pylist()
    _register(folder, base)
    vectors = Retriever.from_pretrained(base, "cpu").encode_queries(queries)
    return Task(folder, base, folder / "peer", (whole.name, data), queries, vectors)


def _register(folder: Path, base: Path) -> None:
    import mlflow

    sys.path.append(str(ROOT))  # a script finds its own folder only, and the steps are not installed
    from steps.registry import log_version

    mlflow.set_tracking_uri(_registry(folder))
    mlflow.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        number = log_version("served", base, MODEL.hidden_size, {})
    mlflow.MlflowClient().set_registered_model_alias("served", "champion", number)


def _registry(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


@dataclass
class Server:
    """A server that runs.

    Args:
        port: on 127.0.0.1.
        process: the first of its processes.
    """

    port: int
    process: subprocess.Popen[bytes]

    def tree(self) -> list[psutil.Process]:
        """All of its processes."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of CPU time that they have used."""
        return float(sum(sum(one.cpu_times()[:2]) for one in self.tree()))

    def memory(self) -> float:
        """MiB that they hold; what they share counts once."""
        return float(sum(one.memory_full_info().pss for one in self.tree())) / 2**20

    def stop(self) -> None:
        """End all of them."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start(task: Task, name: str, cores: set[int], threads: int, workers: int) -> Server:
    """Start a server and wait until it is ready.

    Args:
        task: what it serves.
        name: of ``Way.server``.
        cores: that it may use.
        threads: of PyTorch, in each of its processes.
        workers: of the server named for them.

    Raises:
        SystemExit: it does not come up; with the end of what it said.
    """
    port = _free_port()
    python = str(Path(sys.executable))
    here = Path(__file__).parent
    cli = ["-m", "llara_core.cli", "serve", "--port", str(port), "--model", str(task.base)]
    mlflow = ["-m", "mlflow", "models", "serve", "-m", "models:/served@champion", "--env-manager", "local"]
    mlflow += ["-h", "127.0.0.1", "-p", str(port), "--workers", "1" if name == MLFLOW else str(workers)]
    uvicorn = ["-m", "uvicorn", "--port", str(port), "--app-dir", str(here)]
    uvicorn += ["--factory", "serving_plain:create"]
    empty = [str(here / "serving_client.py"), "--empty", str(port)]
    commands: Mapping[str, list[str]] = {
        "ours": [*cli, "--data", str(task.data[1])],
        PLAIN: [*uvicorn, "--no-access-log"],
        EMPTY: empty,
    }
    ready = {"ours": "/readyz", PLAIN: "/ready", EMPTY: "/"}.get(name, "/ping")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow looks for uvicorn there
        "PYTHONPATH": str(ROOT),
        "LLARA_LOCAL": str(task.folder / "local"),
        "LLARA_PLAIN": str(task.peer),
        "MLFLOW_TRACKING_URI": _registry(task.folder),
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    said = task.folder / f"{port}.log"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [python, *commands.get(name, mlflow)], stdout=file, stderr=file, env=environment,
            cwd=task.folder, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no threads of ours run here
        )  # fmt: skip
    server = Server(port, process)
    until = time.monotonic() + _START
    while time.monotonic() < until and process.poll() is None:
        if _answers(f"http://127.0.0.1:{port}{ready}"):
            return server
        time.sleep(0.3)
    if process.poll() is None:
        server.stop()
    raise SystemExit(f"{name} does not come up:\n{said.read_text(errors='replace')[-2000:]}")


def ask(server: Server, way: Way, query: str) -> dict[str, Any]:
    """One answer."""
    content = json.dumps(way.body(query)).encode()
    url = f"http://127.0.0.1:{server.port}{way.path}"
    asked = urllib.request.Request(url, content, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return dict(json.load(answer))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
