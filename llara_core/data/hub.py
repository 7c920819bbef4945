"""Collections from Hugging Face dataset repositories, online or from a folder they were downloaded to.

Two layouts of whole collections are read: BEIR's (``BeIR/scifact`` with the judgements in
``BeIR/scifact-qrels``) and mteb's (``mteb/scifact``: ``corpus``, ``queries`` and the judgements as
``default``, all in one). JSON lines and TSV are read by our own reader; Parquet goes through the package
``datasets``, which maps it into memory. Repositories of another shape are files in some other format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from llara_core.data.collection import Collection
from llara_core.data.format_beir import corpus_file, qrels_file, queries_file
from llara_core.data.format_saved import table_file
from llara_core.data.hub_tables import IDS, all_splits, load, splits_of
from llara_core.data.raw import Source, SourceFile
from llara_core.data.records import documents, judgement, queries
from llara_core.data.strict import strict_collection
from llara_core.errors import DataError

PREFIX = "hf:"  # says that an id is meant, and no folder
_PART = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"({_PART}/{_PART})(?:@([\w.-]+(?:/[\w.-]+)*?))?(?://?(.+))?")
_BARE = re.compile(rf"{_PART}/{_PART}(?:@[\w.-]+)?")
_DATA = (".parquet", ".jsonl", ".json", ".csv", ".gz", ".zst", ".xz", ".tsv", ".arrow")
_SPLITS = {"validation": "dev"}  # the hub's name for what BEIR's files call dev
_CONFIGS = re.compile(r"config_name:\s*[\"']?corpus\b")


class Repository(NamedTuple):
    """What a hub id names: ``hf:owner/name@revision/folder``."""

    id: str
    revision: str | None
    inside: str  # a folder or file in it, or ""


class Download(NamedTuple):
    """A repository on this machine."""

    folder: Path
    judgements: Path | None  # the folder of ``<name>-qrels``, which only BEIR's layout has
    commit: str  # that was downloaded, whatever revision was asked for


def repository_id(source: Path | str) -> str | None:
    """The hub id that a source names, without its revision, or None where it is a path.

    ``hf:owner/name`` always is one; ``owner/name`` is one unless such a path exists here.
    """
    found = parse_repository(source)
    return None if found is None else found.id


def parse_repository(source: Path | str) -> Repository | None:
    """Id, revision and folder that a source names on the hub, or None where it is a path."""
    text = str(source)
    if not text.startswith(PREFIX) and (not _BARE.fullmatch(text) or Path(text).exists()):
        return None
    match = _ID.fullmatch(text.removeprefix(PREFIX))
    if match is None:
        return Repository(text.removeprefix(PREFIX), None, "")
    return Repository(match[1], match[2], match[3] or "")


def is_repository(folder: Path) -> bool:
    """Whether a folder is the download of a dataset repository in one of the two layouts."""
    if not folder.is_dir() or any((folder / "qrels").glob("*.tsv*")):
        return False
    if any((folder / "qrels").glob("*.jsonl*")):
        return True
    readme = folder / "README.md"
    return readme.is_file() and (_judgements_beside(folder).is_dir() or bool(_CONFIGS.search(_text(readme))))


def read_hub(
    repository: str, name: str | None = None, *, corpus_only: bool = False, revision: str | None = None
) -> Collection:
    """Read a collection from the Hugging Face hub, or from its cache on this machine.

    Args:
        repository: id of a dataset in one of the two layouts, e.g. ``BeIR/scifact``.
        name: the collection's name; None takes the id's last part.
        corpus_only: leave queries and judgements unread.
        revision: commit, tag or branch; None: the newest.

    Raises:
        DataError: the id is unknown or cannot be reached (says what to download and where to put it),
            or a row is malformed.
        MissingDependencyError: the repository holds Parquet and ``datasets`` is not installed.
    """
    found = download(Repository(repository, revision, ""))
    name = name or repository.rsplit("/", maxsplit=1)[-1]
    return read_repository(found.folder, name, corpus_only=corpus_only, judgements=found.judgements)


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
    return strict_collection(repository_source(folder, name, corpus_only=corpus_only, judgements=judgements))


def repository_source(
    folder: Path, name: str | None = None, *, corpus_only: bool = False, judgements: Path | None = None
) -> Source:
    """The same, its rows not read yet; raises as ``read_repository``."""
    files = [_part(folder, "corpus")]
    if not corpus_only:
        files.append(_part(folder, "queries"))
        files += _qrels(folder, judgements or _judgements_beside(folder))
    return Source(name or folder.resolve().name, "hub", files, {"place": str(folder)})


def repository_files(source: Path | str) -> dict[str, Path]:
    """Every data file of a repository on the hub or in a folder, by its name, for fingerprints.

    Raises:
        DataError: the id cannot be reached.
    """
    repository = parse_repository(source)
    if repository is not None:
        found = download(repository)
        folders: Sequence[Path | None] = (found.folder, found.judgements)
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


def download(repository: Repository) -> Download:
    """A repository and its ``-qrels``, from the hub or from the cache on this machine.

    Raises:
        DataError: it cannot be had; says what to download and where to put it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    get = partial(snapshot_download, repo_type="dataset")
    only = [f"{repository.inside}*", "README.md"] if repository.inside else None
    try:
        folder = Path(get(repository.id, revision=repository.revision, allow_patterns=only))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise DataError(_advice(repository.id, error), rule="reachable") from None
    commit = folder.name  # the hub's cache keeps a folder for every commit
    if repository.inside or any((folder / "qrels").glob("*")) or not _lacks_judgements(folder):
        return Download(folder, None, commit)
    try:
        return Download(folder, Path(get(f"{repository.id}-qrels")), commit)
    except RepositoryNotFoundError:
        return Download(folder, None, commit)
    except (OSError, HfHubHTTPError) as error:
        raise DataError(_advice(repository.id, error), rule="reachable") from None


