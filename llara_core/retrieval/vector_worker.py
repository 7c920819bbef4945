"""One encoding process: lines of JSON texts in, vectors out. Started by ``vector_processes``, never by hand.

In: a line ``{"kind": "passage", "texts": [...]}``, all but ASCII escaped, so that lone surrogates pass.
Out: lines ``{"texts": n}`` while it goes on, then ``{"shape": [N, D], "tally": {...}}`` followed by the N·D
float32 numbers; ``{"error": message, "type": name}`` where an error of ours ended it. The end of the input
ends the process, so that none outlives whoever started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Any, BinaryIO


def main() -> int:
    """Serve until the input ends; exits 0, or 1 after an error.

    Arguments: folder of the bundle, device or an empty string, threads.
    """
    folder, device, threads = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with vectors
    import torch

    from llara_core.errors import LlaraError
    from llara_core.model.retriever import Retriever

    torch.set_num_threads(int(threads))
    try:
        retriever = Retriever.from_pretrained(folder, device or None)
        _send(output, {"dimension": retriever.dimension})
        for line in sys.stdin.buffer:
            _answer(retriever, json.loads(line), output)
    except LlaraError as error:
        _send(output, {"error": str(error), "type": type(error).__name__})
        return 1
    except BrokenPipeError:
        return 1  # whoever asked is gone
    return 0


def _answer(retriever: Any, request: dict[str, Any], output: BinaryIO) -> None:
    (encoded,) = retriever.encode_blocks(
        [request["texts"]], request["kind"], on_texts=lambda count: _send(output, {"texts": count})
    )
    _send(output, {"shape": list(encoded.vectors.shape), "tally": asdict(encoded.tally)})
    output.write(encoded.vectors.tobytes())
    output.flush()


def _send(output: BinaryIO, message: dict[str, Any]) -> None:
    output.write(json.dumps(message).encode() + b"\n")
    output.flush()


if __name__ == "__main__":
    sys.exit(main())
