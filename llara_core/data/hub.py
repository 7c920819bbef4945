"""Collections from Hugging Face dataset repositories, online or from a folder they were downloaded to.

Two layouts are read: BEIR's (``BeIR/scifact`` with the judgements in ``BeIR/scifact-qrels``) and
mteb's (``mteb/scifact``: ``corpus``, ``queries`` and the judgements as ``default``, all in one).
JSON lines and TSV are read by our own reader; Parquet goes through the package ``datasets``, which
maps it into memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.records import read_corpus, read_qrels, read_queries
from llara_core.errors import DataError, MissingDependencyError

PREFIX = "hf:"  # says that an id is meant, and no folder
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IDS = ("_id", "id")  # names of the id's column: BEIR's and mteb's own
_DATA = (".parquet", ".jsonl", ".gz", ".tsv", ".arrow")
_SPLITS = {"validation": "dev"}  # the hub's name for what BEIR's files call dev


def repository_id(source: Path | str) -> str | None:
    """The hub id that a source names, or None where it is a path.

    ``hf:owner/name`` always is one; ``owner/name`` is one unless such a path exists here.
    """
    text = str(source)
    if text.startswith(PREFIX):
        return text.removeprefix(PREFIX)
    return text if _ID.fullmatch(text) and not Path(text).exists() else None


def is_repository(folder: Path) -> bool:
    """Whether a folder is the download of a dataset repository rather than a BEIR folder."""
    if not folder.is_dir() or any((folder / "qrels").glob("*.tsv*")):
        return False
    # No deeper than repositories keep them: somebody may point at a home folder.
    if any(any(folder.glob(pattern)) for pattern in ("qrels/*.jsonl*", "*.parquet", "*/*.parquet")):
        return True
    return (folder / "README.md").is_file() and _judgements_beside(folder).is_dir()


def read_hub(repository: str, name: str | None = None, *, corpus_only: bool = False) -> Collection:
    """Read a collection from the Hugging Face hub, or from its cache on this machine.

    Args:
        repository: id of a dataset in one of the two layouts, e.g. ``BeIR/scifact``.
        name: the collection's name; None takes the id's last part.
        corpus_only: leave queries and judgements unread.

    Raises:
        DataError: the id is unknown or cannot be reached (says what to download and where to put it),
            or a row is malformed.
        MissingDependencyError: the repository holds Parquet and ``datasets`` is not installed.
    """
    folder, beside = _download(repository)
    return read_repository(
        folder, name or repository.rsplit("/", maxsplit=1)[-1], corpus_only=corpus_only, judgements=beside
    )


def read_repository(
    folder: Path, name: str | None = None, *, corpus_only: bool = False, judgements: Path | None = None
) -> Collection:
    """Read the folder that a dataset repository was downloaded to.

    Args:
        folder: of the repository.
        name: the collection's name; None takes the folder's.
        corpus_only: leave queries and judgements unread.
        judgements: folder of ``<name>-qrels``, where judgements are kept apart; None: beside `folder`.

    Raises:
        DataError: a part is missing, or a row is malformed.
        MissingDependencyError: it holds Parquet and ``datasets`` is not installed.
    """
    corpus = _texts(folder, "corpus", CORPUS_SCHEMA)
    if not corpus.num_rows:
        raise DataError("the corpus is empty; add documents", file=folder, rule="corpus_not_empty")
    queries, qrels = QUERIES_SCHEMA.empty_table(), {}
    if not corpus_only:
        queries = _texts(folder, "queries", QUERIES_SCHEMA)
        qrels = _qrels(folder, judgements or _judgements_beside(folder))
    places = {"corpus": folder / "corpus", "queries": folder / "queries"}
    places |= {f"qrels/{split}": folder / "qrels" / split for split in qrels}
    return Collection(
        name=name or folder.resolve().name,
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        files={key: str(place) for key, place in places.items() if key == "corpus" or not corpus_only},
    )


def repository_files(source: Path | str) -> dict[str, Path]:
    """Every data file of a repository on the hub or in a folder, by its name, for fingerprints.

    Raises:
        DataError: the id cannot be reached.
    """
    repository = repository_id(source)
    if repository is not None:
        folders: Sequence[Path | None] = _download(repository)
    else:
        folders = (Path(source), _judgements_beside(Path(source)))
    return {
        f"{place}/{file.relative_to(folder)}": file
        for place, folder in enumerate(folders)
        if folder is not None and folder.is_dir()
        for file in sorted(folder.rglob("*"))
        if file.suffix in _DATA and file.is_file()
    }


def _judgements_beside(folder: Path) -> Path:
    here = folder.resolve()
    return here.with_name(f"{here.name}-qrels")


def _download(repository: str) -> tuple[Path, Path | None]:
    """Folders of a repository and of its ``-qrels``, which only BEIR's layout has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(repository, repo_type="dataset"))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise DataError(_advice(repository, error), rule="reachable") from None
    if any((folder / "qrels").glob("*")) or _has_default_judgements(folder):
        return folder, None
    try:
        return folder, Path(snapshot_download(f"{repository}-qrels", repo_type="dataset"))
    except RepositoryNotFoundError:
        return folder, None
    except (OSError, HfHubHTTPError) as error:
        raise DataError(_advice(repository, error), rule="reachable") from None


def _has_default_judgements(folder: Path) -> bool:
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return bool(re.search(r"config_name:\s*(qrels|default)\b", text))


