"""Who uses what: open files of any process, locks, the live pointer, schedules and what they refer to.

In doubt something is in use: a pointer that cannot be read protects its whole store.
Source: issue 6, point 6.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger(__name__)

PROC = Path("/proc")
POINTER = "live.json"
PAIR_KEYS = ("current", "previous")  # of the pointer: what serves, and what a rollback would serve
_REFERENCE = re.compile(r"models:/(?P<name>[^/@#\s]+)(?:@(?P<alias>[^/@#\s]+)|/(?P<number>[0-9]+))")
_YAML_WORD = re.compile(r"[^\s\"'=]+\.ya?ml")


@dataclass
class References:
    """What configurations refer to.

    Args:
        versions: ``<registered model>/<number>``.
        aliases: ``<registered model>@<alias>``.
        paths: that exist.
        files: the configurations that were read.
    """

    versions: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    paths: set[Path] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)


def open_files(below: Path, proc: Path = PROC) -> dict[Path, str]:
    """Files and folders below a folder that a process has open, mapped or works in, to its name.

    Processes of other users can be seen by root alone; those of other machines and containers by nobody,
    which is why age counts too. Empty where there is no ``/proc``.

    Args:
        below: only these matter.
        proc: where the kernel tells of processes.
    """
    root, found = below.resolve(), {}
    for process in proc.glob("[0-9]*") if proc.is_dir() else ():
        words = f"open by process {process.name}"
        for place in _held(process):
            if place.is_relative_to(root) and place != root:
                found[place] = words
    return found


def _held(process: Path) -> Iterator[Path]:
    try:
        links = [process / "cwd", process / "exe", *(process / "fd").iterdir()]
    except OSError:  # it ended, or is another user's
        return
    for link in links:
        try:
            yield link.readlink()
        except OSError:
            continue
    try:
        lines = (process / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5].startswith("/"):
            yield Path(parts[5].removesuffix(" (deleted)"))


def locked(path: Path) -> bool:
    """Whether another process holds the lock file; False where there is none, or no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return path.exists()
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not ours to judge
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system: whoever works there has a folder of its own
        return False
    finally:
        os.close(handle)
    return False


def live_pairs(store: Path) -> list[Mapping[str, Any]] | None:
    """What the pointer of a live store names: the pair that serves, and the one before it.

    Returns:
        the pairs; empty: the store has no pointer yet; None: it cannot be read.
    """
    pointer = store / POINTER
    if not pointer.exists():
        return []
    try:
        values = json.loads(pointer.read_text(encoding="utf-8"))
        return [_pair(values[key]) for key in PAIR_KEYS if values.get(key)]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        logger.warning("%s cannot be read (%s): nothing of this store is deleted", pointer, error)
        return None


def _pair(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"folder": str(value)}


def references(configurations: Iterable[Path]) -> References:
    """What configurations, and those that they name, refer to: registered versions, files and folders.

    Every text in them counts, whatever the key it stands under, so that no setting can be forgotten.

    Args:
        configurations: YAML files; those that cannot be read count as naming nothing, with a warning.
    """
    found = References()
    waiting = [path.resolve() for path in configurations]
    while waiting:
        path = waiting.pop()
        if path in found.files or not path.is_file():
            continue
        found.files.add(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            logger.warning("%s cannot be read (%s): what it refers to is not known", path, error)
            continue
        for text in _texts(values):
            _add(found, text)
            waiting += [one for one in _places(text, path) if one.suffix in (".yaml", ".yml")]
            found.paths.update(_places(text, path))
    return found


def texts_refer(value: Any) -> References:
    """Versions and aliases that any text of nested plain values refers to."""
    found = References()
    for text in _texts(value):
        _add(found, text)
    return found


def yaml_files_named(text: str, folder: Path) -> list[Path]:
    """YAML files that a text (a crontab) names, relative ones below a folder."""
    return [folder / word for word in _YAML_WORD.findall(text) if (folder / word).is_file()]


def _add(found: References, text: str) -> None:
    for match in _REFERENCE.finditer(text):
        if match["number"]:
            found.versions.add(f"{match['name']}/{match['number']}")
        else:
            found.aliases.add(f"{match['name']}@{match['alias']}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _places(text: str, configuration: Path) -> list[Path]:
    """The files or folders that a text may mean: as written, from the project, or beside its file."""
    written = Path(os.path.expandvars(text)).expanduser()
    if not text or "\n" in text or len(text) > 1000:
        return []
    bases = (Path(), *configuration.parents)
    try:
        found = [(base / written).resolve() for base in bases if (base / written).exists()]
    except OSError:  # no name of a file
        return []
    return [place for place in found if place.parent != place]
