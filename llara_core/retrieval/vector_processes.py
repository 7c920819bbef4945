"""Encoding by several processes, one per GPU or several on a CPU, with the bytes of one.

The unit of work is the block of ``vectors.BLOCK`` passages: whoever encodes it, its batches are the same, and
so are its vectors, as long as the processes compute alike: the same kind of device, and on a CPU the same
number of threads (a matrix product split among more threads rounds otherwise). So every process gets as many
threads as this one has; ``OMP_NUM_THREADS`` sets them.

Source: issue 4, point 1.
"""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

import llara_core.errors
from llara_core.environment import of_children, usable_cpus
from llara_core.errors import ConfigError, LlaraError
from llara_core.model.bundle import read_bundle
from llara_core.model.encoded import Encoded, Tally
from llara_core.retrieval.vector_store import Dtype
from llara_core.retrieval.vectors import BLOCK, CorpusVectors, stored_vectors

logger = logging.getLogger(__name__)

_LEAVE = 10.0  # seconds that a process has to end by itself


def encode_corpus(
    model: Path,
    passages: Sequence[str],
    cache: Path | None = None,
    *,
    processes: int = 1,
    device: str | None = None,
    dtype: Dtype = "float32",
    block: int = BLOCK,
) -> CorpusVectors:
    """``vectors.stored_vectors`` of a bundle by as many processes as wanted, with the same bytes.

    Args:
        model: bundle folder.
        passages: N texts.
        cache: folder of the vectors; None: in memory only.
        processes: how many encode; on CUDA one per device.
        device: e.g. ``cpu``; None: CUDA where there is one.
        dtype: of the numbers kept.
        block: passages a block, what one process is given at a time.

    Raises:
        ConfigError: fewer than one process, or more than there are GPUs.
        ModelError: the folder is no bundle, or gives vectors that are not finite.
        LlaraError: a process died.
    """
    if processes == 1:
        from llara_core.model.retriever import Retriever

        encoder = Retriever.from_pretrained(model, device)
        return stored_vectors(encoder, passages, cache, dtype=dtype, block=block)
    with EncoderProcesses(model, processes, device) as several:
        return stored_vectors(several, passages, cache, dtype=dtype, block=block)


class EncoderProcesses:
    """An encoder that is several processes; use it as a context.

    Args:
        model: bundle folder.
        processes: how many; on CUDA at most one per device.
        device: e.g. ``cpu``; ``cuda``: one device each; None: CUDA where there is one.

    Raises:
        ConfigError: fewer than one process, more than there are GPUs, or several on one named GPU.
        ModelError: the folder is no bundle, or its model cannot be loaded.
    """

    def __init__(self, model: Path, processes: int, device: str | None = None) -> None:
        self._model = Path(model).expanduser()
        self._bundle = read_bundle(self._model)
        self._devices = _devices(processes, device)
        self._workers: list[_Worker] = []
        self.dimension = 0

    @property
    def fingerprint(self) -> str:
        """The bundle's."""
        return self._bundle.fingerprint

    @property
    def passage_length(self) -> int:
        """Most tokens of a passage's text."""
        return self._bundle.passage_length

    def __enter__(self) -> Self:
        """Start the processes and wait until each has loaded the model."""
        import torch

        threads = torch.get_num_threads()
        wanted = threads * len(self._devices)
        if self._devices[0] == "cpu" and wanted > usable_cpus():
            logger.warning(
                "%d processes of %d threads share %d CPUs; OMP_NUM_THREADS=%d would be faster (and rounds "
                "otherwise: keep it for all runs whose vectors are to be equal)",
                len(self._devices), threads, usable_cpus(), max(1, usable_cpus() // len(self._devices)),
            )  # fmt: skip
        try:
            self._workers = [_Worker(self._model, device, threads) for device in self._devices]
            for worker in self._workers:
                self.dimension = worker.ready()
        except BaseException:
            self._end(kill=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._end(kill=kind is not None)

    def encode_blocks(
        self,
        blocks: Iterable[Sequence[str]],
        kind: str = "passage",
        *,
        on_texts: Callable[[int], None] | None = None,
    ) -> Iterator[Encoded]:
        """Each block's vectors in the order given; whoever is free takes the next block.

        Raises:
            LlaraError: a process died, or its own error.
        """
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            free.put(worker)

        def encode(texts: Sequence[str]) -> Encoded:
            worker = free.get()
            try:
                return worker.encode(texts, kind, on_texts)
            finally:
                free.put(worker)

        waiting: deque[Future[Encoded]] = deque()
        with ThreadPoolExecutor(len(self._workers)) as pool:
            try:
                for texts in blocks:
                    waiting.append(pool.submit(encode, texts))
                    if len(waiting) > len(self._workers):  # one more than can run: nobody waits for the disk
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._end(kill=True)  # or the pool would wait for blocks that nobody wants
                raise

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 [Q, D]."""
        return self._whole(texts, "query")

    def encode_passages(self, passages: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D]."""
        return self._whole(passages, "passage")

    def _whole(self, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
        blocks = (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))
        parts = [encoded.vectors for encoded in self.encode_blocks(blocks, kind)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def _end(self, *, kill: bool) -> None:
        for worker in self._workers:
            worker.end(kill=kill)


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, model: Path, device: str, threads: int) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "llara_core.retrieval.vector_worker", str(model), device, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=of_children(),
        )
        self._input, self._output = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)

    def ready(self) -> int:
        """Dimension of the vectors, once the model is loaded."""
        return int(self._receive()["dimension"])

    def encode(self, texts: Sequence[str], kind: str, on_texts: Callable[[int], None] | None) -> Encoded:
        request = json.dumps({"kind": kind, "texts": list(texts)}).encode() + b"\n"
        try:
            self._input.write(request)
            self._input.flush()
        except (BrokenPipeError, ValueError):
            raise self._died() from None
        while "texts" in (message := self._receive()):
            if on_texts is not None:
                on_texts(int(message["texts"]))
        count, dimension = message["shape"]
        raw = self._output.read(4 * count * dimension)
        if len(raw) < 4 * count * dimension:
            raise self._died()
        vectors = np.frombuffer(raw, np.float32).reshape(count, dimension)
        return Encoded(vectors, Tally(**message["tally"]))

    def _receive(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            raise self._died()
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise getattr(llara_core.errors, message["type"], LlaraError)(message["error"])
        return message

    def _died(self) -> LlaraError:
        code = self.process.wait(_LEAVE)
        return LlaraError(
            f"an encoding process died (exit code {code}{', killed' if code == -9 else ''}); what it said "
            "stands above. Out of memory? Each process holds the whole model: use fewer. With a cache, "
            "finished blocks are kept and running it again goes on"
        )

    def end(self, *, kill: bool) -> None:
        if kill:
            self.process.kill()
        with suppress(BrokenPipeError):  # when it is gone already
            self._input.close()
        try:
            self.process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()


def _devices(processes: int, device: str | None) -> list[str]:
    """One device a process."""
    import torch

    from llara_core.model.backbone import choose_device

    if processes < 1:
        raise ConfigError(f"processes: got {processes}; at least 1 is needed")
    chosen = choose_device(device)
    if not chosen.startswith("cuda"):
        return [chosen] * processes
    if ":" in chosen and processes > 1:
        raise ConfigError(f"processes: {processes} cannot share {chosen}; give device cuda for one each")
    if processes > torch.cuda.device_count():
        raise ConfigError(
            f"processes: got {processes}, and there are {torch.cuda.device_count()} GPUs; use one a GPU"
        )
    return [chosen] if ":" in chosen else [f"cuda:{number}" for number in range(processes)]
