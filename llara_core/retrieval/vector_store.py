"""Vectors of a corpus on disk: a folder that appears whole, and a hidden one until then.

    <cache>/<model>-<corpus>-<dtype>/          vectors.npy  [N, D]
                                               hashes.npy   uint8 [N, 16], of the passages in their order
                                               manifest.json
    <cache>/.<model>-<corpus>-<dtype>.partial/ the same while it is filled, and rows.npy: the rows to encode

Blocks of ``rows.npy`` are the unit of work: the manifest of a partial folder names the finished ones, each
written to the disk before it is named. A kill loses the block it hits and nothing else.

Source: issue 4, point 1.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llara_core.files import unwritable, write_json

logger = logging.getLogger(__name__)

Dtype = Literal["float32", "float16"]
Hashes = NDArray[np.uint8]
FORMAT = 1
VECTORS, HASHES, ROWS, MANIFEST = "vectors.npy", "hashes.npy", "rows.npy", "manifest.json"
_POLL = 0.2  # seconds between two tries for a lock that another process holds


@dataclass(frozen=True)
class Key:
    """What vectors depend on, and thus the name of their folder.

    Args:
        fingerprint: of the encoder.
        dimension: D.
        dtype: of the numbers on disk.
        hashes: uint8 [N, 16], of the passages in their order.
    """

    fingerprint: str
    dimension: int
    dtype: Dtype
    hashes: Hashes

    @property
    def model(self) -> str:
        """Short name of the encoder."""
        return hashlib.sha256(self.fingerprint.encode()).hexdigest()[:20]

    @property
    def name(self) -> str:
        """Name of the folder."""
        corpus = hashlib.sha256(self.hashes.tobytes()).hexdigest()[:20]
        return f"{self.model}-{corpus}-{self.dtype}"

    def manifest(self) -> dict[str, Any]:
        """The part of a manifest that says what the vectors are."""
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "dimension": self.dimension,
            "dtype": self.dtype,
            "count": len(self.hashes),
        }


def open_vectors(folder: Path, key: Key) -> NDArray[Any] | None:
    """The finished vectors of a folder, memory-mapped read-only; None, with a warning, when they are wrong.

    Args:
        folder: perhaps missing.
        key: what they should be.
    """
    if not folder.is_dir():
        return None
    try:
        facts = read_manifest(folder)
        vectors: NDArray[Any] = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        hashes = np.load(folder / HASHES, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, KeyError) as error:
        logger.warning("stored vectors %s cannot be read (%s); encoding again", folder, error)
        return None
    expected = key.manifest()
    have = {name: facts.get(name) for name in expected}
    shape = (len(key.hashes), key.dimension)
    if have != expected or vectors.shape != shape or vectors.dtype != np.dtype(key.dtype):
        logger.warning(
            "stored vectors %s are %s of %s, expected %s of %s; encoding again",
            folder, vectors.dtype, vectors.shape, key.dtype, shape,
        )  # fmt: skip
        return None
    if not np.array_equal(hashes, key.hashes):
        logger.warning("stored vectors %s are of other passages; encoding again", folder)
        return None
    return vectors


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder's manifest says.

    Raises:
        OSError: there is none.
        ValueError: it is not a JSON object.
    """
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"{MANIFEST} is no JSON object")
    return facts


def earlier(cache: Path, key: Key) -> Iterator[tuple[Hashes, NDArray[Any]]]:
    """Hashes and vectors of every finished folder of the same model and dtype, by name."""
    for folder in sorted(cache.glob(f"{key.model}-*-{key.dtype}")):
        try:
            facts = read_manifest(folder)
            hashes = np.load(folder / HASHES, allow_pickle=False)
            vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            logger.warning("stored vectors %s cannot be read (%s); left out", folder, error)
            continue
        same = facts.get("fingerprint") == key.fingerprint and vectors.dtype == np.dtype(key.dtype)
        if same and vectors.shape == (len(hashes), key.dimension):
            yield hashes, vectors


class Partial:
    """A folder that is being filled.

    Args:
        folder: hidden; made by ``create``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = {}

    def resume(self, key: Key, block: int) -> NDArray[np.int64] | None:
        """The rows to encode, as an interrupted run has left them; None when there is nothing left."""
        try:
            self.manifest = read_manifest(self.folder)
            rows: NDArray[np.int64] = np.load(self.folder / ROWS, allow_pickle=False)
            vectors = np.load(self.folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return None
        expected = {**key.manifest(), "block": block}
        have = {name: self.manifest.get(name) for name in expected}
        if have != expected or vectors.shape != (len(key.hashes), key.dimension):
            return None
        return rows

    def create(self, key: Key, rows: NDArray[np.int64], block: int) -> None:
        """Start anew: room for all vectors, and the plan; ``save`` must follow once known rows are copied."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        np.save(self.folder / HASHES, key.hashes, allow_pickle=False)
        np.save(self.folder / ROWS, rows, allow_pickle=False)
        shape = (len(key.hashes), key.dimension)
        path = self.folder / VECTORS
        del_me = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(key.dtype), shape=shape)
        del del_me  # only the header and the size were wanted
        _reserve(path)
        self.manifest = {**key.manifest(), "block": block, "done": [], "copied": 0}
        self.manifest["encoded"] = {}

    def write(self, rows: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        """Write the vectors of some rows through to the disk."""
        whole = np.load(self.folder / VECTORS, mmap_mode="r+", allow_pickle=False)
        whole[rows] = vectors
        whole.flush()  # and unmapped on return: pages written stay in no process's memory

    def save(self) -> None:
        """Write the manifest."""
        write_json(self.folder / MANIFEST, self.manifest)

    def finish(self, target: Path) -> None:
        """Give the folder its name; one that stands there and was found wanting goes."""
        (self.folder / ROWS).unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        self.folder.rename(target)


def _reserve(path: Path) -> None:
    """Claim the disk's blocks now: writing to a map of a full disk would kill the process without a word."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def workplace(cache: Path, name: str) -> Iterator[Path]:
    """The partial folder to work in, held against other processes for as long as the block lasts.

    A second process waits here until the first is done or dead. Where the file system has no locks, each
    gets a folder of its own, which cannot be resumed.

    Raises:
        DataError: the cache folder cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = _lock(cache / f".{name}.lock")
    except OSError as error:
        raise unwritable(cache, error) from None
    if lock is None:
        own = cache / f".{name}.{uuid.uuid4().hex[:8]}.partial"
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)
        return
    try:
        yield cache / f".{name}.partial"
    finally:
        (cache / f".{name}.lock").unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path) -> int | None:
    """A locked file's handle; None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle  # and not one that its last holder has just removed
        except BlockingIOError:
            if not told:
                logger.info("another process encodes the same passages (%s); waiting for it", path)
                told = True
            time.sleep(_POLL)
        except FileNotFoundError:
            pass  # removed between two looks
        except OSError as error:
            os.close(handle)
            logger.info("%s: no locks on this file system (%s); working in a folder of its own", path, error)
            return None
        os.close(handle)
