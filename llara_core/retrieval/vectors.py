"""Vectors of a corpus: each text encoded once per model, streamed to a memory-mapped matrix, resumable."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import DataError, ModelError
from llara_core.files import mark_used, unwritable
from llara_core.model.encoded import Encoded, Tally, check_finite
from llara_core.progress import Progress
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.vector_rows import find_rows, first_rows
from llara_core.retrieval.vector_store import VECTORS, Dtype, Key, Partial, earlier, open_vectors, workplace

logger = logging.getLogger(__name__)

# Passages a block: what a kill can lose, and what is sorted by length together.
BLOCK = 16384


class Encoder(Protocol):
    """What search needs of a retriever; ``llara_core.model.retriever.Retriever`` is one."""

    @property
    def dimension(self) -> int:
        """Length D of its vectors."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when anything does that could change a vector."""
        ...

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 [Q, D]."""
        ...

    def encode_passages(self, passages: list[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D]."""
        ...


@runtime_checkable
class BlockEncoder(Protocol):
    """An encoder that takes block after block, and may work on several at once."""

    def encode_blocks(
        self, blocks: Iterable[Sequence[str]], *, on_texts: Callable[[int], None] | None = None
    ) -> Iterator[Encoded]:
        """Vectors float32 [N, D] of each block, in the order given."""
        ...


@dataclass(frozen=True)
class CorpusVectors:
    """Vectors of a corpus and how they came about.

    Args:
        vectors: [N, D] float32 or float16; a read-only memory-map where there is a cache.
        hashes: uint8 [N, 16], of the passages in their order.
        facts: ``passages``, ``encoded``, ``copied`` (rows taken from other passages of the same text or from
            earlier vectors), ``resumed`` (rows that an interrupted run had encoded), ``seconds`` of this
            call, and where the encoder tells: ``cut`` passages of those encoded, their ``tokens``, and
            ``tokens_per_second``.
        folder: where they lie; None: in memory only.
    """

    vectors: NDArray[Any]
    hashes: NDArray[np.uint8]
    facts: dict[str, Any]
    folder: Path | None = None


def content_hash(passages: Sequence[str]) -> str:
    """Return the SHA-256 of the passages in their order; no two lists share one by joining alike."""
    digest = hashlib.sha256()
    for text in passages:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def corpus_vectors(
    encoder: Encoder, passages: Sequence[str], cache: Path | None = None, *, dtype: Dtype = "float32"
) -> NDArray[Any]:
    """Return the passages' vectors [N, D], from the cache where it has them (see ``stored_vectors``)."""
    return stored_vectors(encoder, passages, cache, dtype=dtype).vectors


def stored_vectors(
    encoder: Encoder,
    passages: Sequence[str],
    cache: Path | None = None,
    *,
    dtype: Dtype = "float32",
    block: int = BLOCK,
) -> CorpusVectors:
    """Encode a corpus block by block, each text once, and keep the result.

    1. Vectors of exactly these passages, if the cache has them, are mapped into memory and returned.
    2. A text that stands in several rows is encoded once; a text whose vector lies in the cache under another
       corpus of the same model and dtype is not encoded at all.
    3. The rest is encoded in blocks. A run that was killed is gone on with where it was: finished blocks
       stay, and the bytes are those of a run that was not.

    Which rows share a batch depends on the blocks alone, so the bytes do not depend on how many processes
    encode them (``vector_processes``). A row copied in step 2 may differ from one encoded anew by the
    rounding of another batch.

    Args:
        encoder: the model; asked for ``encode_blocks`` where it has it, else for ``encode_passages``.
        passages: N texts, as ``Collection.passages`` gives them; read block by block.
        cache: folder of ``vector_store`` folders, made when missing; None: in memory only.
        dtype: of the numbers kept.
        block: passages a block.

    Raises:
        ModelError: the encoder gives another shape than [N, D], or a vector with NaN or infinity (the
            message names the passage's row).
        DataError: the cache folder cannot be written.

    Source: issue 4, point 1.
    """
    started = time.monotonic()
    key = Key(encoder.fingerprint, encoder.dimension, dtype, passage_hashes(passages))
    work = _Work(encoder, passages, key, block)
    if cache is None or not len(passages):
        return work.result(work.in_memory(), None, started)
    target = cache / key.name
    vectors = open_vectors(target, key)
    if vectors is None:
        with workplace(cache, key.name) as folder:
            vectors = open_vectors(target, key)  # another process may have been quicker
            if vectors is None:
                try:
                    work.on_disk(cache, Partial(folder), target)
                except OSError as error:
                    raise unwritable(cache, error) from None
                vectors = open_vectors(target, key)
    if vectors is None:
        raise DataError("the vectors just written cannot be read again; is the disk sound?", file=target)
    if not work.encoded:
        mark_used(target)
        logger.info("vectors of %d passages taken from %s", len(passages), target.name)
    return work.result(vectors, target, started)


