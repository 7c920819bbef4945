"""Files inside zips, read where they lie: ``sets/scifact.zip/scifact/corpus.jsonl`` is a path like any other.

Nothing is ever unpacked, so no name inside a zip can lead to a place outside of it. What a member
claims to hold is checked before it is read, so that a small zip cannot fill the memory.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, cast

from llara_core.errors import DataError

BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError)  # damaged, unknown packing, encrypted
# JSON lines shrink to a third or a tenth; deflate's utmost is 1:1032, which only a bomb comes near to.
_RATIO, _SMALL = 200, 64 << 20  # bytes out per byte in; below 64 MiB any ratio is harmless

_BUFFER = 1 << 20  # bytes


def split_zip(path: Path) -> tuple[Path, PurePosixPath] | None:
    """The zip that a path leads through and the place inside it, or None where no zip is on the way.

    Args:
        path: e.g. ``sets/scifact.zip`` or ``sets/cqadupstack.zip/cqadupstack/android``.
    """
    for candidate in (path, *path.parents):
        if candidate.suffix.lower() == ".zip" and candidate.is_file():
            return candidate, PurePosixPath(path.relative_to(candidate).as_posix())
    return None


def zip_members(archive: Path) -> list[str]:
    """Names of the files in a zip; those with ``..`` or an absolute path are left out.

    Raises:
        DataError: the file is no readable zip, or holds a name twice (which of the two is meant?).
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [one.filename for one in opened.infolist() if not one.is_dir()]
    except (OSError, *BAD_ZIP) as error:
        _unreadable(archive, error)
    inside = [name for name in names if not name.startswith(("/", "\\")) and ".." not in name.split("/")]
    twice = (
        sorted({name for name in inside if inside.count(name) > 1}) if len(set(inside)) < len(inside) else []
    )
    if twice:
        raise DataError(f"the zip holds {twice[0]!r} twice; pack it anew", file=archive, rule="readable_zip")
    return inside


def open_binary(file: Path) -> IO[bytes]:
    """Open a file for reading bytes, be it plain, ``.gz``, or a member of a zip.

    Raises:
        DataError: a zip is damaged, encrypted, lacks the member, or claims an absurd size for it.
        OSError: the file cannot be opened.
    """
    place = split_zip(file)
    if place is None:
        raw: IO[bytes] = file.open("rb")
    else:
        archive, inside = place
        try:
            with zipfile.ZipFile(archive) as opened:
                _refuse_bomb(archive, opened.getinfo(str(inside)))
                # It stays open when the zip is closed; the buffer makes reading by line quick.
                raw = io.BufferedReader(opened.open(str(inside)), _BUFFER)  # type: ignore[type-var]
        except KeyError:
            raise DataError(f"the zip has no {inside}", file=archive, rule="file_exists") from None
        except BAD_ZIP as error:
            _unreadable(file, error)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if file.suffix == ".gz" else raw


def _refuse_bomb(archive: Path, member: zipfile.ZipInfo) -> None:
    if member.file_size > _SMALL and member.file_size > _RATIO * max(1, member.compress_size):
        raise DataError(
            f"{member.filename} is {member.compress_size:,} bytes that claim to become {member.file_size:,}: "
            f"more than {_RATIO} times as many, which no text does; get the zip anew from its publisher",
            file=archive,
            rule="zip_size",
        )


def _unreadable(file: Path, error: Exception) -> NoReturn:
    raise DataError(
        f"cannot be read as a zip: {error}; is it complete, and not encrypted?",
        file=file,
        rule="readable_zip",
    ) from None
