"""Folders that are whole or worthless: sealed by a manifest of sizes and hashes that is written last."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_BLOCK = 1 << 22  # bytes hashed at a time


def seal(folder: Path, **facts: Any) -> None:
    """Force all files of a folder to the disk, then write their manifest.

    Args:
        folder: complete but for its manifest.
        facts: what the folder is, JSON-able; ``fault`` asks for the same.

    Raises:
        OSError: the disk is full, or the folder has gone.
    """
    files = {}
    for path in _files(folder):
        sync(path)
        files[path.relative_to(folder).as_posix()] = _described(path)
    write_durably(folder / MANIFEST, {"format": FORMAT_VERSION, **facts, "files": files})
    for inner in {folder, *(path.parent for path in _files(folder))}:
        sync(inner)


def fault(folder: Path, **facts: Any) -> str | None:
    """Why a sealed folder cannot be used, or None: every byte is compared with the manifest.

    Args:
        folder: as ``seal`` left it.
        facts: what it should be.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT_VERSION:
            return f"format {manifest['format']}, this version reads {FORMAT_VERSION}"
        if any(manifest[name] != value for name, value in facts.items()):
            return f"its {MANIFEST} is that of another run or step"
        return next(
            filter(None, (_fault_of(folder / name, one) for name, one in manifest["files"].items())), None
        )
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({error!r})"


def write_durably(path: Path, values: Any) -> None:
    """Write JSON and force it to the disk."""
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk: a rename must not overtake what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fault_of(path: Path, expected: dict[str, Any]) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    found = _described(path)
    if found["bytes"] != expected["bytes"]:
        return f"{path.name} has {found['bytes']} bytes, {expected['bytes']} were written"
    return (
        None if found["sha256"] == expected["sha256"] else f"{path.name} has another SHA-256 than was written"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _described(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
