"""Which collections are judged, where they lie, and under which protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llara_core.config import CollectionSettings
from llara_core.data.formats import path_fingerprint, source_fingerprint
from llara_core.data.hub import repository_id
from llara_core.data.zips import split_zip, zip_members
from llara_core.errors import DataError
from llara_core.evaluation.beir_sets import CQADUPSTACK, BeirSet, beir_set, find_set

ROOT_VARIABLE = "LLARA_BEIR"  # folder of BEIR's sets, where no --root is given
PREFIX = "beir:"
# Official judgements name a few documents that the corpora lack (ArguAna: 0.4%); they count as missed.
_UNRESOLVED = 0.01


@dataclass(frozen=True)
class Place:
    """One collection to judge.

    Args:
        name: of the collection, in tables and of its folder of results.
        source: what ``CollectionSettings.source`` takes: a folder, zip, hub id or ``pycode``.
        split: the split judged.
        protocol: for ``evaluate_system``; empty where nothing is known.
        group: the set whose average it goes into (CQADupStack's forums), or "".
        unresolved_share: share of judgements that may name unknown documents.
        expected: the public set that it claims to be, where it was asked for by name.
    """

    name: str
    source: str
    split: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    unresolved_share: float = 0.0
    expected: BeirSet | None = None

    def settings(self, base: CollectionSettings) -> CollectionSettings:
        """The collection settings that name it."""
        share = max(self.unresolved_share, base.unresolved_share)
        return base.model_copy(update={"source": self.source, "name": self.name, "unresolved_share": share})

    def fingerprint(self, base: CollectionSettings) -> str:
        """SHA-256 over the bytes of its files.

        Raises:
            DataError: it is not there.
        """
        settings = self.settings(base)
        return source_fingerprint(settings) if settings.folder is None else path_fingerprint(settings.folder)


def places(
    data: Sequence[str] = (),
    sets: Sequence[str] = (),
    root: Path | None = None,
    split: str | None = None,
    default_split: str = "test",
) -> list[Place]:
    """Return what is to be judged, one entry per collection (twelve for CQADupStack).

    Args:
        data: folders, zips, hub ids, ``pycode``, or ``beir:NAME`` for a set by name.
        sets: names of BEIR's public sets; each is looked for as ``<root>/<name>``, then as
            ``<root>/<name>.zip``, and without a root on the hub.
        root: folder of the sets; None: the environment variable ``LLARA_BEIR``.
        split: judged everywhere; None: each set's own, or `default_split`.
        default_split: of collections that are no public set.

    Raises:
        DataError: a name is unknown, a set is not where it was looked for, or two collections have one
            name (the second's results would replace the first's).
    """
    if root is None and os.environ.get(ROOT_VARIABLE):
        root = Path(os.environ[ROOT_VARIABLE]).expanduser()
    found: list[Place] = []
    for name in [*sets, *(one.removeprefix(PREFIX) for one in data if one.startswith(PREFIX))]:
        found.extend(_named(beir_set(name), root, split))
    for source in data:
        if not source.startswith(PREFIX):
            found.extend(_given(source, split, default_split))
    names = [place.name for place in found]
    for place in found:
        if names.count(place.name) > 1:
            raise DataError(
                f"two of the collections are called {place.name!r}, so their results would be one; "
                "rename a folder, or judge them with two commands"
            )
    return found


def _named(known: BeirSet, root: Path | None, split: str | None) -> list[Place]:
    if known.forums:
        base = None if root is None else _look_for(known, root)
        return [
            _public(forum, forum.mteb if base is None else str(_forum(base, name)), split, CQADUPSTACK)
            for name, forum in known.forums.items()
        ]
    source = known.hub or known.mteb if root is None else str(_look_for(known, root))
    return [_public(known, source, split)]


def _look_for(known: BeirSet, root: Path) -> Path:
    for candidate in (root / known.name, root / f"{known.name}.zip"):
        if candidate.exists():
            return candidate
    hub = known.hub or "the forums' own repositories on the hub"
    raise DataError(
        f"neither a folder {known.name} nor {known.name}.zip here; unpack BEIR's {known.name}.zip there, "
        f"or leave out --root to take {hub}",
        file=root,
        rule="file_exists",
    )


def _given(source: str, split: str | None, default_split: str) -> list[Place]:
    if source == "pycode":
        return [Place("pycode", source, split or default_split)]
    path = Path(os.path.expandvars(source)).expanduser()
    name = _name(path)
    known = find_set(name)
    if known is not None and known.forums and _holds_forums(path):
        return [
            _public(forum, str(_forum(path, one)), split, CQADUPSTACK) for one, forum in known.forums.items()
        ]
    # A folder may be called quora and hold something else: the size decides, once it is read.
    chosen = split or (known.split if known is not None else default_split)
    return [Place(name, source, chosen, unresolved_share=_UNRESOLVED if known is not None else 0.0)]


def _public(known: BeirSet, source: str, split: str | None, group: str = "") -> Place:
    return Place(
        known.name,
        source,
        split or known.split,
        known.protocol,
        group,
        unresolved_share=_UNRESOLVED,
        expected=known,
    )


def _name(path: Path) -> str:
    repository = repository_id(path)
    if repository is not None:
        return repository.rsplit("/", maxsplit=1)[-1]
    saved = path / "collection.json"
    if saved.is_file():
        return str(json.loads(saved.read_text(encoding="utf-8"))["name"])
    return path.resolve().name.removesuffix(".zip")


def _holds_forums(path: Path) -> bool:
    if split_zip(path) is not None:
        return any(name.endswith("/android/corpus.jsonl") for name in zip_members(path))
    return (path / "android").is_dir()


def _forum(base: Path, name: str) -> Path:
    """Folder of a forum below the set's folder or zip (whose one folder is called after the set)."""
    return base / CQADUPSTACK / name if split_zip(base) is not None else base / name
