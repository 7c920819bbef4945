"""Collections in and out: every format that is read, by name or recognised; BEIR folders are written.

A source (``Source``) is opened, and then either read strictly (``strict_collection``: the first bad row
is an error) or ingested with quarantine (``ingest``). The formats stand in ``FORMATS``, each in a module
``format_<name>``; docs/guides/formats.md has the table. Issue 5, point 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.format_base import Format, Request, bytes_fingerprint, check_columns, tree
from llara_core.data.format_beir import BEIR, beir_files, write_beir
from llara_core.data.format_delimited import CSV, TSV
from llara_core.data.format_detect import detect
from llara_core.data.format_flag_embedding import FLAG_EMBEDDING, FLAG_EMBEDDING_ROWS
from llara_core.data.format_hub import hub_format
from llara_core.data.format_jsonl import JSONL
from llara_core.data.format_msmarco import MSMARCO
from llara_core.data.format_parquet import PARQUET
from llara_core.data.format_saved import SAVED, collection_source
from llara_core.data.format_sentence_transformers import SENTENCE_TRANSFORMERS
from llara_core.data.format_tevatron import TEVATRON
from llara_core.data.format_text import TEXT
from llara_core.data.format_wikipedia import WIKIPEDIA
from llara_core.data.hub import is_repository, repository_files, repository_id
from llara_core.data.places import as_text, is_file, is_folder, is_url, place_fingerprint
from llara_core.data.raw import Source
from llara_core.data.strict import strict_collection
from llara_core.data.zips import split_zip, zip_members
from llara_core.errors import ConfigError, DataError
from llara_core.progress import Progress
from llara_core.settings import nearest

__all__ = [
    "FORMATS", "detect", "has_judgements", "load_collection", "open_collection", "open_place_as_source",
    "open_source", "path_fingerprint", "read_beir", "source_fingerprint", "strict_collection", "write_beir",
]  # fmt: skip


def _open_request(request: Request, format: str = "auto") -> Source:
    name = detect(request.place) if format == "auto" else format
    return FORMATS[name].open(request)


FORMATS: Mapping[str, Format] = MappingProxyType({
    one.name: one
    for one in (
        BEIR, JSONL, CSV, TSV, PARQUET, WIKIPEDIA, TEXT, MSMARCO, FLAG_EMBEDDING, FLAG_EMBEDDING_ROWS,
        TEVATRON, SENTENCE_TRANSFORMERS, hub_format(_open_request), SAVED,
    )
})  # fmt: skip


def open_source(settings: CollectionSettings, *, corpus_only: bool = False) -> Source:
    """What the settings name, as files whose rows are not read yet.

    Args:
        settings: which one; a built-in collection is built first.
        corpus_only: leave queries and judgements unopened.

    Raises:
        DataError: there is no such place, its format cannot be told, or a part or column is missing.
        ConfigError: the format or a key of ``columns`` is unknown, or a variable is not set.
        MissingDependencyError: what reads this kind of place is not installed.
    """
    place = settings.place
    if place is None:
        built = load_collection(settings)
        return collection_source(built, "built_in", settings.source, corpus_only=corpus_only)
    return open_place_as_source(
        place,
        name=settings.name,
        format=settings.format,
        columns=settings.columns,
        revision=settings.revision,
        corpus_only=corpus_only,
    )


def open_place_as_source(
    place: str | Path,
    *,
    name: str | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    revision: str | None = None,
    corpus_only: bool = False,
) -> Source:
    """A place as a source: its files are found, at most their first rows are read.

    Args:
        place: a path, URL or hub id.
        name: the collection's; None: from the place.
        format: a key of ``FORMATS``; ``auto``: recognised.
        columns: ours → the file's own (``{"id": "doc_no", "text": "body"}``).
        revision: of a hub's repository.
        corpus_only: leave queries and judgements unopened, and allow them to be missing.

    Raises:
        DataError, ConfigError, MissingDependencyError: as ``open_source``.
    """
    if format != "auto" and format not in FORMATS:
        raise ConfigError(f"collection.format: unknown format {format!r}{nearest(format, list(FORMATS))}")
    check_columns(columns or {})
    return _open_request(Request(as_text(place), name, dict(columns or {}), revision, corpus_only), format)


def load_collection(settings: CollectionSettings, workers: int = 1) -> Collection:
    """Read the collection that the settings name: the built-in one, or what ``open_collection`` opens.

    Args:
        settings: which one.
        workers: processes that parse the built-in one, started by "spawn": the program that calls must
            have its main guard. The result does not depend on their number.

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
        ConfigError: the folder's name uses an environment variable that is not set.
    """
    place = settings.place
    if place is not None:
        if settings.format == "auto" and not settings.columns and settings.revision is None:
            opened = open_collection(place, settings.name)
        else:
            opened = strict_collection(open_source(settings))
        return replace(opened, unresolved_share=settings.unresolved_share)
    # Imported here: reading a BEIR folder needs none of the source-code machinery.
    from llara_core.data.collections import build_collection

    with Progress(settings.source, settings.pycode.max_functions, "functions") as bar:
        built = build_collection(
            settings.source,
            settings.pycode,
            progress=lambda kept, _wanted: bar.update(kept - bar.done),
            workers=workers,
        )
    return replace(built, name=settings.name) if settings.name else built


def open_collection(path: Path | str, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Open a collection, wherever it lies.

    Args:
        path: a BEIR folder; a zip of one, or a folder inside a zip (``cqadupstack.zip/cqadupstack/gis``);
            a folder written by ``Collection.save``; a Hugging Face dataset, as an id (``BeIR/scifact``,
            ``hf:mteb/scifact``) or as the folder it was downloaded to; or any other of ``FORMATS``.
        name: the collection's name; None keeps the saved name or takes the folder's.
        corpus_only: read the corpus alone (for encoding and searching).

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
        MissingDependencyError: a hub's repository needs the package ``datasets``.
    """
    if not is_url(path) and (Path(path) / "collection.json").is_file():
        return Collection.load(Path(path))
    if _may_be_beir(path):
        return read_beir(path, name, corpus_only=corpus_only)
    return strict_collection(open_place_as_source(path, name=name, corpus_only=corpus_only))


