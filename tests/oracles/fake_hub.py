"""A model hub on this machine: one repository, served from a folder, as huggingface_hub's client asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(repository: str, folder: Path) -> Iterator[str]:
    """The address of a hub that has ``repository``, with the files of ``folder``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, send: bool) -> None:
            path = self.path.partition("?")[0]
            prefix = f"/{repository}/resolve/"
            if path.startswith(f"/api/models/{repository}"):
                self.reply(self.listing(path), send, "application/json")
            elif path.startswith(prefix) and (folder / path[len(prefix) :].split("/", 1)[1]).is_file():
                self.reply((folder / path[len(prefix) :].split("/", 1)[1]).read_bytes(), send, "text/plain")
            else:
                self.send_response(404)
                self.send_header(
                    "X-Error-Code", "EntryNotFound" if path.startswith(prefix) else "RepoNotFound"
                )
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def listing(self, path: str) -> bytes:
            names = sorted(one.name for one in folder.iterdir() if one.is_file())
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": "0" * 40}
                    for name in names
                ]
                return json.dumps(entries).encode()
            siblings = [{"rfilename": name} for name in names]
            return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()

        def reply(self, content: bytes, send: bool, kind: str) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if send:
                self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None:
            """Nothing: a test's output is not its log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
