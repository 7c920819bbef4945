"""Which files a bundle consists of: their checksums, and what does not belong there.

A checksum tells damage and a half-finished copy; it does not tell who wrote a bundle. What could run code
when it is read (a pickle, in whatever packing) is refused without being opened. Source: issue 6, point 7.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_core.errors import ModelError
from llara_core.files import sha256
from llara_core.model.prompts import Template

Files = Mapping[str, Mapping[str, Any]]
PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_BLOCK = 1 << 22  # bytes read at a time
_SNIFFED = 4  # bytes
_verified: set[tuple[Any, ...]] = (
    set()
)  # files that this process has compared, by what would change with them


def checksums(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder.

    Args:
        folder: of the bundle.
        leave_out: names of files at its top that do not count.

    Returns:
        name with ``/`` to ``{"bytes": …, "sha256": …}``.
    """
    found = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in leave_out:
            found[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return found


def compare(folder: Path, files: Files) -> None:
    """Compare the files of a bundle with their checksums; each once a process while it does not change.

    Args:
        folder: of the bundle.
        files: what ``checksums`` gave.

    Raises:
        ModelError: one is missing, cut off or changed; names it.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise _damaged(path, "is missing")
        facts = path.stat()
        if facts.st_size != expected["bytes"]:
            raise _damaged(path, f"has {facts.st_size} bytes, expected {expected['bytes']}")
        key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, expected["sha256"])
        if key in _verified:
            continue
        if (found := sha256(path)) != expected["sha256"]:
            raise _damaged(path, f"has SHA-256 {found[:16]}…, expected {expected['sha256'][:16]}…")
        _verified.add(key)


def fingerprint(folder: Path, template: Template) -> str:
    """SHA-256 over weights, tokenizer and template: equal exactly when the vectors are.

    Args:
        folder: of the bundle.
        template: how its texts are laid out.
    """
    digest = hashlib.sha256(json.dumps(template.to_dict(), sort_keys=True).encode())
    for path in [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("tokenizer*"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def check_fingerprint(folder: Path, template: Template, expected: str) -> None:
    """Compare weights, tokenizer and template with a fingerprint.

    Raises:
        ModelError: they are others.
    """
    found = fingerprint(folder, template)
    if found != expected:
        raise ModelError(
            f"{folder}: weights, tokenizer or template are not those of the fingerprint {expected[:20]} "
            f"(theirs is {found[:20]}): files are damaged or were changed; take the bundle from the "
            "registry, or train it again"
        )


def refuse_pickles(folder: Path, where: str = "bundle") -> None:
    """Refuse a folder that holds what could run code when it is read; nothing of it is opened but four bytes.

    Args:
        folder: of a model.
        where: what to call it.

    Raises:
        ModelError: a file is called or begins like a pickle; names it.
    """
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        if path.suffix.lower() in PICKLES or _begins_like_a_pickle(path):
            raise ModelError(
                f"{path}: is a pickle or may be one, and a pickle runs code when it is loaded; nothing of "
                f"this {where} was loaded. It holds safetensors and JSON alone: remove the file if you know "
                "where it comes from, or take the model from a source you trust"
            )


def _begins_like_a_pickle(path: Path) -> bool:
    """Whether a file is a pickle of protocol 2 or later, or a zip such as torch.save writes."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED)
    return (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or head == b"PK\x03\x04"


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path}: {what}; the bundle is damaged, was copied by half, or was changed since it was written. "
        "Copy it again, take it from the registry, or go back: `llara rollback`"
    )
