"""Rows that a person has mended take the place of those that were put aside, and are judged anew.

``quarantine.write_repair`` writes the file, a person edits it, and ``ingest`` (with ``edits``, or with
``settings.repaired``) reads the source again with the mended rows in it. So a mended row passes the same
rules as any other, judgements that waited for it come in too, and the result is what a clean source
would have given, row by row. Issue 5, point 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from llara_core.data.quarantine import digest, editable
from llara_core.data.raw import Fault, Raw
from llara_core.data.records import PLACE
from llara_core.errors import DataError

DROPPED = "dropped"  # the rule of rows that the person left out


@dataclass(frozen=True)
class Edit:
    """One row of an edited file.

    Args:
        record: the mended row, or None where ``raw`` was mended.
        raw: the mended text of the row.
        source: ``quarantine.digest`` of the row as it was read.
        drop: leave the row out for good.
        reason: why it was put aside.
        line: in the edited file.
    """

    record: Mapping[str, Any] | None
    raw: str
    source: str
    drop: bool
    reason: str
    line: int


@dataclass
class Edits:
    """An edited file: (file, row) to what shall stand there; remembers which rows were met."""

    place: Path
    rows: Mapping[tuple[str, int], Edit]
    drop_unmended: bool = False
    met: set[tuple[str, int]] = field(default_factory=set)

    def over(self, file: str, rows: Iterator[Raw]) -> Iterator[Raw]:
        """The rows of a file, the mended ones in place of those that were read.

        A row that nobody changed comes as it was read, and is judged as it was before.

        Raises:
            DataError: a row is no longer the one that was put aside.
        """
        fields: tuple[str, ...] = ()
        place = ""
        for raw in rows:
            if raw.record is not None:
                fields = fields or tuple(raw.record)
                place = place or str(raw.record.get(PLACE, ""))
            edit = self.rows.get((file, raw.number))
            if edit is None:
                yield raw
                continue
            self.met.add((file, raw.number))
            if edit.source != digest(raw.raw):
                raise DataError(
                    f"line {edit.line} of {self.place} mends this row, but it has changed since; "
                    "ingest the source anew and mend what is put aside then",
                    file=Path(file),
                    row=raw.number,
                    rule="changed_since",
                )
            mended = _mended(raw, edit, fields, place)
            if mended is raw and self.drop_unmended:
                mended = _dropped(raw, edit)
            yield mended

    def check_met(self) -> None:
        """Refuse edits of rows that the source does not have.

        Raises:
            DataError: names the first of them.
        """
        missing = [place for place in self.rows if place not in self.met]
        if missing:
            (file, row), edit = missing[0], self.rows[missing[0]]
            raise DataError(
                f"row {row} of {file} is mended here, but the source has no such row ({len(missing)} of "
                f"{len(self.rows)} lines); repair the source that was ingested",
                file=self.place,
                row=edit.line,
                rule="changed_since",
            )


def read_edits(place: Path, *, drop_unmended: bool = False) -> Edits:
    """Read an edited file of ``quarantine.write_repair``.

    Args:
        place: the file.
        drop_unmended: rows of the file that nobody changed are dropped too, instead of staying aside.

    Raises:
        DataError: the file is missing or a line is not one of ours; names the line.
    """
    rows: dict[tuple[str, int], Edit] = {}
    try:
        with place.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    key, edit = _edit(place, number, line)
                    if key in rows:
                        _fail(place, number, f"row {key[1]} of {key[0]} is in line {rows[key].line} already")
                    rows[key] = edit
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}; expected the edited file of `llara data repair`",
            file=place,
            rule="readable",
        ) from None
    return Edits(place, rows, drop_unmended)


def _edit(place: Path, number: int, line: bytes) -> tuple[tuple[str, int], Edit]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        _fail(place, number, f"not JSON: {error}")
    if not isinstance(values, dict):
        _fail(place, number, f"expected a JSON object, got {type(values).__name__}")
    file, row, record, raw = (values.get(name) for name in ("file", "row", "record", "raw"))
    if not isinstance(file, str) or type(row) is not int or not isinstance(values.get("source"), str):
        _fail(
            place, number, "'file', 'row' and 'source' say which row it is; leave them as they were written"
        )
    drop = values.get("drop", False)
    if type(drop) is not bool:
        _fail(place, number, f"'drop' is true or false, got {drop!r}")
    if not drop and not (isinstance(record, dict) or (record is None and isinstance(raw, str))):
        _fail(place, number, "expected the mended row as an object under 'record' or as text under 'raw'")
    reason = values.get("reason")
    return (file, row), Edit(record, raw or "", values["source"], drop, str(reason or ""), number)


def _mended(raw: Raw, edit: Edit, fields: tuple[str, ...], place: str) -> Raw:
    if edit.drop:
        return _dropped(raw, edit)
    shown = editable(raw.raw, raw.record)
    if edit.record is None and shown.get("raw") == edit.raw:
        return raw
    record = edit.record if edit.record is not None else _parsed(edit.raw, fields)
    if record is None:
        return Raw(
            raw.number,
            None,
            edit.raw.encode("utf-8", "replace"),
            Fault("valid_json", f"line {edit.line} of the repair is no JSON object; give it under 'record'"),
            raw.size,
            raw.offset,
        )
    if shown.get("record") == record:
        return raw
    hidden = {key: value for key, value in (raw.record or {}).items() if key.startswith("\0")}
    if PLACE in fields and PLACE not in hidden:
        hidden[PLACE] = f"{place.rpartition(':')[0]}:{raw.number}"
    again = json.dumps(record, ensure_ascii=True, default=str).encode()
    return Raw(raw.number, {**record, **hidden}, again, None, len(again), raw.offset)


def _dropped(raw: Raw, edit: Edit) -> Raw:
    return raw._replace(fault=Fault(DROPPED, f"left out by the repair (line {edit.line}): {edit.reason}"))


def _parsed(text: str, fields: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The mended text of a row: a JSON object, or cells between tabs where the file has such rows."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        names = [name for name in fields if not name.startswith("\0")]
        cells = text.rstrip("\r\n").split("\t")
        return dict(zip(names, cells, strict=True)) if len(cells) == len(names) > 1 else None
    return record if isinstance(record, dict) else None


def _fail(place: Path, line: int, message: str) -> NoReturn:
    raise DataError(message, file=place, row=line, rule="repair_file")
