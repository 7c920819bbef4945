"""Rows that were put aside or marked: written down as they are met, looked at and mended later.

An Arrow file, written a thousand rows at a time and memory-mapped by readers, so that a source of which
half is broken costs no more memory than a sound one. Issue 5, point 3.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from typing_extensions import Self

from llara_core.data.raw import KEPT_BYTES, Raw
from llara_core.errors import DataError
from llara_core.files import new_file

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),  # 1-based line or row in the file
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("action", pa.string()),  # of ACTIONS
        ("raw", pa.binary()),  # as read, at most KEPT_BYTES; empty for most marked rows
        ("size", pa.int64()),  # bytes of the whole row
        ("offset", pa.int64()),  # in the unpacked file; -1: unknown
        ("role", pa.string()),  # of the file, as in raw.SourceFile
        ("record", pa.string()),  # JSON of the parsed row; null where it could not be parsed
    ]
)
ACTIONS = ("quarantine", "flag", "repair", "drop")  # the row is out; in; in, its text mended; out for good
FILE = "quarantine.arrow"
_ROWS, _BYTES = 1000, 4 << 20  # written at a time, whichever comes first
_MARKED_WHOLE = 1000  # rows of each rule that are marked, not put aside, and still kept with their text
_HIDDEN = "\0"  # what readers add to a record for converters begins with it


class QuarantineWriter:
    """Writes ``folder/quarantine.arrow``; use it as a context."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._rows: list[tuple[Any, ...]] = []
        self._held = 0
        self._marked: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Open the file."""
        self._sink = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left and close the file."""
        try:
            self._flush()
            self._writer.close()
        finally:
            self._sink.close()

    def add(self, role: str, file: str, raw: Raw, rule: str, reason: str, action: str) -> None:
        """Write one row and one rule down.

        Args:
            role: of the row's file.
            file: where the row lies.
            raw: the row.
            rule: its name.
            reason: what was found and what to do.
            action: one of ``ACTIONS``.
        """
        whole = action in ("quarantine", "drop")
        if not whole:
            self._marked[rule] += 1
            whole = self._marked[rule] <= _MARKED_WHOLE
        held = raw.raw if whole else b""
        record = _as_json(raw.record) if whole and raw.record is not None else None
        self._rows.append(
            (file, raw.number, rule, _printable(reason), action, held, raw.size, raw.offset, role, record)
        )
        self._held += len(held)
        if len(self._rows) >= _ROWS or self._held >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        self._rows, self._held = [], 0


def open_quarantine(folder: Path) -> pa.Table:
    """The table of ``SCHEMA`` below an ingested folder, memory-mapped.

    Args:
        folder: what ``ingest`` wrote, or its ``quarantine`` folder.

    Raises:
        DataError: there is none.
    """
    for file in (folder / "quarantine" / FILE, folder / FILE):
        if file.is_file():
            return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    raise DataError(
        f"no quarantine here; expected a folder that `llara data ingest` wrote, with quarantine/{FILE}",
        file=folder,
        rule="file_exists",
    )


def write_repair(folder: Path, target: Path, *, flagged: bool = False) -> int:
    """Write the rows that were put aside as JSON lines that a person edits; returns their number.

    Each line holds ``file``, ``row``, ``rule`` and ``reason``, and then either ``record``, the parsed row,
    or ``raw``, the row as it stands, where it could not be parsed. The person mends ``record`` or ``raw``
    (a mended ``raw`` may be replaced by a ``record``), or writes ``"drop": true``. ``source`` ties the
    line to the bytes that were read. ``ingest`` takes the file back.

    Args:
        folder: what ``ingest`` wrote, or its ``quarantine`` folder.
        target: the file to write, whole or not at all.
        flagged: write the rows too that were taken in and marked, as far as their text was kept.

    Raises:
        DataError: there is no quarantine, or the file cannot be written.
    """
    table = open_quarantine(folder)
    count = 0
    with new_file(target) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows_of(table, *(("quarantine", "flag") if flagged else ("quarantine",))):
            if not row["raw"] and row["record"] is None:
                continue
            record = None if row["record"] is None else json.loads(row["record"])
            place = {name: row[name] for name in ("file", "row", "rule", "reason")}
            shown = place | editable(row["raw"], record) | {"source": digest(row["raw"])}
            stream.write(_line(shown) + "\n")
            count += 1
    return count


def rows_of(table: pa.Table, *actions: str) -> Iterator[dict[str, Any]]:
    """The rows of some actions, a batch of them in memory at a time."""
    wanted = pa.array(actions, pa.string())
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield from batch.filter(pc.is_in(batch["action"], value_set=wanted)).to_pylist()


def editable(raw: bytes, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a person is shown of a row: its ``record``, or its ``raw`` text where it was not parsed."""
    if record is None:
        return {"raw": raw.decode("utf-8", "replace")}
    return {"record": {key: value for key, value in record.items() if not key.startswith(_HIDDEN)}}


def digest(raw: bytes) -> str:
    """A short name of a row's bytes."""
    return hashlib.sha256(raw).hexdigest()[:16]


def _as_json(record: Mapping[str, Any]) -> str | None:
    shown = json.dumps(editable(b"", record)["record"], ensure_ascii=True, default=str)
    return shown if len(shown) <= 2 * KEPT_BYTES else None


def _line(values: Mapping[str, Any]) -> str:
    try:
        line = json.dumps(values, ensure_ascii=False)
        line.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair can only be written as an escape
        line = json.dumps(values, ensure_ascii=True)
    return line


def _printable(reason: str) -> str:
    return reason.encode("utf-8", "backslashreplace").decode("utf-8")
