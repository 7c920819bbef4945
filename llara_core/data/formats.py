"""BEIR folders (and zips of them) in and out: the one on-disk layout of collections.

``corpus.jsonl`` (``_id, title, text``), ``queries.jsonl`` (``_id, text``), ``qrels/<split>.tsv``
(``query-id, corpus-id, score``), each plain or ``.gz``. A corpus row may carry ``metadata.group``
and ``metadata.position``: documents of one group follow each other.
Source: BEIR (Thakur et al. 2021), section 3 and its data loader; deviations: numbers are taken as
ids, a file without a header loses no row, and every broken row is named by file and line.
Repositories of the Hugging Face hub are opened here too; ``hub`` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from llara_core.config import CollectionSettings
from llara_core.data.collection import QUERIES_SCHEMA, Collection
from llara_core.data.hub import is_repository, read_hub, read_repository, repository_files, repository_id
from llara_core.data.records import read_corpus, read_qrels, read_queries
from llara_core.data.zips import split_zip, zip_members
from llara_core.errors import DataError
from llara_core.files import new_folder
from llara_core.progress import Progress

_CHUNK = 50_000  # rows that stand as Python objects at a time: bounds memory on large corpora
_BLOCK = 1 << 20  # bytes hashed at a time


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
    folder = settings.folder
    if folder is not None:
        return replace(open_collection(folder, settings.name), unresolved_share=settings.unresolved_share)
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


def open_collection(path: Path, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Open a collection, wherever it lies.

    Args:
        path: a BEIR folder; a zip of one, or a folder inside a zip (``cqadupstack.zip/cqadupstack/gis``);
            a folder written by ``Collection.save``; a Hugging Face dataset, as an id (``BeIR/scifact``,
            ``hf:mteb/scifact``) or as the folder it was downloaded to.
        name: the collection's name; None keeps the saved name or takes the folder's.
        corpus_only: read the corpus alone (for encoding and searching).

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
        MissingDependencyError: a hub's repository needs the package ``datasets``.
    """
    if (path / "collection.json").is_file():
        return Collection.load(path)
    repository = repository_id(path)
    if repository is not None:
        return read_hub(repository, name, corpus_only=corpus_only)
    if is_repository(path):
        return read_repository(path, name, corpus_only=corpus_only)
    return read_beir(path, name, corpus_only=corpus_only)


def source_fingerprint(settings: CollectionSettings) -> str:
    """SHA-256 that changes when the source of the collection does, without parsing it.

    A folder's is over the bytes of its BEIR files (a saved collection's: over its recorded content), a
    zip's over the whole zip, a hub repository's over its data files; the built-in collection's is over
    the versions of the packages it reads.

    Raises:
        DataError: the folder or one of its files is missing.
    """
    folder = settings.folder
    if folder is None:
        from llara_core.data.collections import collection_fingerprint

        return collection_fingerprint(settings.source, settings.pycode)
    return path_fingerprint(folder)


def has_judgements(path: Path) -> bool:
    """Whether a collection comes with judgements, told from the names of its files (a hub's id: always).

    Raises:
        DataError: a zip cannot be read.
    """
    place = split_zip(path)
    if place is not None:
        inside = "" if place[1] == PurePosixPath(".") else f"{place[1]}/"
        return any("qrels/" in name for name in zip_members(place[0]) if name.startswith(inside))
    return (path / "qrels").exists() or repository_id(path) is not None or is_repository(path)


