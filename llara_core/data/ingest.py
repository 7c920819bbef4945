"""A source of any format → a collection on disk: every row is taken in or put aside, and none is lost.

Rows are read once, in batches of some megabytes; what is kept in memory of a row that was taken in are
hashes of its id and text, so that memory grows by about a hundred bytes a row and time with their number.
Nothing half-written is left when reading is interrupted. Issue 5, points 2 and 3.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core.data.collection import Collection
from llara_core.data.ingest_counts import Stop
from llara_core.data.ingest_reading import Reading
from llara_core.data.quarantine import open_quarantine
from llara_core.data.raw import Source
from llara_core.data.repair import Edits, read_edits
from llara_core.data_settings import IngestSettings
from llara_core.errors import DataError
from llara_core.files import new_folder

logger = logging.getLogger(__name__)

_OURS = ("collection.json", "quarantine")  # either marks a folder as an earlier output of ours
_STOPPED = "stopped.json"
_DEFAULT = IngestSettings()


@dataclass(frozen=True)
class Ingested:
    """What became of a source.

    Args:
        folder: where it lies: a saved collection with ``quarantine/`` beside its tables.
        collection: what was taken in, memory-mapped.
        quarantine: rows put aside and rows marked (``quarantine.SCHEMA``), memory-mapped.
        counts: JSON-able: totals, by file, by role and by rule; see ``ingest_counts.Counts``.
        stopped: why the collection should not be used; empty unless ``refuse`` was false.
    """

    folder: Path
    collection: Collection
    quarantine: pa.Table
    counts: dict[str, Any]
    stopped: list[Stop]


class IngestStopped(DataError):
    """More rows break a rule than the settings allow; what was read lies in ``folder``.

    Args:
        stops: the rules; the first one is the message.
        folder: holds ``quarantine/`` and ``stopped.json``.
        counts: as in ``Ingested``.
    """

    def __init__(self, stops: Sequence[Stop], folder: Path, counts: dict[str, Any]) -> None:
        first = stops[0]
        more = f" ({len(stops) - 1} more rules are broken too often)" if stops[1:] else ""
        where = f"; the rows that were put aside lie in {folder / 'quarantine'}"
        file = Path(first.file) if first.file else None
        super().__init__(first.message + more + where, file=file, row=first.row, rule=first.rule)
        self.stops, self.folder, self.counts = list(stops), folder, counts


def ingest(
    source: Source,
    folder: Path,
    settings: IngestSettings = _DEFAULT,
    *,
    unresolved_share: float = 0.0,
    edits: Edits | None = None,
    refuse: bool = True,
) -> Ingested:
    """Read a source into a folder.

    Args:
        source: its files, none of them read yet.
        folder: to make; an earlier output of ours is replaced once all went well.
        settings: what is done with rows that break a rule; ``settings.repaired`` names mended rows.
        unresolved_share: share of judgements that may name unknown queries or documents; above 0 these
            are kept and marked, as ArguAna's official judgements need, instead of put aside.
        edits: mended rows, in place of those that ``settings.repaired`` names.
        refuse: raise where too many rows break a rule; false leaves it to ``Ingested.stopped``.

    Returns:
        The collection, opened from the folder. Its content hash is what a source without the rows that
        were put aside would give, in any format and order.

    Raises:
        IngestStopped: too many rows break a rule, or training queries are judged in another split. All was
            read, and ``folder/quarantine`` was written; if the folder holds an earlier collection, that
            one stays and the quarantine lies in ``<folder>.stopped``.
        DataError: a file is missing or cannot be opened, the folder cannot be written, or mended rows do
            not fit the source.
    """
    folder = Path(folder)
    if edits is None and settings.repaired:
        edits = read_edits(Path(settings.repaired).expanduser())
    with new_folder(folder, replace=_OURS) as temporary:
        reading = Reading(source, settings, unresolved_share, edits)
        reading.run(temporary)
        counts = reading.counts.as_dict()
        collection = reading.collection(temporary, counts)
        stops = reading.stops(collection)
        if stops and refuse:
            raise IngestStopped(stops, _keep_stopped(temporary, folder, stops, counts), counts)
        collection.seal(temporary)
        del collection  # its maps would keep the files of the temporary folder open
        _write_counts(temporary, counts)
    aside = _beside(folder)
    if (aside / _STOPPED).is_file():
        shutil.rmtree(aside)
    return Ingested(folder, Collection.load(folder), open_quarantine(folder), counts, stops)


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.stopped")


def _keep_stopped(temporary: Path, folder: Path, stops: Sequence[Stop], counts: dict[str, Any]) -> Path:
    """Keep the quarantine of a refused collection; returns the folder in which it lies."""
    place = _beside(folder) if (folder / "collection.json").is_file() else folder
    _write_counts(temporary, counts)
    with new_folder(place, replace=_OURS) as kept:
        shutil.move(temporary / "quarantine", kept / "quarantine")
        stopped = json.dumps([asdict(stop) for stop in stops], indent=1, ensure_ascii=False)
        (kept / _STOPPED).write_text(stopped + "\n", encoding="utf-8")
    return place


def _write_counts(folder: Path, counts: dict[str, Any]) -> None:
    text = json.dumps(counts, indent=1, ensure_ascii=False)
    (folder / "quarantine" / "counts.json").write_text(text + "\n", encoding="utf-8")