class _Work:
    """One call of ``stored_vectors``."""

    def __init__(self, encoder: Encoder, passages: Sequence[str], key: Key, block: int) -> None:
        self.encoder, self.passages, self.key, self.block = encoder, passages, key, block
        self.encoded = self.resumed = self.copied = 0
        self.before, self.tally = Tally(), Tally()  # of an interrupted run, and of this one

    def in_memory(self) -> NDArray[Any]:
        vectors = np.empty((len(self.passages), self.key.dimension), self.key.dtype)
        first = first_rows(self.key.hashes)
        rows = np.flatnonzero(first == np.arange(len(first)))
        for _, some, encoded in self._encode(rows, set()):
            vectors[some] = encoded
        for some in _parts(np.flatnonzero(first != np.arange(len(first))), self.block):
            vectors[some] = vectors[first[some]]
            self.copied += len(some)
        return vectors

    def on_disk(self, cache: Path, partial: Partial, target: Path) -> None:
        first = first_rows(self.key.hashes)
        unique = np.flatnonzero(first == np.arange(len(first)))
        rows = partial.resume(self.key, self.block)
        if rows is None:
            rows = self._start(cache, partial, unique)
        else:
            self.copied = int(partial.manifest["copied"])
            self.before = Tally(**partial.manifest["encoded"])
            self.resumed = sum(len(rows[self._slice(number)]) for number in partial.manifest["done"])
            logger.info("going on where an interrupted run was: %d passages are done", self.resumed)
        for number, some, vectors in self._encode(rows, set(partial.manifest["done"])):
            partial.write(some, vectors)
            partial.manifest["done"].append(number)
            partial.manifest["encoded"] = asdict(self._all())
            partial.save()
        whole = np.load(partial.folder / VECTORS, mmap_mode="r", allow_pickle=False)
        for some in _parts(np.flatnonzero(first != np.arange(len(first))), self.block):
            partial.write(some, np.array(whole[first[some]]))
            self.copied += len(some)
        partial.finish(target)

    def _start(self, cache: Path, partial: Partial, unique: NDArray[np.int64]) -> NDArray[np.int64]:
        """Copy what other corpora's vectors hold; returns the rows that are left to encode."""
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]] = []
        rows = unique
        for hashes, vectors in earlier(cache, self.key):
            places = find_rows(self.key.hashes[rows], hashes)
            found.append((rows[places >= 0], places[places >= 0], vectors))
            rows = rows[places < 0]
        partial.create(self.key, rows, self.block)
        for to, places, vectors in found:
            for start in range(0, len(to), self.block):
                part = slice(start, start + self.block)
                partial.write(to[part], np.array(vectors[places[part]]))
            self.copied += len(to)
        partial.manifest["copied"] = self.copied
        partial.save()
        return rows

    def _slice(self, number: int) -> slice:
        return slice(number * self.block, (number + 1) * self.block)

    def _encode(
        self, rows: NDArray[np.int64], done: set[int]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """Number, rows and vectors of every block that is not done."""
        numbers = [number for number in range(-(-len(rows) // self.block)) if number not in done]
        if not numbers:
            return
        with Progress("encode passages", total=len(rows), unit="passages") as bar:
            bar.skip(sum(len(rows[self._slice(number)]) for number in done))
            texts = (self._texts(rows[self._slice(number)]) for number in numbers)
            for number, encoded in zip(numbers, _blocks(self.encoder, texts, bar.update), strict=True):
                some = rows[self._slice(number)]
                expected = (len(some), self.key.dimension)
                if encoded.vectors.shape != expected:
                    raise ModelError(
                        f"the encoder returned vectors of shape {encoded.vectors.shape}, expected {expected}"
                    )
                check_finite(encoded.vectors, some.tolist(), self.passages.__getitem__)
                self.encoded += len(some)
                self.tally.add(encoded.tally)
                yield number, some, encoded.vectors

    def _texts(self, rows: NDArray[np.int64]) -> list[str]:
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if stop - start == len(rows):  # neighbours come cheaper than one by one
            return list(self.passages[start:stop])
        return [self.passages[int(row)] for row in rows]

    def _all(self) -> Tally:
        every = Tally()
        every.add(self.before)
        every.add(self.tally)
        return every

    def result(self, vectors: NDArray[Any], folder: Path | None, started: float) -> CorpusVectors:
        """What the caller gets; says how many passages were cut."""
        seconds = time.monotonic() - started
        facts: dict[str, Any] = {
            "passages": len(self.passages), "encoded": self.encoded, "resumed": self.resumed,
            "copied": self.copied, "seconds": round(seconds, 3),
        }  # fmt: skip
        every = self._all()
        if every.tokens:  # an encoder that counts
            facts |= {"cut": every.cut, "tokens": every.tokens}
            facts["tokens_per_second"] = round(self.tally.tokens / max(seconds, 1e-9), 1)
            most = getattr(self.encoder, "passage_length", None)
            place = "" if most is None else f" at {most} tokens"
            logger.info("%d of %d passages were cut%s", every.cut, every.texts, place)
        return CorpusVectors(vectors, self.key.hashes, facts, folder)


def _blocks(
    encoder: Encoder, texts: Iterable[list[str]], on_texts: Callable[[int], None]
) -> Iterator[Encoded]:
    if isinstance(encoder, BlockEncoder):
        yield from encoder.encode_blocks(texts, on_texts=on_texts)
        return
    for some in texts:
        vectors = np.asarray(encoder.encode_passages(some), np.float32)
        on_texts(len(some))
        yield Encoded(vectors, Tally(len(some)))


def _parts(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
