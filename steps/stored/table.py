"""Arrow tables as artifacts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.ipc

from steps.materializers import FolderArtifact
from steps.workspace import new_folder

_FILE = "table.arrow"


def store_table(table: pa.Table, name: str, **facts: Any) -> FolderArtifact:
    """The table as an artifact, with remarks on it."""
    folder = new_folder(name)
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / _FILE), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return FolderArtifact.of(folder, facts={"rows": table.num_rows, **facts})


def open_table(artifact: FolderArtifact) -> pa.Table:
    """The table of an artifact, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(artifact.path / _FILE))).read_all()