def path_fingerprint(path: Path) -> str:
    """SHA-256 over the bytes that ``open_collection`` would read from a path.

    Raises:
        DataError: the folder or one of its files is missing.
    """
    place = split_zip(path)
    if place is not None:
        _files(path, corpus_only=False)  # so that a zip without a collection is refused here as well
        files = {str(place[1]): place[0]}
    elif repository_id(path) is not None or is_repository(path):
        files = repository_files(path)
    else:
        files = _files(path, corpus_only=False)
    digest = hashlib.sha256()
    for key, file in sorted(files.items()):
        found = file.stat()
        digest.update(f"{key}\0{file.name}\0{found.st_size}\0".encode())
        digest.update(_bytes_digest(file, found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _bytes_digest(file: Path, _size: int, _changed: int) -> bytes:
    """SHA-256 of a file's bytes; a zip of twelve collections is read once for all of them."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def read_beir(folder: Path, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Read a BEIR folder or zip; rows keep their line numbers for messages.

    Args:
        folder: holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/*.tsv``, each plain or ``.gz``; or a
            zip in which one folder does.
        name: the collection's name; None takes the folder's.
        corpus_only: leave queries and qrels unread (and allow them to be missing).

    Raises:
        DataError: a file is missing, unreadable or empty, or a row is malformed.
    """
    files = _files(folder, corpus_only=corpus_only)
    corpus = read_corpus(files["corpus"])
    queries, qrels = QUERIES_SCHEMA.empty_table(), {}
    if not corpus_only:
        queries = read_queries(files["queries"])
        qrels = {key[6:]: read_qrels(file) for key, file in files.items() if key.startswith("qrels/")}
    return Collection(
        name=name or files["corpus"].resolve().parent.name.removesuffix(".zip"),
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        files={key: str(file) for key, file in files.items()},
    )


def write_beir(collection: Collection, folder: Path) -> Path:
    """Write a collection as a BEIR folder; returns the folder.

    Raises:
        DataError: the folder cannot be written, or holds something other than a BEIR collection.
    """
    with new_folder(folder, replace=("corpus.jsonl", "corpus.jsonl.gz")) as temporary:
        with (temporary / "corpus.jsonl").open("w", encoding="utf-8", newline="\n") as stream:
            for batch in collection.corpus.to_batches(max_chunksize=_CHUNK):
                stream.writelines(_corpus_line(row) for row in batch.to_pylist())
        with (temporary / "queries.jsonl").open("w", encoding="utf-8", newline="\n") as stream:
            for row in collection.queries.to_pylist():
                stream.write(_json_line({"_id": row["_id"], "text": row["text"]}))
        (temporary / "qrels").mkdir()
        for split, table in collection.qrels.items():
            with (temporary / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as stream:
                stream.write("query-id\tcorpus-id\tscore\n")
                for row in table.to_pylist():
                    stream.write(f"{row['query_id']}\t{row['corpus_id']}\t{row['score']}\n")
    return folder


def _files(folder: Path, *, corpus_only: bool) -> dict[str, Path]:
    """``corpus``, ``queries``, ``qrels/<split>`` to the files that a BEIR (or saved) folder has."""
    if split_zip(folder) is not None:
        return _zipped_files(folder, corpus_only=corpus_only)
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "no such folder"
        raise DataError(
            f"{found}; expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv, "
            "or a zip of one",
            file=folder,
            rule="file_exists",
        )
    if (folder / "collection.json").is_file():
        return {"collection": folder / "collection.json"}
    files = {"corpus": _plain_or_gz(folder, "corpus.jsonl")}
    if corpus_only:
        return files
    files["queries"] = _plain_or_gz(folder, "queries.jsonl")
    for pattern in ("*.tsv.gz", "*.tsv"):  # a plain file wins over its packed twin
        for file in sorted((folder / "qrels").glob(pattern)):
            files[f"qrels/{file.name.split('.tsv')[0]}"] = file
    if len(files) == 2:
        _no_judgements(folder)
    return files


def _zipped_files(path: Path, *, corpus_only: bool) -> dict[str, Path]:
    """The same of a zip: the one folder in it, at or below `path`, that has a corpus."""
    archive, inside = split_zip(path) or (path, PurePosixPath("."))
    names = {PurePosixPath(name): archive / name for name in zip_members(archive)}
    folders = sorted(
        {name.parent for name in names if name.name in ("corpus.jsonl", "corpus.jsonl.gz")}
        & {place for name in names for place in name.parents if inside in (place, *place.parents)}
    )
    if len(folders) != 1:
        found = ", ".join(f"{archive}/{one}" for one in folders[:3])
        raise DataError(
            f"the zip holds {len(folders)} collections: name one of them, e.g. {found}"
            if folders
            else "no corpus.jsonl in this zip; expected a zipped BEIR folder",
            file=path,
            rule="file_exists",
        )
    root = folders[0]

    def plain_or_gz(name: str) -> Path:
        for member in (root / name, root / f"{name}.gz"):
            if member in names:
                return names[member]
        raise DataError(
            f"missing file; a BEIR folder has {name} or {name}.gz",
            file=archive / root / name,
            rule="file_exists",
        )

    files = {"corpus": plain_or_gz("corpus.jsonl")}
    if corpus_only:
        return files
    files["queries"] = plain_or_gz("queries.jsonl")
    for ending in (".tsv.gz", ".tsv"):
        for name, file in sorted(names.items()):
            if name.parent == root / "qrels" and name.name.endswith(ending):
                files[f"qrels/{name.name.removesuffix(ending)}"] = file
    if len(files) == 2:
        _no_judgements(archive / root)
    return files


def _no_judgements(folder: Path) -> NoReturn:
    raise DataError(
        "no relevance judgements; expected qrels/<split>.tsv, e.g. qrels/test.tsv",
        file=folder / "qrels",
        rule="file_exists",
    )


def _plain_or_gz(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(
        f"missing file; a BEIR folder has {name} or {name}.gz", file=folder / name, rule="file_exists"
    )


def _corpus_line(row: Mapping[str, Any]) -> str:
    record: dict[str, Any] = {"_id": row["_id"], "title": row["title"], "text": row["text"]}
    if row["group"] is not None:
        record["metadata"] = {"group": row["group"], "position": row["position"]}
    return _json_line(record)


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