def _advice(repository: str, error: Exception) -> str:
    short = repository.rsplit("/", maxsplit=1)[-1]
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    reason = str(error).strip().split("\n")[0][:200]
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        reason = "it cannot be reached, and nothing of that id was kept from before"
    return (
        f"{repository}: no such folder here, and no dataset of that id from the Hugging Face hub "
        f"({reason}). Where there is a network, run `hf download {repository} "
        f"--repo-type dataset --local-dir FOLDER/{short}` (for BeIR/… also {repository}-qrels to "
        f"FOLDER/{short}-qrels), copy FOLDER here and give FOLDER/{short}; BEIR's {short}.zip will do as well"
    )


def _texts(folder: Path, part: str, schema: pa.Schema) -> pa.Table:
    """Corpus or queries, from JSON lines at the top or from the configuration of that name."""
    for file in (folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz"):
        if file.is_file():
            return read_corpus(file) if part == "corpus" else read_queries(file)
    splits = _splits(folder, part)
    if not splits:
        raise DataError(
            f"holds neither {part}.jsonl nor a configuration {part!r} in its README.md",
            file=folder,
            rule="file_exists",
        )
    table = _all_splits(folder, part, splits)
    key = next((one for one in _IDS if one in table.column_names), None)
    if key is None or "text" not in table.column_names:
        raise DataError(
            f"{part}: expected columns _id and text, got {', '.join(table.column_names)}",
            file=folder,
            rule="has_text",
        )
    columns: dict[str, Any] = {"_id": _strings(table[key], folder, f"{part}: {key}")}
    columns["text"] = _strings(table["text"], folder, f"{part}: text")
    if "title" in schema.names:
        has = "title" in table.column_names
        titles = pc.fill_null(table["title"], "") if has else pa.repeat(pa.scalar(""), table.num_rows)
        columns["title"] = pa.chunked_array([titles]) if not has else titles.cast(pa.string())
    return _with_schema(columns, schema, table.num_rows)


def _all_splits(folder: Path, part: str, splits: Sequence[str]) -> pa.Table:
    """One table of a part that may be cut by split, as some of mteb's queries are; each id once."""
    if part == "corpus" or len(splits) == 1:
        return _load(folder, part, part if part in splits else splits[0])
    tables = [_load(folder, part, split) for split in splits]
    common = [name for name in tables[0].column_names if all(name in one.column_names for one in tables)]
    joined = pa.concat_tables([one.select(common) for one in tables])
    key = next((one for one in _IDS if one in common), None)
    if key is None:
        return joined
    firsts: dict[str, int] = {}
    for row, value in enumerate(joined[key].to_pylist()):
        firsts.setdefault(value, row)
    return joined.take(pa.array(list(firsts.values())))


def _qrels(folder: Path, beside: Path) -> dict[str, pa.Table]:
    """Split to judgements, wherever the layout keeps them."""
    patterns = [(folder / "qrels", "*.jsonl*"), (beside, "*.tsv*"), (beside / "qrels", "*.tsv*")]
    files = [file for place, pattern in patterns for file in sorted(place.glob(pattern))]
    if files:
        return {_split(file.name.split(".")[0]): read_qrels(file) for file in files}
    for place, config in ((folder, "default"), (folder, "qrels"), (beside, "default"), (beside, None)):
        splits = _splits(place, config) if _has_data(place) else []
        tables = {_split(split): _load(place, config, split) for split in splits}
        if tables and all("query-id" in table.column_names for table in tables.values()):
            return {split: _judged(table, place, split) for split, table in tables.items()}
    raise DataError(
        f"no relevance judgements: expected qrels/*.jsonl, a configuration default or qrels with query-id, "
        f"corpus-id and score, or the repository {beside.name} beside it",
        file=folder,
        rule="file_exists",
    )


def _has_data(folder: Path) -> bool:
    return folder.is_dir() and any(file.suffix in _DATA for file in folder.rglob("*"))


def _split(name: str) -> str:
    return _SPLITS.get(name, name)


def _judged(table: pa.Table, folder: Path, split: str) -> pa.Table:
    columns: dict[str, Any] = {
        "query_id": _strings(table["query-id"], folder, f"qrels/{split}: query-id"),
        "corpus_id": _strings(table["corpus-id"], folder, f"qrels/{split}: corpus-id"),
    }
    try:
        columns["score"] = table["score"].cast(pa.int32())
    except (pa.ArrowInvalid, KeyError) as error:
        raise DataError(
            f"qrels/{split}: expected whole numbers under 'score': {error}",
            file=folder,
            rule="grades_in_range",
        ) from None
    return _with_schema(columns, QRELS_SCHEMA, table.num_rows)


def _strings(column: pa.ChunkedArray, folder: Path, what: str) -> pa.ChunkedArray:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise DataError(f"{what} is missing", file=folder, row=row, rule="has_text")
    return column.cast(pa.string())  # no copy where it is one already


def _with_schema(columns: dict[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    columns["line"] = pa.array(range(1, rows + 1), pa.int32())
    filled = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
    return pa.table(filled, schema=schema)


def _splits(folder: Path, config: str | None) -> list[str]:
    datasets = _datasets(folder)
    try:
        names = datasets.get_dataset_config_names(str(folder))
        chosen = config if config is not None else names[0]
        return list(datasets.get_dataset_split_names(str(folder), chosen)) if chosen in names else []
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read by datasets: {error}", file=folder, rule="readable") from None


def _load(folder: Path, config: str | None, split: str) -> pa.Table:
    datasets = _datasets(folder)
    try:
        loaded = datasets.load_dataset(str(folder), config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot be read by datasets: {error}", file=folder, rule="readable") from None
    return loaded.data.table


def _datasets(folder: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(
            f"{folder} holds Parquet, which the package datasets reads, and it is not installed: "
            "pip install 'llara[pipeline]', or pip install datasets"
        ) from None
    return datasets
