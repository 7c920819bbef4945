"""Taking data in, whatever they are: the built-in text, a saved collection, or files of any format.

The one door that the command line and the pipelines' steps use. Only files have rows that can be put
aside; the others come in as they are, with the same kind of record. Issue 5, points 1 to 3.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.formats import load_collection, open_source, source_fingerprint
from llara_core.data.ingest import ingest
from llara_core.data.quarantine import FILE, SCHEMA
from llara_core.data.raw import Source
from llara_core.data_settings import IngestSettings, PassageSettings
from llara_core.errors import ConfigError, DataError
from llara_core.files import new_folder

SAVED, ASIDE, COUNTS = "collection.json", "quarantine", "counts.json"
_Change = Callable[[Collection], Collection]
TOTALS = ("read", "accepted", "quarantined", "flagged")


@dataclass(frozen=True)
class Taken:
    """What was taken in.

    Args:
        collection: memory-mapped from its folder.
        record: JSON-able counts of rows: in all, by file, by role and by rule.
    """

    collection: Collection
    record: Mapping[str, Any]

    @property
    def totals(self) -> dict[str, int]:
        """Rows read, accepted, put aside and flagged."""
        return {name: int(self.record.get(name, 0)) for name in TOTALS}


def take_in(
    settings: CollectionSettings,
    folder: Path,
    *,
    workers: int = 1,
    source: Source | None = None,
    corpus_only: bool = False,
    change: _Change | None = None,
) -> Taken:
    """Read a collection into a folder that ``Collection.load`` opens.

    Args:
        settings: which source, in which format, and what is done with rows that break a rule.
        folder: to make; an earlier collection or quarantine of ours in its place is replaced. It gets
            ``quarantine/`` with the rows that were put aside or flagged.
        workers: processes that parse the built-in text; the result does not depend on it.
        source: read instead of what the settings name, by the same rules.
        corpus_only: leave queries and judgements unread.
        change: made of the collection before it is kept, e.g. a split of its queries; long documents are
            cut into passages after it, where the settings say so.

    Raises:
        IngestStopped: more rows break a rule than allowed; the quarantine stands in the folder.
        DataError: a place is missing, its format unknown, or a part of it cannot be read.
    """
    with _cutting(settings.passages, folder, change) as cut:
        return _taken(settings, folder, workers, source, corpus_only, cut)


def _taken(
    settings: CollectionSettings,
    folder: Path,
    workers: int,
    source: Source | None,
    corpus_only: bool,
    change: _Change | None,
) -> Taken:
    place = settings.place
    if source is None and (place is None or _is_saved(place)):
        built = load_collection(settings, workers)
        built = replace(built, name=settings.name or built.name)
        return _keep(change(built) if change else built, folder, Path(place) if place else None)
    ingested = ingest(
        source or open_whole(settings, corpus_only=corpus_only),
        folder,
        settings.ingest,
        unresolved_share=settings.unresolved_share,
    )
    if change is None:
        return Taken(ingested.collection, ingested.counts)
    return _keep(change(ingested.collection), folder, folder)


def open_whole(settings: CollectionSettings, *, corpus_only: bool = False) -> Source:
    """What the settings name, as a source; a BEIR folder without its corpus is refused, not guessed at.

    Raises:
        DataError: there is no such place, its format cannot be told, or a part of it is missing.
    """
    place = settings.folder
    asked = settings.format == "auto" and not settings.columns and place is not None
    if asked and place is not None and any(place.glob("queries.jsonl*")) and (place / "qrels").is_dir():
        settings = settings.model_copy(update={"format": "beir"})
    return open_source(settings, corpus_only=corpus_only)


def intake_fingerprint(settings: CollectionSettings) -> str:
    """SHA-256 that changes when ``take_in`` could give something else: of the source and of repaired rows.

    Raises:
        DataError: the source or the file of repaired rows is missing.
    """
    return with_repaired(source_fingerprint(settings), settings.ingest)


def with_repaired(fingerprint: str, settings: IngestSettings) -> str:
    """A source's fingerprint with that of the rows that were repaired, where the settings name any.

    Raises:
        DataError: there is no such file.
    """
    if settings.repaired is None:
        return fingerprint
    repaired = Path(settings.repaired).expanduser()
    if not repaired.is_file():
        raise DataError("no such file of repaired rows", file=repaired, rule="file_exists")
    return hashlib.sha256(fingerprint.encode() + repaired.read_bytes()).hexdigest()


def record_of(folder: Path) -> dict[str, Any] | None:
    """The counts of rows that stand beside an ingested collection; None where there are none."""
    file = folder / ASIDE / COUNTS
    record: dict[str, Any] | None = json.loads(file.read_text("utf-8")) if file.is_file() else None
    return record


@contextmanager
def _cutting(
    settings: PassageSettings | None, folder: Path, change: _Change | None
) -> Iterator[_Change | None]:
    """The change, and after it long documents cut into passages, which lie in a file while this is open."""
    if settings is None:
        yield change
        return
    from llara_core.data.passages import split_corpus

    tokenizer = _tokenizer(settings)  # before anything is read: a wrong name should fail at once
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as scratch:

        def cut(collection: Collection) -> Collection:
            changed = change(collection) if change else collection
            return split_corpus(changed, settings, tokenizer, file=Path(scratch) / "corpus.arrow")

        yield cut


def _tokenizer(settings: PassageSettings) -> Any:
    if settings.tokenizer is None:
        return None
    from transformers import AutoTokenizer

    place = Path(settings.tokenizer).expanduser()
    try:
        return AutoTokenizer.from_pretrained(str(place) if place.is_dir() else settings.tokenizer)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"collection.passages.tokenizer: {settings.tokenizer!r} is no folder or id of a tokenizer: "
            f"{str(error).splitlines()[0]}; name the folder of the model, or leave it out to count words"
        ) from None


def _is_saved(place: str) -> bool:
    return "://" not in place and (Path(place) / SAVED).is_file()


def _keep(collection: Collection, folder: Path, earlier: Path | None) -> Taken:
    """Write a collection, with the quarantine of the folder that it came from, where that has one."""
    aside = None if earlier is None else earlier / ASIDE
    with new_folder(folder, replace=(SAVED, ASIDE)) as temporary:
        collection.save(temporary)
        if aside is not None and (aside / COUNTS).is_file():
            shutil.copytree(aside, temporary / ASIDE)
        else:
            _write_empty(temporary / ASIDE, _all_accepted(collection))
    return Taken(Collection.load(folder), record_of(folder) or {})


def _write_empty(aside: Path, record: Mapping[str, Any]) -> None:
    aside.mkdir()
    with pa.OSFile(str(aside / FILE), "wb") as sink, pa.ipc.new_file(sink, SCHEMA):
        pass
    (aside / COUNTS).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _all_accepted(collection: Collection) -> dict[str, Any]:
    """The record of a collection that has no rows to put aside: they were judged when it was made."""
    tables = {
        "corpus": collection.corpus,
        "queries": collection.queries,
        **{f"qrels/{split}": table for split, table in collection.qrels.items()},
    }
    counts = {
        name: {"read": table.num_rows, "accepted": table.num_rows, "quarantined": 0, "flagged": 0}
        for name, table in tables.items()
    }
    totals = {name: sum(one[name] for one in counts.values()) for name in TOTALS}
    return {**totals, "files": counts, "roles": counts, "rules": {}}
