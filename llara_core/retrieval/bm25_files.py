"""A BM25 index on disk: three arrays as npy, the vocabulary as Arrow, the settings as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.files import write_json
from llara_core.retrieval.bm25_postings import Postings

FACTS, _VOCABULARY = "bm25.json", "terms.arrow"
_SCHEMA = 1  # raised when files or the meaning of a score change
_ARRAYS = {"data": np.float32, "rows": np.int32, "starts": np.int64}
FILES = (FACTS, _VOCABULARY, *(f"{name}.npy" for name in _ARRAYS))
_TERMS = pa.schema([("term", pa.string())])


def write_index(folder: Path, settings: Bm25Settings, postings: Postings, vocabulary: dict[str, int]) -> None:
    """Write an index into an empty folder.

    Args:
        folder: exists.
        settings: what the index was built with.
        postings: arrays of V terms.
        vocabulary: V terms in the order of their numbers.
    """
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(postings, name), allow_pickle=False)
    table = pa.table({"term": list(vocabulary)}, schema=_TERMS)
    with pa.OSFile(str(folder / _VOCABULARY), "wb") as sink, pa.ipc.new_file(sink, _TERMS) as writer:
        writer.write_table(table)
    facts = {
        "schema": _SCHEMA, "settings": settings.model_dump(mode="json"), "passages": postings.passages,
        "terms": len(vocabulary), "postings": len(postings.data),
    }  # fmt: skip
    write_json(folder / FACTS, facts)


def read_index(folder: Path) -> tuple[Bm25Settings, Postings, dict[str, int]]:
    """Open what ``write_index`` wrote; arrays are memory-mapped.

    Raises:
        DataError: it is not there, damaged, or of another version; says how to mend it.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["schema"] != _SCHEMA:
            raise ValueError(f"written by another version (schema {facts['schema']}, expected {_SCHEMA})")
        settings = Bm25Settings(**facts["settings"])
        sizes = {"data": facts["postings"], "rows": facts["postings"], "starts": facts["terms"] + 1}
        arrays = {name: _array(folder / f"{name}.npy", size) for name, size in sizes.items()}
        with pa.memory_map(str(folder / _VOCABULARY)) as source:
            terms = pa.ipc.open_file(source).read_all()["term"].to_pylist()
        if len(terms) != facts["terms"] or int(arrays["starts"][-1]) != facts["postings"]:
            raise ValueError("vocabulary and arrays do not belong together")
    except (OSError, EOFError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"not a BM25 index that can be read ({error}); remove the folder and index again", file=folder
        ) from error
    vocabulary = {term: number for number, term in enumerate(terms)}
    return settings, Postings(**arrays, passages=facts["passages"]), vocabulary


def _array(path: Path, size: int) -> NDArray[Any]:
    """A memory-mapped array [size] of the type that its name calls for."""
    values = np.load(path, mmap_mode="r" if size else None, allow_pickle=False)
    if values.shape != (size,) or values.dtype != _ARRAYS[path.stem]:
        raise ValueError(f"{path.name} is {values.dtype} {list(values.shape)}, expected {size} numbers")
    plain: NDArray[Any] = values.view(np.ndarray)  # slices of a memmap cost more than those of an array
    return plain
