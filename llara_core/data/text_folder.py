"""Unlabelled text in: a file or a folder of any format that holds text becomes a corpus to adapt on.

What LLaRA needs is text alone (the paper takes Wikipedia): the result is a ``Collection`` with a corpus
and neither queries nor judgements, so that everything which reads a corpus reads it too. Issue 3, point
12; adaptation rows made by somebody else (``rows``): issue 5, point 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from llara_core.config import CollectionSettings, TextSettings
from llara_core.data.collection import QUERIES_SCHEMA, Collection
from llara_core.data.format_base import Request
from llara_core.data.format_text import open_text, text_places
from llara_core.data.formats import (
    FORMATS,
    detect,
    load_collection,
    open_collection,
    open_place_as_source,
    path_fingerprint,
    source_fingerprint,
    strict_collection,
)
from llara_core.data.places import as_text, is_url, place_fingerprint
from llara_core.data.raw import Source
from llara_core.errors import DataError


def load_text(settings: TextSettings, workers: int = 1) -> Collection:
    """The text that the settings name: a corpus without queries and judgements.

    Args:
        settings: a file or folder in any of ``formats.FORMATS`` (only its corpus is read; of adaptation
            rows the rows themselves), or the built-in text.
        workers: processes that parse the built-in text; the result does not depend on it.

    Raises:
        DataError: the source is missing, holds no text, or a row is malformed.
        ConfigError: the source names an environment variable that is not set.
    """
    path = settings.path
    if path is None:
        whole = load_collection(_built_in(settings), workers)
    else:
        return read_text(path, settings.name)
    return unlabelled(whole)


def text_fingerprint(settings: TextSettings) -> str:
    """SHA-256 that changes when the text could, over paths and bytes; nothing is parsed.

    Raises:
        DataError: there is no such file or folder, or none that holds text.
        ConfigError: the source names an environment variable that is not set.
    """
    path = settings.path
    if path is None:
        return source_fingerprint(_built_in(settings))
    if _is_collection(path) or _other_format(path):
        return path_fingerprint(path)
    digest = hashlib.sha256()
    for relative, file in text_places(as_text(path)).items():
        digest.update(f"{relative}\0{place_fingerprint(file)}\0".encode())
    return digest.hexdigest()


def read_text(source: Path | str, name: str | None = None) -> Collection:
    """Read all documents of a file or of a folder and what lies below it, in the order of the paths.

    Documents of white space alone are left out. A document's id is the file's path below the source, and
    for JSON lines ``:`` and the line; formats that have ids keep theirs.

    Args:
        source: a file or a folder; hidden files are not read.
        name: the collection's name; None: the source's, without suffixes.

    Returns:
        A collection without queries and qrels. It is held in memory whole.

    Raises:
        DataError: the source is missing, holds no file of a known kind or no text, or a row is malformed.
    """
    if _is_collection(source):
        return unlabelled(open_collection(source, name, corpus_only=True))
    if (other := _other_format(source)) is not None:
        opened = open_place_as_source(source, name=name, format=other, corpus_only=True)
    else:
        opened = open_text(Request(as_text(source), name))
    try:
        read = strict_collection(opened)
    except DataError as error:
        if error.rule != "corpus_not_empty":
            raise
        raise _no_text(source) from None
    corpus = read.corpus
    blank = pa.array([not (title + text).strip() for title, text in _texts(corpus)], pa.bool_())
    corpus = corpus.filter(pa.compute.invert(blank))
    if not corpus.num_rows:
        raise _no_text(source)
    report = {"files": len(opened.files), "format": opened.format}
    if "commit" in opened.facts:
        report["commit"] = opened.facts["commit"]
    return replace(unlabelled(read), corpus=corpus, files={"corpus": str(source)}, report=report)


def text_source(source: Path | str, name: str | None = None) -> Source:
    """The same as ``read_text`` reads, as files whose rows are not read yet: for ingestion with quarantine.

    Raises:
        DataError: there is no such place, or none that holds text.
    """
    if _is_collection(source) or (other := _other_format(source)) == "beir":
        return open_place_as_source(source, name=name, corpus_only=True)
    if other is not None:
        return open_place_as_source(source, name=name, format=other, corpus_only=True)
    return open_text(Request(as_text(source), name))


def text_files(source: Path) -> list[Path]:
    """The files of a source that hold text, ordered by path.

    Raises:
        DataError: there is no such file or folder, or none that holds text.
    """
    if (other := _other_format(source)) is not None:
        return [Path(file.file) for file in FORMATS[other].open(Request(as_text(source))).files]
    return [Path(file) for file in text_places(as_text(source)).values()]


def _texts(corpus: pa.Table) -> list[tuple[str, str]]:
    return list(zip(corpus["title"].to_pylist(), corpus["text"].to_pylist(), strict=True))


def _no_text(source: Path | str) -> DataError:
    return DataError(
        "no document holds any text; nothing can be learnt from it", file=Path(source), rule="has_text"
    )


def unlabelled(whole: Collection) -> Collection:
    """The collection without queries, judgements and negatives."""
    return replace(whole, queries=QUERIES_SCHEMA.empty_table(), qrels={}, negatives=None)


def _built_in(settings: TextSettings) -> CollectionSettings:
    return CollectionSettings(source=settings.source, name=settings.name, pycode=settings.pycode)


def _is_collection(path: Path | str) -> bool:
    """Whether the folder is a BEIR folder or a saved collection: its queries are no text to adapt on."""
    if is_url(path):
        return False
    path = Path(path)
    corpus = any((path / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))
    queries = any((path / name).is_file() for name in ("queries.jsonl", "queries.jsonl.gz"))
    return (corpus and queries) or (path / "collection.json").is_file()


def _other_format(source: Path | str) -> str | None:
    """The format of what is more than files of text; None for these, whose documents are told by place."""
    try:
        found = detect(source)
    except DataError as error:
        if error.rule in ("known_format", "file_exists"):
            return None  # reading it as text says what is expected
        raise
    return None if found in ("text", "jsonl", "wikipedia") else found
