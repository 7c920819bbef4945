"""One reading of a source: its files in order, batch by batch, into tables and quarantine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from llara_core.data.checks import training_overlap
from llara_core.data.collection import Collection
from llara_core.data.ingest_counts import Counts, Stop
from llara_core.data.ingest_pairs import PairRoles
from llara_core.data.ingest_roles import Roles
from llara_core.data.ingest_rows import RowLog, converted
from llara_core.data.ingest_tables import TableWriters
from llara_core.data.quarantine import QuarantineWriter
from llara_core.data.raw import Raw, Source, SourceFile
from llara_core.data.repair import Edits
from llara_core.data.strict import files_of
from llara_core.data_settings import IngestSettings
from llara_core.progress import Progress

_ROWS, _BYTES = 8192, 4 << 20  # rows judged at a time: what fits a processor's cache is judged faster
_PACKED = (".gz", ".zst", ".xz", ".zip", ".parquet")


class Reading:
    """Reads a source once; arguments as ``ingest.ingest``."""

    def __init__(
        self, source: Source, settings: IngestSettings, unresolved_share: float, edits: Edits | None
    ) -> None:
        self.source, self.settings, self.edits = source, settings, edits
        self.unresolved_share = unresolved_share
        self.counts = Counts()
        self.relevant: dict[str, int] = {}

    def run(self, folder: Path) -> None:
        """Read every file into tables below a folder, and hold the counts against one another."""
        with TableWriters(folder) as tables, QuarantineWriter(folder / "quarantine") as quarantine:
            log = RowLog(self.settings, self.counts, quarantine)
            roles = Roles(log, tables, self.unresolved_share)
            pairs = PairRoles(roles)
            size = _bytes_of(self.source)
            with Progress("ingest", None if size is None else size >> 20, "MB" if size else "rows") as bar:
                advance = _by_bytes(bar) if size else bar.update
                for file in self.source.files:
                    self._file(file, log, _taker(file, roles, pairs), advance)
        self.counts.check()
        self._check_tables(tables)
        self.relevant = roles.relevant
        negatives = folder / "negatives.arrow"
        if negatives.is_file():
            _withdraw(negatives, pairs)
        if self.edits is not None:
            self.edits.check_met()

    def collection(self, folder: Path, counts: dict[str, Any]) -> Collection:
        """What was taken in, from the tables below a folder."""
        shown = {name: value for name, value in counts.items() if name not in ("files", "rules", "roles")}
        report = {"format": self.source.format, **self.source.facts, "rows": shown}
        return replace(
            Collection.load_tables(folder, self.source.name),
            files=files_of(self.source),
            unresolved_share=self.unresolved_share,
            report=report,
        )

    def stops(self, collection: Collection) -> list[Stop]:
        """Why the collection should not be used: too many bad rows, or rules that it breaks as a whole."""
        found = self.counts.stops(self.settings, self.unresolved_share)
        roles = {file.role for file in self.source.files}
        if not collection.corpus.num_rows and roles & {"corpus", "rows"}:
            text = "the corpus is empty: no document was taken in; add documents"
            found.append(Stop("corpus_not_empty", "corpus", 0, 0, text, collection.files.get("corpus", "")))
        for split in collection.qrels:
            if not self.relevant.get(split):
                text = (
                    f"split {split!r} has no query with a relevant document that queries and corpus files "
                    "know; add judgements"
                )
                file = collection.files.get(f"qrels/{split}", "")
                found.append(Stop("split_has_queries", f"qrels/{split}", 0, 0, text, file))
        for split, row, rows in training_overlap(collection):
            name = f"qrels/{split}"
            text = f"this query is a training query too; keep it in one split ({rows:,} rows)"
            read = collection.qrels[split].num_rows
            file = collection.files.get(name, "")
            found.append(Stop("train_overlap_id", name, rows, read, text, file, row))
        return found

    def _file(
        self,
        file: SourceFile,
        log: RowLog,
        take: Callable[..., None],
        advance: Callable[[int], None],
    ) -> None:
        # Closed at once when reading is interrupted, not when the garbage collector finds it.
        with contextlib.closing(_generator(file.read())) as reader:
            rows = reader if self.edits is None else self.edits.over(file.file, reader)
            self.counts.add(file.role, file.file, "read", 0)
            for raws, size in _batches(rows):
                self.counts.add(file.role, file.file, "read", len(raws))
                kept, values = converted(log, file, raws)
                if kept:
                    take(file, kept, values)
                advance(size if size else len(raws))

    def _check_tables(self, tables: TableWriters) -> None:
        """Every accepted row stands in its table, but those that came before with the same text."""
        roles = {file.role for file in self.source.files}
        if any(role == "rows" or role.startswith("pairs/") for role in roles):
            return  # such a row adds any number of documents
        for role, counts in self.counts.roles.items():
            expected = counts["accepted"] - counts["repeated"]
            if tables.rows[role] != expected:
                raise RuntimeError(
                    f"{role}: {expected} rows accepted, {tables.rows[role]} written; this is a bug of ours"
                )


def _taker(file: SourceFile, roles: Roles, pairs: PairRoles) -> Callable[..., None]:
    kind = file.role.partition("/")[0]
    takers: dict[str, Callable[..., None]] = {
        "corpus": roles.corpus,
        "queries": roles.queries,
        "qrels": roles.judgements,
        "negatives": roles.negatives,
        "pairs": pairs.pairs,
        "rows": pairs.adaptation,
    }
    if kind in ("qrels", "pairs"):
        roles.tables.begin(file.role.replace("pairs/", "qrels/"))  # a split without rows is a split too
    return takers[kind]


def _generator(rows: Iterator[Raw]) -> Any:
    return rows if hasattr(rows, "close") else (raw for raw in rows)


def _batches(rows: Iterator[Raw]) -> Iterator[tuple[list[Raw], int]]:
    """Rows in lists that bound memory, with the bytes read."""
    batch: list[Raw] = []
    size = 0
    for raw in rows:
        batch.append(raw)
        size += raw.size or len(raw.raw)
        if len(batch) == _ROWS or size >= _BYTES:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _bytes_of(source: Source) -> int | None:
    """Bytes to read, for the time left; None where files are packed or elsewhere."""
    total = 0
    for file in source.files:
        path = Path(file.file)
        if path.suffix in _PACKED or not path.is_file():
            return None
        total += path.stat().st_size
    return total or None


def _by_bytes(bar: Progress) -> Callable[[int], None]:
    read = 0

    def advance(size: int) -> None:
        nonlocal read
        read += size
        bar.update((read >> 20) - bar.done)

    return advance


def _withdraw(file: Path, pairs: PairRoles) -> None:
    """Take negatives back that a later row gave as positives, a batch at a time."""
    kept = file.with_suffix(".kept")
    with pa.memory_map(str(file)) as mapped, pa.OSFile(str(kept), "wb") as sink:
        reader = pa.ipc.open_file(mapped)
        with pa.ipc.new_file(sink, reader.schema) as writer:
            for number in range(reader.num_record_batches):
                batch = pa.Table.from_batches([reader.get_batch(number)])
                writer.write_table(pairs.rows.without_positives(batch))
    kept.replace(file)
