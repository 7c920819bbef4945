"""Arrow tables as artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from steps.materializers import FolderArtifact
from steps.workspace import new_folder

_FILE = "table.arrow"


def store_table(table: pa.Table, name: str, **facts: Any) -> FolderArtifact:
    """The table as an artifact, with remarks on it."""
    folder = new_folder(name)
    write_table(table, folder)
    return FolderArtifact.of(folder, facts={"rows": table.num_rows, **facts})


def store_written(file: Path, rows: int, **facts: Any) -> FolderArtifact:
    """A table as an artifact that was written row by row to ``table_file``: it may not fit into memory."""
    return FolderArtifact.of(file.parent, facts={"rows": rows, **facts})


def table_file(name: str) -> Path:
    """Where a table may be written for ``store_written``."""
    folder = new_folder(name)
    folder.mkdir(parents=True)
    return folder / _FILE


def write_table(table: pa.Table, folder: Path) -> Path:
    """Write the file that ``open_table`` reads into a new folder; returns its path."""
    folder.mkdir(parents=True)
    file = folder / _FILE
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return file


def file_of(artifact: FolderArtifact) -> Path:
    """The Arrow file of a table's artifact."""
    return artifact.path / _FILE


def open_table(artifact: FolderArtifact) -> pa.Table:
    """The table of an artifact, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(file_of(artifact)))).read_all()