def _may_be_beir(path: Path | str) -> bool:
    """Whether a place should be read, or refused, as a BEIR folder: it is one, is empty, or is not there."""
    if repository_id(path) is not None or (not is_url(path) and is_repository(Path(path))):
        return False
    if split_zip(Path(path)) is not None:  # also a zip of nothing
        return not _names_in(path) or _holds_corpus(path)
    if not is_folder(path):
        return not is_url(path) and not Path(path).exists()
    files = tree(as_text(path))
    names = {name.rpartition("/")[2].split(".")[0] for name in files}
    if any(name.startswith(("corpus.jsonl", "queries.jsonl")) for name in files) or not files:
        return True
    try:
        return "corpus" in names and detect(path) == "beir"
    except DataError:
        return True


def _names_in(path: Path | str) -> list[str]:
    """Names of the files below a place; none where there is nothing."""
    zipped = None if is_url(path) else split_zip(Path(path))
    if zipped is not None:
        zip_members(zipped[0])  # says what is wrong with a zip
    try:
        return list(tree(as_text(path)))
    except DataError as error:
        if error.rule != "file_exists":
            raise
        return []


def _holds_corpus(path: Path | str) -> bool:
    return any(name.rpartition("/")[2].startswith("corpus.jsonl") for name in _names_in(path))


def source_fingerprint(settings: CollectionSettings) -> str:
    """SHA-256 that changes when the source of the collection does, without parsing it.

    A folder's is over the bytes of its BEIR files (a saved collection's: over its recorded content), a
    zip's over the whole zip, a hub repository's over its data files, another format's over its files; the
    built-in collection's is over the versions of the packages it reads.

    Raises:
        DataError: the folder or one of its files is missing.
    """
    place = settings.place
    if place is None:
        from llara_core.data.collections import collection_fingerprint

        return collection_fingerprint(settings.source, settings.pycode)
    if settings.format not in ("auto", "beir") or settings.columns or settings.revision is not None:
        return _files_fingerprint(open_source(settings))
    return path_fingerprint(place)


def has_judgements(path: Path | str) -> bool:
    """Whether a collection comes with judgements, told from the names of its files (a hub's id: always).

    Raises:
        DataError: a zip cannot be read.
    """
    if repository_id(path) is not None or (not is_url(path) and is_repository(Path(path))):
        return True
    names = _names_in(path)
    if not names and not is_file(path):
        return False
    if any("qrels/" in f"/{name}" for name in names):
        return True
    try:
        roles = [file.role for file in open_place_as_source(path).files]
    except DataError:
        return False  # reading it says why
    return any(role.startswith(("qrels/", "pairs/")) for role in roles)


def path_fingerprint(path: Path | str) -> str:
    """SHA-256 over the bytes that ``open_collection`` would read from a path.

    Raises:
        DataError: the folder or one of its files is missing.
    """
    if is_url(path):
        return place_fingerprint(path)
    path = Path(path)
    if (path / "collection.json").is_file():
        return bytes_fingerprint({"collection": path / "collection.json"})
    if repository_id(path) is not None or is_repository(path):
        return bytes_fingerprint(repository_files(path))
    if not _may_be_beir(path):
        return _files_fingerprint(open_place_as_source(path))
    files = beir_files(as_text(path), corpus_only=False)  # refused here as well, where one is missing
    place = split_zip(path)
    if place is not None:
        return bytes_fingerprint({str(place[1]): place[0]})
    return bytes_fingerprint({role: Path(file) for role, file in files.items()})


def _files_fingerprint(source: Source) -> str:
    digest = hashlib.sha256(str(source.facts.get("commit", "")).encode())
    for file in source.files:
        if not (source.format == "hub" and Path(file.file).is_dir()):
            digest.update(f"{file.role}\0{place_fingerprint(file.file)}\0".encode())
    return digest.hexdigest()


def read_beir(folder: Path | str, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Read a BEIR folder or zip; rows keep their line numbers for messages.

    Args:
        folder: holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/*.tsv``, each plain or ``.gz``; or a
            zip in which one folder does.
        name: the collection's name; None takes the folder's.
        corpus_only: leave queries and qrels unread (and allow them to be missing).

    Raises:
        DataError: a file is missing, unreadable or empty, or a row is malformed.
    """
    return strict_collection(BEIR.open(Request(as_text(folder), name, corpus_only=corpus_only)))
