"""The folder of an index: one manifest that names a state, and that state's files.

    <folder>/index.json            the manifest; replaced in one step, so it names the old state or the new
    <folder>/<state>/ids.arrow     column `_id`, string [N]
                     hashes.npy    uint8 [N, 16], of the passages
                     vectors-00000.npy ...   [N / shards, D] float32 or float16
                     faiss-00000.index ...   of an approximate index; slots-00000.npy: passage of each entry

Nothing is ever pickled. Source: issue 4, point 2.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.files import sha256, unwritable, write_json

MANIFEST, IDS, HASHES = "index.json", "ids.arrow", "hashes.npy"
FORMAT = 1
_VERIFIED_UP_TO = 1 << 28  # bytes of vectors read and compared whenever an index is opened: a second or less
_SEAL = "seal"


@contextmanager
def new_state(folder: Path) -> Iterator[Path]:
    """Give an empty folder for the files of a new state; it is removed if the block raises.

    Until a manifest names it, it is no part of the index; what killed runs left is removed first.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        remove_other_states(folder)
        state = folder / f"state-{uuid.uuid4().hex[:12]}"
        state.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield state
    except BaseException:
        shutil.rmtree(state, ignore_errors=True)
        raise


def remove_other_states(folder: Path) -> None:
    """Remove the states that the manifest does not name: what came before, and what killed runs left."""
    current = read_manifest(folder)["state"] if (folder / MANIFEST).exists() else None
    for left in folder.glob("state-*"):
        if left.name != current:
            shutil.rmtree(left, ignore_errors=True)


def write_manifest(folder: Path, state: Path, facts: Mapping[str, Any]) -> None:
    """Make `state` the state of the index in one step, with the sizes and hashes of its files."""
    files = {path.name: _facts(path) for path in sorted(state.iterdir())}
    manifest = {"format": FORMAT, **facts, "state": state.name, "files": files}
    write_json(folder / MANIFEST, {**manifest, _SEAL: _seal(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an index.

    Raises:
        DataError: the folder is no index, or its manifest was cut off or changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"not an index ({MANIFEST} is missing); make one with `llara index build`", file=folder
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _broken(path, f"is cut off or no JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.pop(_SEAL, None) != _seal(manifest):
        raise _broken(path, "is not as it was written: a value was changed or is missing")
    if manifest["format"] != FORMAT:
        raise _broken(path, f"has format {manifest['format']}, expected {FORMAT}")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], verify: bool | None = None) -> Path:
    """Compare the files of an index with its manifest; returns the folder of its state.

    Args:
        folder: of the index.
        manifest: as read.
        verify: whether the bytes of the vectors are compared too (all else always is); None: up to
            256 MiB. Sizes are compared in any case.

    Raises:
        DataError: a file is missing, cut off or changed.
    """
    state = folder / str(manifest["state"])
    vectors = [name for name in manifest["files"] if name.startswith("vectors-")]
    if verify is None:
        verify = sum(manifest["files"][name]["bytes"] for name in vectors) <= _VERIFIED_UP_TO
    for name, expected in manifest["files"].items():
        path = state / name
        if not path.is_file():
            raise _broken(path, "is missing")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise _broken(path, f"is cut off or changed: it has {size} bytes, expected {expected['bytes']}")
        if (verify or name not in vectors) and sha256(path) != expected["sha256"]:
            raise _broken(path, "was changed: its SHA-256 is not the one noted when it was written")
    return state


def write_ids(path: Path, ids: list[str]) -> None:
    """Write passage ids as an Arrow file."""
    table = pa.table({"_id": pa.array(ids, pa.string())})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_ids(path: Path) -> pa.ChunkedArray:
    """The passage ids, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["_id"]


def read_array(path: Path) -> NDArray[Any]:
    """A memory-mapped array; never a pickled one."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def corpus_hash(ids: list[str], hashes: NDArray[np.uint8]) -> str:
    """SHA-256 over the ids and the hashes of the passages, in their order."""
    digest = hashlib.sha256()
    for one in ids:
        raw = one.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    digest.update(hashes.tobytes())
    return digest.hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _seal(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _broken(path: Path, what: str) -> DataError:
    return DataError(
        f"the index is damaged: this file {what}; build the index again", file=path, rule="index"
    )
