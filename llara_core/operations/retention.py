"""What is kept and what goes: one list of everything that runs have left, each with the reason it stays.

``llara gc`` makes the list, shows it, and only with ``--apply`` removes what no reason holds. Each thing is
looked at again in the moment it goes, since a run may have started meanwhile. Nothing is deleted in place: a
folder is renamed to a hidden name first, so that whoever opens it later finds it whole or not at all, and a
``gc`` that is killed leaves only such hidden folders, which the next one removes.

Source: issue 6, point 6.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llara_core.errors import DataError

logger = logging.getLogger(__name__)

TRASH = ".gc-"  # how the hidden name of a folder begins that is being deleted
DAY = 86400.0


@dataclass(frozen=True)
class Item:
    """Something that a run has left.

    Args:
        kind: e.g. ``vectors``, ``checkpoints``, ``model version``.
        name: what a person would call it; with the kind it is unique.
        size: bytes that deleting it frees.
        modified: when it was last written or used, in seconds since 1970.
        keep: why it stays; None: it goes.
        path: the folder or file; None where it is a record of ZenML or MLflow.
        key: id of the record.
    """

    kind: str
    name: str
    size: int
    modified: float
    keep: str | None = None
    path: Path | None = None
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size, "keep": self.keep}


@dataclass(frozen=True)
class Use:
    """What is in use, and by whom.

    Args:
        paths: files and folders to the words that say who uses them; what lies above or below is in use too.
        fingerprints: of models whose vectors are worth keeping, to the words.
        versions: ``<registered model>/<number>`` to the words.
        running: what is under way, in words; None: nothing. While something runs, nothing goes that a run
            makes for itself (work folders, checkpoints, vectors half done).
    """

    paths: Mapping[Path, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    running: str | None = None

    def of_path(self, path: Path) -> str | None:
        """Who uses a folder, something in it, or something it lies in; None: nobody."""
        real = path.resolve()
        for used, words in self.paths.items():
            if used == real or used.is_relative_to(real) or real.is_relative_to(used):
                return words
        return None


def newest(moments: Mapping[str, float], count: int) -> set[str]:
    """Names of the ``count`` latest.

    Args:
        moments: name to seconds since 1970; equal moments go by name.
        count: how many.
    """
    return {name for name, _ in sorted(moments.items(), key=lambda one: (one[1], one[0]))[::-1][:count]}


def too_young(modified: float, now: float, days: float) -> str | None:
    """The reason why something stays that has not reached an age; None: it is old enough.

    A moment in the future (another machine's clock) counts as young.
    """
    age = (now - modified) / DAY
    return f"younger than {days:g} days" if age < days else None


def size_of(path: Path) -> int:
    """Bytes on the disk that deleting it frees: files that have other names elsewhere do not count."""
    links: dict[tuple[int, int], tuple[int, int, int]] = {}
    files: Iterable[Path] = (path,)
    if path.is_dir() and not path.is_symlink():
        files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    for file in files:
        try:
            facts = file.lstat()
        except FileNotFoundError:  # it went while we looked
            continue
        seen = links.get((facts.st_dev, facts.st_ino), (0, 0, 0))[0]
        links[facts.st_dev, facts.st_ino] = (seen + 1, facts.st_nlink, facts.st_blocks * 512)
    return sum(size for seen, names, size in links.values() if seen >= names)


def last_used(path: Path) -> float:
    """When a file, or any in a folder, was last written or read, in seconds since 1970; 0: it is gone.

    Reading counts as far as the file system keeps note of it (``relatime``: once a day).
    """
    latest = 0.0
    folders = os.walk(path) if path.is_dir() and not path.is_symlink() else ()
    for place in (path, *(Path(folder) / name for folder, _, names in folders for name in names)):
        try:
            facts = place.lstat()
        except FileNotFoundError:
            continue
        # A folder's access time is that of whoever listed it, also of this very look.
        latest = max(latest, facts.st_mtime, facts.st_atime if place.is_file() else 0.0)
    return latest


def remove(item: Item, still_used: Callable[[Item], str | None]) -> str | None:
    """Delete a folder or file, if nobody has begun to use it.

    Args:
        item: with a path.
        still_used: asked just before, and once more when the folder has its hidden name: who uses it.

    Returns:
        Why it stays after all; None: it is gone.

    Raises:
        DataError: it cannot be deleted.
    """
    path = item.path
    if path is None or not path.exists():
        return None
    if words := still_used(item):
        return words
    hidden = path if path.name.startswith(TRASH) else path.with_name(f"{TRASH}{uuid.uuid4().hex[:12]}")
    try:
        path.rename(hidden)
        if words := still_used(Item(item.kind, item.name, item.size, item.modified, path=hidden)):
            hidden.rename(path)
            return words
        if hidden.is_dir():
            shutil.rmtree(hidden)
        else:
            hidden.unlink()
    except OSError as error:
        raise DataError(
            f"cannot be deleted: {error.strerror or error}; mend its permissions and run `llara gc` again",
            file=path, rule="writable",
        ) from None  # fmt: skip
    return None


def summary(items: Sequence[Item]) -> list[dict[str, Any]]:
    """By kind: how many go and stay, and their bytes, in the order of the list."""
    rows: dict[str, dict[str, Any]] = {}
    for item in items:
        row = rows.setdefault(
            item.kind, {"kind": item.kind, "delete": 0, "delete_bytes": 0, "keep": 0, "keep_bytes": 0}
        )
        what = "delete" if item.keep is None else "keep"
        row[what] += 1
        row[f"{what}_bytes"] += item.size
    return list(rows.values())


def readable(size: int) -> str:
    """Bytes for people: powers of 1000, as disks are sold."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
