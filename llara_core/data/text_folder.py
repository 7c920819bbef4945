"""Unlabelled text in: a file or a folder of plain text or JSON lines becomes a corpus to adapt on.

What LLaRA needs is text alone (the paper takes Wikipedia): the result is a ``Collection`` with a corpus
and neither queries nor judgements, so that everything which reads a corpus reads it too. Issue 3, point 12.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from llara_core.config import CollectionSettings, TextSettings
from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.formats import load_collection, open_collection, source_fingerprint
from llara_core.data.records import read_documents
from llara_core.errors import DataError
from llara_core.progress import Progress

PLAIN, LINES = (".txt", ".md"), (".jsonl",)  # one document a file; one document a line
_EXTRACTED = "wiki_"  # WikiExtractor's files (`--json`) have no suffix: AA/wiki_00
_BLOCK = 1 << 20  # bytes hashed at a time
_EXPECTED = (
    "expected .txt or .md (one document a file), .jsonl (a document a line, under 'text' and perhaps "
    "'title') or WikiExtractor's --json output (AA/wiki_00), each plain or .gz"
)


def load_text(settings: TextSettings, workers: int = 1) -> Collection:
    """The text that the settings name: a corpus without queries and judgements.

    Args:
        settings: a file, a folder, a BEIR folder (only its corpus is read), or the built-in text.
        workers: processes that parse the built-in text; the result does not depend on it.

    Raises:
        DataError: the source is missing, holds no text, or a row is malformed.
        ConfigError: the source names an environment variable that is not set.
    """
    path = settings.path
    if path is not None and not _is_collection(path):
        return read_text(path, settings.name)
    if path is None:
        whole = load_collection(_built_in(settings), workers)
    else:
        whole = open_collection(path, settings.name, corpus_only=True)
    return replace(whole, queries=QUERIES_SCHEMA.empty_table(), qrels={})


def text_fingerprint(settings: TextSettings) -> str:
    """SHA-256 that changes when the text could, over paths and bytes; nothing is parsed.

    Raises:
        DataError: there is no such file or folder, or none that holds text.
        ConfigError: the source names an environment variable that is not set.
    """
    path = settings.path
    if path is None or _is_collection(path):
        return source_fingerprint(_built_in(settings))
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in text_files(path):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def read_text(source: Path, name: str | None = None) -> Collection:
    """Read all documents of a file or of a folder and what lies below it, in the order of the paths.

    Documents of white space alone are left out. A document's id is the file's path below the source, and
    for JSON lines ``:`` and the line.

    Args:
        source: a file or a folder; hidden files are not read.
        name: the collection's name; None: the source's, without suffixes.

    Returns:
        A collection without queries and qrels. It is held in memory whole.

    Raises:
        DataError: the source is missing, holds no file of a known kind or no text, or a row is malformed.
    """
    files = text_files(source)
    root = source if source.is_dir() else source.parent
    tables = []
    with Progress("read text", total=len(files), unit="files") as bar:
        for file in files:
            tables.append(_documents(file, file.relative_to(root).as_posix()))
            bar.update()
    corpus = pa.concat_tables(tables)
    corpus = corpus.filter(pa.array([bool(text.strip()) for text in corpus["text"].to_pylist()], pa.bool_()))
    if not corpus.num_rows:
        raise DataError(
            "no document holds any text; nothing can be learnt from it", file=source, rule="has_text"
        )
    return Collection(
        name=name or source.resolve().name.split(".")[0] or "text",
        corpus=corpus,
        queries=QUERIES_SCHEMA.empty_table(),
        qrels={},
        files={"corpus": str(source)},
        report={"files": len(files)},
    )


def text_files(source: Path) -> list[Path]:
    """The files of a source that hold text, ordered by path.

    Raises:
        DataError: there is no such file or folder, or none that holds text.
    """
    if not source.exists():
        raise DataError("no such file or folder; name the text to adapt on", file=source, rule="file_exists")
    if source.is_file():
        found = [source]
    else:
        # Hidden files and folders below the source: editors' backups, downloads cut off.
        below = (path for path in source.rglob("*") if path.is_file())
        found = sorted(
            path for path in below if not any(part.startswith(".") for part in path.relative_to(source).parts)
        )
    files = [file for file in found if _kind(file)]
    if not files:
        raise DataError(f"no text here; {_EXPECTED}", file=source, rule="file_exists")
    return files


def _built_in(settings: TextSettings) -> CollectionSettings:
    return CollectionSettings(source=settings.source, name=settings.name, pycode=settings.pycode)


def _is_collection(path: Path) -> bool:
    """Whether the folder is a BEIR folder or a saved collection: its queries are no text to adapt on."""
    corpus = any((path / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))
    queries = any((path / name).is_file() for name in ("queries.jsonl", "queries.jsonl.gz"))
    return (corpus and queries) or (path / "collection.json").is_file()


def _kind(file: Path) -> str:
    """``lines``, ``plain``, or nothing for a file that is not read."""
    bare = file.with_suffix("") if file.suffix == ".gz" else file
    if bare.suffix in LINES or (bare.name.startswith(_EXTRACTED) and not bare.suffix):
        return "lines"
    return "plain" if bare.suffix in PLAIN else ""


def _documents(file: Path, place: str) -> pa.Table:
    """The documents of one file, in the schema of a corpus."""
    if _kind(file) == "lines":
        table = read_documents(file)
        ids = pa.array([f"{place}:{line}" for line in table["line"].to_pylist()], pa.string())
        return table.set_column(table.schema.get_field_index("_id"), "_id", ids)
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        message = f"not valid UTF-8 (byte 0x{wrong:02x} at offset {error.start}); convert the file"
        raise DataError(message, file=file, rule="valid_utf8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", file=file, rule="readable") from None
    # A file name is no title: `page_0012` would be taught to the model as a word of the text.
    columns = [[place], [""], [text], [None], [None], [1]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, CORPUS_SCHEMA, strict=True)]
    return pa.table(arrays, schema=CORPUS_SCHEMA)
