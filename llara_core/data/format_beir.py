"""BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv`` in a folder or a zip.

Each plain or packed, local or by URL. A corpus row may carry ``metadata.group`` and
``metadata.position``: documents of one group follow each other.
Source: BEIR (Thakur et al. 2021), section 3 and its data loader; deviations: numbers are taken as ids,
a file without a header loses no row, and every broken row is named by file and line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from llara_core.data.collection import Collection
from llara_core.data.format_base import Format, Request, tree
from llara_core.data.places import (
    as_text,
    bare_name,
    is_file,
    is_folder,
    join,
    read_json_lines,
    read_rows,
    shown,
)
from llara_core.data.raw import Raw, RowError, Source, SourceFile
from llara_core.data.records import corpus_entry, grade, judgement_entry, query_entry
from llara_core.data.zips import split_zip
from llara_core.errors import DataError
from llara_core.files import new_folder

_CHUNK = 50_000  # rows that stand as Python objects at a time
_EXPECTED = "expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv, or a zip of one"


def open_beir(request: Request) -> Source:
    """The files of a BEIR folder or zip.

    Raises:
        DataError: a file is missing, or a zip holds none or several collections.
    """
    files = beir_files(request.place, corpus_only=request.corpus_only)
    corpus = shown(files["corpus"])
    parent = PurePosixPath(corpus).parent if isinstance(corpus, str) else corpus.resolve().parent
    return Source(
        name=request.name or parent.name.removesuffix(".zip"),
        format="beir",
        files=[_FILES[role.split("/")[0]](role, file) for role, file in files.items()],
        facts={"place": str(shown(request.place))},
    )


def beir_files(place: str, *, corpus_only: bool) -> dict[str, str]:
    """``corpus``, ``queries``, ``qrels/<split>`` to the files that a BEIR folder or zip has.

    Raises:
        DataError: a file is missing, or a zip holds none or several collections.
    """
    if not is_folder(place) and split_zip(Path(place)) is None:
        found = "it is a file" if is_file(place) else "no such folder"
        raise DataError(f"{found}; {_EXPECTED}", file=shown(place), rule="file_exists")
    root = _root(place)
    names = _names(root)
    files = {"corpus": _needed(root, names, "corpus.jsonl")}
    if corpus_only:
        return files
    files["queries"] = _needed(root, names, "queries.jsonl")
    # Packed ones first, so that a plain file wins over its twin.
    for name in sorted(names, key=lambda one: (one.endswith(".tsv"), one)):
        if name.startswith("qrels/") and name.count("/") == 1 and bare_name(name).endswith(".tsv"):
            files[f"qrels/{bare_name(name).removesuffix('.tsv')}"] = join(root, name)
    if len(files) == 2:
        raise DataError(
            "no relevance judgements; expected qrels/<split>.tsv, e.g. qrels/test.tsv",
            file=shown(join(root, "qrels")),
            rule="file_exists",
        )
    return files


def qrels_file(role: str, file: str) -> SourceFile:
    """A file of judgements: three cells with tabs between (a header may be missing), or JSON lines."""
    if bare_name(file).endswith(".jsonl"):
        return SourceFile(role, file, partial(read_json_lines, file), judgement_entry)
    return SourceFile(role, file, partial(_read_qrels, file), judgement_entry)


def corpus_file(role: str, file: str) -> SourceFile:
    """A file of documents."""
    return SourceFile(role, file, partial(read_json_lines, file), corpus_entry)


def queries_file(role: str, file: str) -> SourceFile:
    """A file of queries."""
    return SourceFile(role, file, partial(read_json_lines, file), query_entry)


_FILES = {"corpus": corpus_file, "queries": queries_file, "qrels": qrels_file}


def _names(root: str) -> list[str]:
    """Files of a collection's folder by their paths below it; other folders in it are not asked."""
    return list(tree(root))


def _root(place: str) -> str:
    """The folder itself; of a zip, the one folder at or below the place that has a corpus."""
    if not any(part.lower().endswith(".zip") for part in as_text(place).split("/")):
        return as_text(place)
    try:
        names = [PurePosixPath(name) for name in tree(place)]
    except DataError as error:
        if error.rule != "file_exists":
            raise
        names = []  # nothing at this place, or nothing that may be read
    folders = sorted({name.parent for name in names if bare_name(name.name) == "corpus.jsonl"})
    if len(folders) == 1:
        return join(place, *folders[0].parts)
    listed = ", ".join(str(shown(join(place, *one.parts))) for one in folders[:3])
    raise DataError(
        f"the zip holds {len(folders)} collections: name one of them, e.g. {listed}"
        if folders
        else "no corpus.jsonl in this zip; expected a zipped BEIR folder",
        file=shown(place),
        rule="file_exists",
    )


def _needed(root: str, names: list[str], name: str) -> str:
    found = [one for one in names if "/" not in one and bare_name(one) == name]
    if not found:
        raise DataError(
            f"missing file; a BEIR folder has {name} or {name}.gz",
            file=shown(join(root, name)),
            rule="file_exists",
        )
    return join(root, name if name in found else found[0])


def _read_qrels(file: str) -> Iterator[Raw]:
    first = True
    for raw in read_rows(file, parse_judgement):
        header = first and raw.record is not None and grade(raw.record["score"]) is None
        first = False
        if not header:
            yield raw


def parse_judgement(line: bytes) -> Mapping[str, Any]:
    """Three cells with tabs between.

    Raises:
        RowError: there are more or fewer, or they are no UTF-8.
    """
    cells = decoded(line).rstrip("\r").split("\t")
    if len(cells) != 3:
        expected = "expected 3 cells with tabs between (query-id, corpus-id, score)"
        raise RowError("qrels_columns", f"{expected}, got {len(cells)}")
    return {"query-id": cells[0], "corpus-id": cells[1], "score": cells[2]}


def decoded(line: bytes) -> str:
    """A line's text.

    Raises:
        RowError: it is no UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        message = f"not valid UTF-8 (byte 0x{wrong:02x} at offset {error.start} of the line)"
        raise RowError("valid_utf8", message) from None


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


def _corpus_line(row: Mapping[str, Any]) -> str:
    record: dict[str, Any] = {"_id": row["_id"], "title": row["title"], "text": row["text"]}
    if row["group"] is not None:
        record["metadata"] = {"group": row["group"], "position": row["position"]}
    return _json_line(record)


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


BEIR = Format(
    name="beir",
    files="corpus.jsonl, queries.jsonl, qrels/<split>.tsv in a folder or zip",
    row='{"_id": "4983", "title": "Microstructural development", "text": "Alterations of …"}',
    recognised="by corpus.jsonl with queries.jsonl or qrels/ beside it",
    becomes="corpus, queries and the splits' judgements, as they are",
    open=open_beir,
)
