"""BEIR folders in and out: the one on-disk layout of collections.

``corpus.jsonl`` (``_id, title, text``), ``queries.jsonl`` (``_id, text``), ``qrels/<split>.tsv``
(``query-id, corpus-id, score``), each plain or ``.gz``. A corpus row may carry ``metadata.group``
and ``metadata.position``: documents of one group follow each other.
Source: BEIR (Thakur et al. 2021), section 3 and its data loader; deviations: numbers are taken as
ids, a file without a header loses no row, and every broken row is named by file and line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llara_core.config import CollectionSettings
from llara_core.data.collection import QUERIES_SCHEMA, Collection
from llara_core.data.records import read_corpus, read_qrels, read_queries
from llara_core.errors import DataError
from llara_core.files import new_folder
from llara_core.progress import Progress

_CHUNK = 50_000  # rows that stand as Python objects at a time: bounds memory on large corpora
_BLOCK = 1 << 20  # bytes hashed at a time


def load_collection(settings: CollectionSettings, workers: int = 1) -> Collection:
    """Read the collection that the settings name: the built-in one, or a BEIR folder.

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
    """Open a BEIR folder, or a folder written by ``Collection.save``.

    Args:
        path: the folder.
        name: the collection's name; None keeps the saved name or takes the folder's.
        corpus_only: of a BEIR folder read the corpus alone (for encoding and searching).

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
    """
    if (path / "collection.json").is_file():
        return Collection.load(path)
    return read_beir(path, name, corpus_only=corpus_only)


def source_fingerprint(settings: CollectionSettings) -> str:
    """SHA-256 that changes when the source of the collection does, without parsing it.

    A folder's is over the bytes of its BEIR files (a saved collection's: over its recorded content);
    the built-in collection's is over the versions of the packages it reads.

    Raises:
        DataError: the folder or one of its files is missing.
    """
    folder = settings.folder
    if folder is None:
        from llara_core.data.collections import collection_fingerprint

        return collection_fingerprint(settings.source, settings.pycode)
    digest = hashlib.sha256()
    for key, file in sorted(_files(folder, corpus_only=False).items()):
        digest.update(f"{key}\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def read_beir(folder: Path, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Read a BEIR folder; rows keep their line numbers for messages.

    Args:
        folder: holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/*.tsv``, each plain or ``.gz``.
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
        name=name or folder.resolve().name,
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
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "no such folder"
        raise DataError(
            f"{found}; expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv",
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
        raise DataError(
            "no relevance judgements; expected qrels/<split>.tsv, e.g. qrels/test.tsv",
            file=folder / "qrels",
            rule="file_exists",
        )
    return files


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
