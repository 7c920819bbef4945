"""Leak-free subsets as a file: which queries training has not given away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from steps.materializers import FolderArtifact

_FILE = "subsets.arrow"


def write_subsets(subsets: Mapping[str, NDArray[np.bool_]], folder: Path) -> None:
    """Write marks [Q] by name into the folder of an artifact."""
    table = pa.table({name: pa.array(marks, pa.bool_()) for name, marks in subsets.items()})
    with pa.OSFile(str(folder / _FILE), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def open_subsets(artifact: FolderArtifact) -> dict[str, NDArray[np.bool_]]:
    """Name to marks [Q] of the queries that did not leak that way, in the order of ``split_queries``.

    Empty where the collection has no training split.
    """
    if _FILE not in artifact.files:
        return {}
    with pa.OSFile(str(artifact.path / _FILE), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    return {name: table[name].to_numpy() for name in table.column_names}
