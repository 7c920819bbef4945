"""Secrets of the environment, planted, are in no log, artifact, database or process list after a run."""

from __future__ import annotations

import base64
import http.server
import os
import re
import secrets
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.conftest import write_tiny_beir

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 500  # seconds
NAMES = (
    "LLARA_ALERT_WEBHOOK", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "SOME_SERVICE_PASSWORD", "DATA_PASSWORD",
)  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> dict[str, str]:
    """A different secret for each variable, so that a leak names its source."""
    return {name: f"planted-{number}-{secrets.token_hex(12)}" for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def web(planted: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The collection, on a server that asks for a password; gives the address as a configuration names it."""
    folder = tmp_path_factory.mktemp("web")
    write_tiny_beir(folder / "tiny")
    with zipfile.ZipFile(folder / "tiny.zip", "w") as archive:
        for path in sorted((folder / "tiny").rglob("*")):
            archive.write(path, path.relative_to(folder))
    wanted = base64.b64encode(f"user:{planted['DATA_PASSWORD']}".encode()).decode()

    content = (folder / "tiny.zip").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        """Serves one file, in ranges, to whoever knows the password."""

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Basic {wanted}":
                self.send_error(401)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = int(asked[1]) if asked else 0
            last = min(int(asked[2]) if asked and asked[2] else len(content), len(content) - 1)
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[first : last + 1])

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:$DATA_PASSWORD@127.0.0.1:{server.server_port}/tiny.zip"
        server.shutdown()


class ProcessLists:
    """Looks at every process's command line until it is stopped."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self) -> None:
        while not self.stop.wait(0.05):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    self.seen.add(place.read_bytes())

    def close(self) -> bytes:
        self.stop.set()
        self.thread.join()
        return b"\n".join(self.seen)


def run(config: Path, local: Path, planted: dict[str, str], *module: str) -> tuple[int, str, bytes]:
    """Exit code, everything printed, and every command line that was to be seen meanwhile."""
    dropped = ("ZENML_", "MLFLOW_", "LLARA_", "AWS_", "HF_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    webhook = f"http://127.0.0.1:9/{planted['LLARA_ALERT_WEBHOOK']}"  # nobody listens there
    environment = {
        **kept,
        **planted,
        "LLARA_LOCAL": str(local),
        "LLARA_ALERT_WEBHOOK": webhook,
        "HF_HUB_OFFLINE": "1",
    }
    lists = ProcessLists()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *module, "--config", str(config), "--debug"],
            cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        commands = lists.close()
    return done.returncode, done.stdout + done.stderr, commands


def leaks(planted: dict[str, str], local: Path, printed: str, commands: bytes) -> list[str]:
    """``variable: place`` for every place that holds a secret."""
    places = {"what was printed": printed.encode(), "process lists": commands}
    places |= {str(path.relative_to(local)): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    return [
        f"{name}: {place}"
        for name, secret in planted.items()
        for place, content in places.items()
        if secret.encode() in content or base64.b64encode(secret.encode())[:-4] in content
    ]


def written(folder: Path, source: str, **more: object) -> Path:
    values = yaml.safe_load((REPOSITORY / "configs" / "tiny.yaml").read_text(encoding="utf-8"))
    values["parameters"]["collection"]["source"] = source
    values["parameters"] |= more
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def test_the_search_for_leaks_finds_them(planted: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"token={planted['HF_TOKEN']}")
    assert leaks(planted, tmp_path, planted["DATA_PASSWORD"], b"") == [
        "HF_TOKEN: log",
        "DATA_PASSWORD: what was printed",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc to look at processes")
def test_a_run_leaves_no_secret(planted: dict[str, str], web: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    code, printed, commands = run(written(tmp_path, web), tmp_path / "local", planted, "training")
    assert code == 0, printed
    assert len(commands) > 1000
    assert "pipelines\0training" in commands.decode(errors="replace")
    assert list((tmp_path / "local").rglob("mlflow.db"))
    assert leaks(planted, tmp_path / "local", printed, commands) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc to look at processes")
def test_a_run_that_fails_leaves_no_secret(planted: dict[str, str], web: str, tmp_path: Path) -> None:
    """The password is wrong, the alert cannot be delivered, and tracebacks are on."""
    pytest.importorskip("aiohttp")
    wrong = {**planted, "DATA_PASSWORD": f"{planted['DATA_PASSWORD']}-wrong"}
    code, printed, commands = run(written(tmp_path, web), tmp_path / "local", wrong, "training")
    assert code != 0
    assert "was not delivered" in printed
    assert leaks(planted, tmp_path / "local", printed, commands) == []
