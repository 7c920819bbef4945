"""A hub on this machine: repositories served from folders, as huggingface_hub's client asks for them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(
    repository: str, folder: Path, others: Mapping[str, Path] | None = None, kind: str = "models"
) -> Iterator[str]:
    """The address of a hub that has ``repository``, with the files of ``folder``, and perhaps others.

    ``kind`` is ``models`` or ``datasets``.
    """
    folders = {repository: folder, **(others or {})}
    where = "" if kind == "models" else f"/{kind}"

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, send: bool) -> None:
            path = self.path.partition("?")[0]
            listed = known = None
            for name, place in folders.items():
                if f"{path}/".startswith(f"/api/{kind}/{name}/"):
                    listed = name, place
                if path.startswith(f"{where}/{name}/resolve/"):
                    known = place / path[len(f"{where}/{name}/resolve/") :].split("/", 1)[1]
            if listed is not None:
                self.reply(self.listing(path, *listed), send, "application/json")
            elif known is not None and known.is_file():
                self.reply(known.read_bytes(), send, "text/plain")
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound" if known is None else "EntryNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def listing(self, path: str, name: str, place: Path) -> bytes:
            names = sorted(str(one.relative_to(place)) for one in place.rglob("*") if one.is_file())
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": one, "size": (place / one).stat().st_size, "oid": "0" * 40}
                    for one in names
                ]
                return json.dumps(entries).encode()
            siblings = [{"rfilename": one} for one in names]
            return json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()

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
