"""Telling a place's format from its files' names and its first rows' fields; and saying what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llara_core.data.format_base import kind_of, tree, without_twins
from llara_core.data.format_msmarco import role_of
from llara_core.data.format_sentence_transformers import is_labelled, pair_columns
from llara_core.data.format_tables import layout_of, open_table
from llara_core.data.format_text import PLAIN
from llara_core.data.format_wikipedia import is_extracted
from llara_core.data.hub import is_repository, repository_id
from llara_core.data.places import as_text, bare_name, is_url, open_place, shown
from llara_core.errors import DataError

_ARTICLE = ({"id", "title", "text"}, {"id", "url", "title", "text"}, {"id", "revid", "url", "title", "text"})
_HEAD = 512  # bytes looked at of a file whose suffix tells nothing
NAMES = (
    "beir", "saved", "jsonl", "csv", "tsv", "parquet", "text", "wikipedia", "msmarco", "flag_embedding",
    "flag_embedding_rows", "tevatron", "sentence_transformers", "hub",
)  # fmt: skip


def detect(place: str | Path) -> str:
    """The name of a place's format, a key of ``formats.FORMATS``.

    File names are looked at first, then the fields of the first rows of the first file.

    Raises:
        DataError: there is no such place, or it cannot be told; says what was seen, which formats there
            are and how to name one.
    """
    text = as_text(place)
    if repository_id(text) is not None or (not is_url(text) and is_repository(Path(text))):
        return "hub"
    files = without_twins(tree(text))
    return _folder(text, files) if files else _file(text)


def _folder(place: str, files: dict[str, str]) -> str:
    if "collection.json" in files and "corpus.arrow" in files:
        return "saved"
    names = [name.rpartition("/")[2] for name in files]
    if "corpus.jsonl" in names and ("queries.jsonl" in names or any("qrels/" in one for one in files)):
        return "beir"
    if any(role_of(name) for name in names):
        return "msmarco"
    parts = layout_of(files)
    if "corpus" in parts:
        return kind_of(parts["corpus"][0][1])
    return _loose_files(place, files)


def _loose_files(place: str, files: dict[str, str]) -> str:
    """The format of a folder whose files are alike."""
    if any(is_extracted(file) for file in files.values()):
        return "wikipedia"
    if any(bare_name(file).endswith(PLAIN) and not _note(file) for file in files.values()):
        return "text"
    tables = [file for file in files.values() if kind_of(file)]
    if not tables:
        raise _unknown(place, f"files {', '.join(sorted(files)[:8])}{', …' if len(files) > 8 else ''}")
    return _rows(tables[0], kind_of(tables[0]))


def _note(file: str) -> bool:
    """Whether a file of text is about the data rather than data."""
    return bare_name(file).upper().startswith(("README", "LICENSE", "LICENCE", "SOURCE", "CHANGELOG"))


def _file(place: str) -> str:
    kind = kind_of(place)
    if role := role_of(bare_name(place)):
        if role in ("corpus", "pairs/train", "pairs/dev", "pairs/test"):
            return "msmarco"
        raise _unknown(
            place, f"MS MARCO's {role.split('/')[0]} alone: name the folder that holds collection.tsv too"
        )
    if kind:
        return _rows(place, kind)
    if is_extracted(place):
        return "wikipedia"
    if bare_name(place).endswith(PLAIN):
        return "text"
    with open_place(place) as stream:
        head = stream.peek(_HEAD)[:_HEAD]
    if head.lstrip().startswith(b"{"):
        return _rows(place, "jsonl")
    raise _unknown(place, f"a file called {bare_name(place)!r} that begins with {head[:40]!r}")


def _rows(file: str, kind: str) -> str:
    """The format of rows by their fields."""
    if kind == "jsonl":
        _refuse_array(file)
    try:
        fields = open_table(file, {"text": "1"} if kind in ("csv", "tsv") else {}, kind).fields
    except DataError as error:
        if error.rule != "columns":
            raise
        return kind
    return _by_fields(fields, kind) or kind


def _by_fields(fields: Sequence[str], kind: str) -> str:
    have = set(fields)
    if {"query", "pos"} <= have:
        return "flag_embedding"
    if {"input", "output_predict"} <= have:
        return "flag_embedding_rows"
    if {"query", "positive_passages"} <= have:
        return "tevatron"
    if pair_columns(fields) or is_labelled(fields):
        return "sentence_transformers"
    # A CSV of somebody's own has these columns as well, and is no extract.
    return "wikipedia" if have in _ARTICLE and kind in ("jsonl", "parquet") else ""


def _refuse_array(file: str) -> None:
    with open_place(file) as stream:
        head = stream.peek(_HEAD)[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"[") and not bare_name(file).endswith(".jsonl"):
        raise DataError(
            "is one JSON array; expected an object a line: convert it, e.g. jq -c '.[]' FILE > FILE.jsonl",
            file=shown(file),
            rule="known_format",
        )


def _unknown(place: str, seen: str) -> DataError:
    return DataError(
        f"cannot tell the format; seen: {seen}. Known formats: {', '.join(NAMES)} (`llara data formats` "
        "shows each). Name one by collection.format, and its columns by collection.columns",
        file=shown(place),
        rule="known_format",
    )
