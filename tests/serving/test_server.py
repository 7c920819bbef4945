"""A process that serves: how it starts, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llara_core.cli.app import run
from llara_core.errors import ConfigError
from llara_core.serving import server as server_module
from llara_core.serving.app import create_app
from llara_core.serving.server import Server, bind, hosts_for, is_loopback, url_of
from llara_core.serving_settings import ServingSettings
from llara_core.settings import load_yaml
from tests.serving.service_stories import notes_store, service_of, until

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(store: Path, log: Path, *options: str, **variables: str) -> Iterator[tuple[Any, int]]:
    """A process that serves a store; gives it and its port once it is ready."""
    with closing(bind("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "llara_core.cli", "serve", "--store", str(store), "--port", str(port)]
    with log.open("w") as told:
        process = subprocess.Popen([*command, *options], stderr=told, env=environment, cwd=store.parent)
    try:
        deadline = time.monotonic() + 120
        while status(port) != 200:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, port
    finally:
        process.kill()
        process.wait()


def status(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_process_serves_a_crowd_and_ends_with_its_last_answer(work: Path, tmp_path: Path) -> None:
    notes_store(tmp_path, work / "finetuned")
    (tmp_path / "c.yaml").write_text("linger_seconds: 2\n")
    log, answers, failures = tmp_path / "log", [], []
    options = ("--config", str(tmp_path / "c.yaml"), "--api-key-env", "OUR_KEYS")
    keys = {"OUR_KEYS": "one-key-of-them, two-keys-of-them", "LLARA_LOG_FORMAT": "json"}
    with serving(tmp_path / "live", log, *options, **keys) as (process, port):
        ended = threading.Event()

        def ask(number: int) -> None:
            body = json.dumps({"query": f"lava number {number}", "k": 2}).encode()
            headers = {"Content-Type": "application/json", "X-API-Key": "two-keys-of-them"}
            while not ended.is_set():
                request = urllib.request.Request(f"http://127.0.0.1:{port}/search", body, headers)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        answers.append(json.loads(answer.read())["version"])
                except OSError as error:
                    # The door is shut: a connection is refused, but none that was let in is cut off.
                    failures.append(getattr(error, "reason", error))
                    return

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while len(answers) < 40:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while (said := status(port)) == 200:
            time.sleep(0.005)
        seen = len(answers)
        assert said == 503  # the load balancer is told first
        for thread in threads:
            thread.join(60)
        ended.set()
        assert process.wait(60) == 0
    assert len(answers) > seen  # it went on answering meanwhile
    # Between the last look at who stands before the door and its closing the system may take one more.
    resets = [reason for reason in failures if not isinstance(reason, ConnectionRefusedError)]
    assert len(resets) <= 1, resets
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    told = [json.loads(line) for line in lines]
    assert sum(one.get("route") == "/search" for one in told) == len(answers)
    assert "lava number" not in log.read_text()
    assert "keys-of-them" not in log.read_text()


@pytest.fixture
def served(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, int]]:
    """A server in a thread, which hears whoever is inside for as long as it takes; and its port."""
    monkeypatch.setattr(server_module, "_ASKING", 60.0)
    service = service_of(notes_store(tmp_path, work / "finetuned"))
    listening = bind("127.0.0.1", 0)
    port = int(listening.getsockname()[1])
    server = Server(create_app(service), service, ServingSettings(linger_seconds=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield server, port
    server.handle_exit(signal.SIGTERM, None)
    thread.join(60)
    assert not thread.is_alive()


def asked(client: socket.socket) -> bytes:
    """The whole answer to whether it lives; the server closes after it."""
    client.settimeout(60)
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return b"".join(iter(lambda: client.recv(4096), b""))


def test_who_was_let_in_before_the_door_was_shut_is_answered(served: tuple[Server, int]) -> None:
    server, port = served
    with socket.create_connection(("127.0.0.1", port)) as early:
        until(lambda: server.server_state.connections)
        server.handle_exit(signal.SIGTERM, None)
        until(lambda: status(port) == 0)
        answer = asked(early)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer


def test_who_stands_before_the_door_when_it_is_shut_is_let_in(served: tuple[Server, int]) -> None:
    server, port = served
    busy, go = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        assert go.wait(60)
        time.sleep(0.3)  # longer than between two looks at whether it shall end

    server.servers[0].get_loop().call_soon_threadsafe(hold)
    assert busy.wait(60)
    with socket.create_connection(("127.0.0.1", port)) as early:  # the operating system takes it
        server.handle_exit(signal.SIGTERM, None)
        go.set()
        assert asked(early).startswith(b"HTTP/1.1 200 ")


def test_addresses() -> None:
    settings = ServingSettings()
    with bind("127.0.0.1", 0) as here:
        port = here.getsockname()[1]
        assert url_of(here) == f"http://127.0.0.1:{port}"
        assert is_loopback(here)
        assert "localhost" in hosts_for(here, settings)
        assert hosts_for(here, ServingSettings(hosts=("*",))) == ()
        assert hosts_for(here, ServingSettings(hosts=("a.example",))) == ("a.example",)
        with socket.socket() as other, pytest.raises(ConfigError, match="choose another --port"):
            other.bind(("127.0.0.1", 0))
            other.listen()
            bind("127.0.0.1", other.getsockname()[1])
    with pytest.raises(ConfigError, match="no address of this machine"):
        bind("no.such.host.invalid", 0)


def test_the_example_configuration_says_the_defaults() -> None:
    path = ROOT / "configs" / "serving.yaml"
    assert ServingSettings.parse(load_yaml(path), str(path)) == ServingSettings()


def test_a_queue_that_no_request_fits_into_is_refused() -> None:
    with pytest.raises(ConfigError, match="one request may bring 1024"):
        ServingSettings.parse({"queue": {"texts": 100}}, "serving")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--index", "x"], 2, "belong to --model"),
        (["--model", "x", "--store", "y"], 2, "not both"),
        (["--model", "nowhere"], 2, "nowhere"),
        (["--api-key-env", "NOT_SET_AT_ALL"], 2, "not set, or is empty"),
        (["--no-indexing"], 1, "nothing is live yet"),
        (["--config", "nowhere.yaml"], 2, "no such configuration file"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--port", "0", *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(["serve"]) == 1
    assert "pip install 'llara[serve]'" in capsys.readouterr().err


def test_an_empty_store_of_the_checkout_is_filled_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    monkeypatch.setattr(
        "llara_core.cli.project.run_module",
        lambda module, arguments, root: asked.append((module, arguments)) or 2,
    )
    assert run(["serve", "--port", "0"]) == 2
    assert asked == [("pipelines", ["indexing"])]
    assert "make run" in capsys.readouterr().err
