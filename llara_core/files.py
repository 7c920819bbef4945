"""Writing so that nothing half-written is ever seen: to a hidden temporary sibling, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llara_core.errors import DataError

_BLOCK = 1 << 20  # bytes read at a time


@contextmanager
def new_folder(target: Path, *, replace: tuple[str, ...] = ()) -> Iterator[Path]:
    """Give a temporary folder beside ``target`` that becomes ``target`` when the block ends well.

    If the block raises (also on Ctrl-C) the temporary folder is removed and ``target`` stays as it was.

    Args:
        target: the folder to make; its parents are made too.
        replace: names of which one must lie in an existing, non-empty ``target`` for it to be replaced:
            the proof that it is an earlier output of ours and not somebody's home folder.

    Raises:
        DataError: the folder cannot be written, or exists and holds something else.
    """
    target = target.absolute()
    _refuse_foreign(target, replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private, the result should not be
    except OSError as error:
        raise unwritable(target, error) from None
    try:
        yield temporary
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mark_used(place: Path) -> None:
    """Note that a file or folder of a cache is used: ``llara gc`` removes what nobody has used for long.

    Many file systems keep no note of reading. What belongs to somebody else is left as it is.
    """
    with suppress(OSError):
        os.utime(place)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a temporary file path beside ``target`` that becomes ``target`` when the block ends well.

    Raises:
        DataError: the file cannot be written.
    """
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError("it is a folder, a file is expected")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(target, error) from None
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as JSON, atomically.

    Raises:
        DataError: the file cannot be written.
    """
    with new_file(target) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_or_link(source: str, target: str) -> str:
    """A file that nobody changes at another place: a hard link, or a copy where there can be none.

    ``shutil.copytree`` takes it as its ``copy_function``.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target


def sha256(path: Path) -> str:
    """SHA-256 of a file, read block by block.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_writable(target: Path) -> None:
    """Try to write beside ``target``, so that long work does not end at a folder that cannot be written.

    Permission bits say nothing on read-only and special file systems, nor for root: only writing tells.

    Raises:
        DataError: nothing can be written there; nothing new is left behind.
    """
    target = target.absolute()
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent) as probe:
            probe.write(b"x")
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def unwritable(target: Path, error: OSError) -> DataError:
    """The error for an output that cannot be written."""
    reason = error.strerror or str(error)
    return DataError(
        f"cannot write here: {reason}; choose another output or mend its permissions",
        file=target,
        rule="writable",
    )


def check_replaceable(target: Path, replace: tuple[str, ...]) -> None:
    """Refuse what ``new_folder`` would refuse, before long work.

    Raises:
        DataError: the folder exists and holds something else than an earlier output of ours.
    """
    _refuse_foreign(target.absolute(), replace)


def _refuse_foreign(target: Path, replace: tuple[str, ...]) -> None:
    if target.is_dir() and any(target.iterdir()) and not any((target / name).exists() for name in replace):
        raise DataError(
            "the folder exists and holds something else; choose a new folder, or empty this one",
            file=target,
            rule="writable",
        )


def _swap(temporary: Path, target: Path) -> None:
    old = None
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
        target.rename(old / target.name)
    try:
        temporary.rename(target)
    except OSError:
        if old is not None:
            (old / target.name).rename(target)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
