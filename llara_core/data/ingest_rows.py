"""A batch of rows on its way in: rules asked, rows put aside or marked, and every one of them counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.data.ingest_counts import Counts
from llara_core.data.quarantine import QuarantineWriter
from llara_core.data.raw import Raw, RowError, SourceFile
from llara_core.data.repair import DROPPED
from llara_core.data.row_rules import explain, judge_texts, repaired
from llara_core.data_settings import IngestSettings

Rows = NDArray[np.bool_]
_OF_IDS = ("control_characters", "bidi_controls", "replacement_characters")


@dataclass(frozen=True)
class RowLog:
    """Where the fate of rows is written down: counts, and the quarantine's file."""

    settings: IngestSettings
    counts: Counts
    quarantine: QuarantineWriter

    def aside(self, file: SourceFile, raw: Raw, rule: str, reason: str) -> None:
        """Put a row aside for a rule."""
        action = "drop" if rule == DROPPED else "quarantine"
        self.quarantine.add(file.role, file.file, raw, rule, reason, action)
        self.counts.add(file.role, file.file, "quarantined")
        if action == "drop":
            self.counts.add(file.role, file.file, "dropped")
        self.counts.broken(file.role, file.file, raw.number, rule, reason, action)

    def mark(self, file: SourceFile, raw: Raw, rule: str, reason: str, action: str = "flag") -> None:
        """Write down that a row is taken in although it breaks a rule, or with its text mended."""
        self.quarantine.add(file.role, file.file, raw, rule, reason, action)
        self.counts.broken(file.role, file.file, raw.number, rule, reason, action)


class RowBatch:
    """N rows of one file that could be parsed.

    Args:
        log: where their fate is written.
        file: theirs.
        raws: the rows, N of them.

    ``out`` and ``marked`` (boolean ``[N]``) say which were put aside and which break a rule that only
    marks. ``finish`` writes the marks of those that were taken in.
    """

    def __init__(self, log: RowLog, file: SourceFile, raws: Sequence[Raw]) -> None:
        self.log, self.file, self.raws = log, file, raws
        self.out: Rows = np.zeros(len(raws), np.bool_)
        self.rules: dict[int, str] = {}  # row put aside → rule
        self._marks: list[tuple[str, Rows, Callable[[int], str], str]] = []

    def aside(self, row: int, rule: str, reason: str) -> None:
        """Put one row aside, whatever the policy says: it cannot be used."""
        if not self.out[row]:
            self.out[row] = True
            self.rules[row] = rule
            self.log.aside(self.file, self.raws[row], rule, reason)

    def broken(self, rule: str, rows: Rows, reason: Callable[[int], str], *, mark: bool = False) -> None:
        """Do to rows that break a rule what its policy says.

        Args:
            rule: its name.
            rows: which break it, boolean ``[N]``.
            reason: words it for one row.
            mark: only mark them, whatever the policy says.
        """
        if mark or self.log.settings.policy(rule).action == "flag":
            self._marks.append((rule, rows, reason, "flag"))
        else:
            for row in np.flatnonzero(rows & ~self.out).tolist():
                self.aside(row, rule, reason(row))

    def column(
        self, name: str, values: Sequence[str], owner: NDArray[np.intp] | None = None
    ) -> pa.StringArray:
        """M strings of these rows as Arrow; a row with half a surrogate pair is put aside.

        Args:
            name: what they are, for the reason.
            values: the strings.
            owner: the row that each belongs to, ``[M]``; None: one a row.
        """
        try:
            return pa.array(values, pa.string())
        except UnicodeEncodeError:
            sound = list(values)
        for place, value in enumerate(values):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                sound[place] = ""
                row = place if owner is None else int(owner[place])
                self.aside(row, "valid_utf8", f"{name!r} holds half a surrogate pair, which is no character")
        return pa.array(sound, pa.string())

    def mend(
        self, name: str, column: pa.StringArray, owner: NDArray[np.intp] | None = None
    ) -> pa.StringArray:
        """The column with its mojibake mended where the settings say so; rows that changed are noted."""
        if self.log.settings.mojibake != "repair":
            return column
        better, changed = repaired(column)
        rows = _rows_of(changed, owner, len(self.raws))
        if rows.any():
            self._marks.append(("mojibake", rows, lambda _row: f"{name!r} was mended by ftfy", "repair"))
        return better

    def texts(
        self, name: str, column: pa.StringArray, longest: int, owner: NDArray[np.intp] | None = None
    ) -> None:
        """Ask every rule of ``row_rules.judge_texts`` of M texts of these rows; arguments as ``column``."""
        for rule, places in judge_texts(column, longest, self.log.settings).items():
            rows = _rows_of(places, owner, len(self.raws))
            self.broken(rule, rows, self._reason(rule, name, column, longest, places, owner))

    def identifiers(self, name: str, column: pa.StringArray) -> None:
        """Ask of ids what texts may not hold either: they stand in files of lines and cells."""
        for rule, rows in judge_texts(column, 1 << 30, self.log.settings).items():
            if rule in _OF_IDS:
                self.broken(rule, rows, self._reason(rule, name, column, 1 << 30, rows, None))

    def finish(self) -> None:
        """Write the marks of the rows that were taken in, and count those rows."""
        marked: dict[str, Rows] = {}
        for rule, rows, reason, action in self._marks:
            seen = marked.setdefault(action, np.zeros(len(self.raws), np.bool_))
            for row in np.flatnonzero(rows & ~self.out).tolist():
                self.log.mark(self.file, self.raws[row], rule, reason(row), action)
                seen[row] = True
        for action, kind in (("flag", "flagged"), ("repair", "repaired")):
            if action in marked:
                self.log.counts.add(self.file.role, self.file.file, kind, int(marked[action].sum()))
        self.log.counts.add(self.file.role, self.file.file, "accepted", int((~self.out).sum()))

    def _reason(
        self,
        rule: str,
        name: str,
        column: pa.StringArray,
        longest: int,
        places: Rows,
        owner: NDArray[np.intp] | None,
    ) -> Callable[[int], str]:
        def reason(row: int) -> str:
            place = row if owner is None else int(np.flatnonzero(places & (owner == row))[0])
            return explain(rule, name, column[place].as_py(), self.log.settings, longest)

        return reason


def converted(
    log: RowLog, file: SourceFile, raws: Sequence[Raw]
) -> tuple[list[Raw], list[tuple[object, ...]]]:
    """Rows that could be parsed and hold what the format asks for, and their values; others are put aside."""
    kept: list[Raw] = []
    values: list[tuple[object, ...]] = []
    convert = file.convert
    for raw in raws:
        if raw.fault is None and raw.record is not None:
            try:
                values.append(convert(raw.record))
                kept.append(raw)
            except RowError as error:
                log.aside(file, raw, error.rule, f"{error}; mend or remove the row")
        else:
            rule, reason = raw.fault or ("json_object", "the row was not parsed")
            log.aside(file, raw, rule, reason)
    return kept, values


def _rows_of(places: Rows, owner: NDArray[np.intp] | None, count: int) -> Rows:
    if owner is None:
        return places
    rows = np.zeros(count, np.bool_)
    rows[owner[places]] = True
    return rows
