"""Runs stories in forks of itself that are killed: a request a line on stdin, an answer a line on stdout.

Request: ``{"story": …, "store": …, "bundles": …, "kill_at": N}``: SIGKILL before the Nth file operation;
null: never. Answer: ``{"signal": …, "operations": …}``. A fork costs milliseconds, a new
Python seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.operations.live_stories import STORIES

# What Python tells its auditors before it does it: everything that changes a folder, and every open file.
_OPERATIONS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod",
    "shutil.copyfile", "shutil.copytree", "shutil.rmtree", "tempfile.mkstemp", "tempfile.mkdtemp",
}  # fmt: skip


def run(request: dict[str, Any], report: int) -> None:
    """The story, counting what it does to files below its store."""
    count, fatal, below = 0, request["kill_at"], request["store"]

    def audit(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _OPERATIONS or not any(below in str(value) for value in values):
            return
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    STORIES[request["story"]](Path(request["store"]), Path(request["bundles"]))
    os.write(report, str(count).encode())


def say(value: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(request, writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        if request.get("tell_pid"):
            say({"pid": child})
        with os.fdopen(reading) as told:
            words = told.read()
        _, status = os.waitpid(child, 0)
        fatal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        answer = {"signal": fatal, "code": None if fatal else os.WEXITSTATUS(status), "operations": words}
        say(answer)


if __name__ == "__main__":
    main()
