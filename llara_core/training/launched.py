"""One of the processes that train: ``accelerate launch … -m llara_core.training.launched FOLDER``.

It says nothing to whoever started it but through the launch's folder: its output (that of C++ code too) goes
to ``process-<rank>.log``, the main process's curve to ``curve.jsonl``, an error to ``failure-<rank>.json``.
The launcher's own output then holds the launcher's words alone, and a user sees the child's message in place
of the launcher's trace. It ends when the process that launched it does, however that one ended.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llara_core.errors import LlaraError
from llara_core.files import write_json
from llara_core.training.stage_request import StageRequest

REQUEST, CURVE, ALIVE, ENDED = "request.json", "curve.jsonl", "alive.lock", "ended-{}"
LOG, FAILURE = "process-{}.log", "failure-{}.json"

# By name: what imports this module shall not depend on both stages (steps are cached on what they import).
STAGES = {"adapt": "llara_core.training.stage_adapt", "finetune": "llara_core.training.stage_finetune"}

_LOOK = 0.5  # seconds between two looks whether the launching process lives
# What torch says where another process has gone: not this process's fault, but the consequence of one.
_PEER_GONE = (
    "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused", "NCCL",
    "Socket Timeout", "Timed out waiting", "store->get", "Gloo", "gloo", "the main process failed",
)  # fmt: skip


def main(folder: Path) -> int:
    """Do this process's part of the stage; returns the exit code."""
    number = int(os.environ.get("RANK") or 0)
    _speak_into(folder / LOG.format(number), loud=number == 0)
    _end_with_launcher(folder / ALIVE)
    try:
        request = StageRequest.read(folder / REQUEST)
        from llara_core.training.distributed import leave

        stage = importlib.import_module(STAGES[request.stage])
        stage.run(request, _curve_writer(folder / CURVE) if number == 0 else None)
        leave()
    except Exception as error:
        _tell(folder, number, error)
        return 1
    (folder / ENDED.format(number)).touch()
    return 0


def _speak_into(file: Path, *, loud: bool) -> None:
    """Send stdout and stderr to a file, for Python and everything beneath it; only one process is loud."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    faulthandler.enable()  # a crash in C++ says where it was called from
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("llara_core").setLevel(logging.INFO if loud else logging.WARNING)
    # Imported by peft wherever it is installed, it regrets a kernel for CPUs that nobody asked for.
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def _end_with_launcher(lock: Path) -> None:
    """Watch the launching process, which holds a lock as long as it lives; without it, end at once."""
    try:
        import fcntl
    except ImportError:  # Windows: an orphan ends when its partners do
        return

    def watch() -> None:
        while True:
            time.sleep(_LOOK)
            try:
                with lock.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # held: it lives
            except OSError:
                pass  # the folder is gone, and so is whoever made it
            os.kill(os.getpid(), signal.SIGKILL)  # checkpoints are whole or absent at any moment

    threading.Thread(target=watch, name="watch-launcher", daemon=True).start()


def _curve_writer(file: Path) -> Callable[[int, Mapping[str, float]], None]:
    def on_log(step: int, values: Mapping[str, float]) -> None:
        with file.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps([step, dict(values)]) + "\n")

    return on_log


def _tell(folder: Path, number: int, error: Exception) -> None:
    """Leave word of what went wrong, and whether it is only that another process has gone."""
    ours, text = isinstance(error, LlaraError), str(error)
    gone = any(sign in text for sign in _PEER_GONE) and (not ours or text.startswith(_PEER_GONE[-1]))
    if not ours and not gone:  # where another process has gone, a trace of this one leads nowhere
        logging.getLogger(__name__).exception("process %d", number)
    failure: dict[str, Any] = {
        "process": number, "time": time.time(), "ours": ours, "type": type(error).__name__, "message": text,
        "consequence": gone,
    }  # fmt: skip
    write_json(folder / FAILURE.format(number), failure)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    logging.shutdown()
    # Without waiting for threads of a communication library whose partners may have gone.
    os._exit(code)