def _lacks_judgements(folder: Path) -> bool:
    """Whether it is a collection whose judgements must lie elsewhere."""
    readme = folder / "README.md"
    text = _text(readme) if readme.is_file() else ""
    corpus = _CONFIGS.search(text) is not None or any(folder.glob("corpus.jsonl*"))
    return corpus and not re.search(r"config_name:\s*(qrels|default)\b", text)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


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


def _part(folder: Path, part: str) -> SourceFile:
    """Corpus or queries, from JSON lines at the top or from the configuration of that name."""
    for file in (folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz"):
        if file.is_file():
            return (corpus_file if part == "corpus" else queries_file)(part, str(file))
    splits = splits_of(folder, part)
    if not splits:
        raise DataError(
            f"holds neither {part}.jsonl nor a configuration {part!r} in its README.md",
            file=folder,
            rule="file_exists",
        )
    table = all_splits(folder, part, splits)
    key = next((one for one in IDS if one in table.column_names), None)
    if key is None or "text" not in table.column_names:
        raise DataError(
            f"{part}: expected columns _id and text, got {', '.join(table.column_names)}",
            file=folder,
            rule="has_text",
        )
    title = "title" if "title" in table.column_names else None
    convert = documents(key, "text", title) if part == "corpus" else queries(key, "text")
    return table_file(part, str(folder / part), table, convert)


def _qrels(folder: Path, beside: Path) -> list[SourceFile]:
    """Judgements by split, wherever the layout keeps them."""
    patterns = [(folder / "qrels", "*.jsonl*"), (beside, "*.tsv*"), (beside / "qrels", "*.tsv*")]
    files = [file for place, pattern in patterns for file in sorted(place.glob(pattern))]
    if files:
        return [qrels_file(f"qrels/{_split(file.name.split('.')[0])}", str(file)) for file in files]
    for place, config in ((folder, "default"), (folder, "qrels"), (beside, "default"), (beside, None)):
        splits = splits_of(place, config) if _has_data(place) else []
        tables = {_split(split): load(place, config, split) for split in splits}
        if tables and all("query-id" in table.column_names for table in tables.values()):
            convert = partial(judgement, query="query-id", document="corpus-id", score="score")
            return [
                table_file(f"qrels/{split}", str(folder / "qrels" / split), table, convert)
                for split, table in tables.items()
            ]
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
