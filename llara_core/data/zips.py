"""Files inside zips, read where they lie: ``sets/scifact.zip/scifact/corpus.jsonl`` is a path like any other.

Nothing is ever unpacked, so no name inside a zip can lead to a place outside of it. What a member
claims to hold is checked before it is read, so that a small zip cannot fill the memory.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from llara_core.errors import DataError

BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError)  # damaged, unknown packing, encrypted
# JSON lines shrink to a third or a tenth; deflate's utmost is 1:1032, which only a bomb comes near to.
_RATIO, _SMALL = 200, 64 << 20  # bytes out per byte in; below 64 MiB any ratio is harmless


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
        DataError: the file is no readable zip, holds a name twice (which of the two is meant?), or claims
            to become absurdly large.
    """
    try:
        with archive.open("rb") as stream:
            return members_of(stream, archive)
    except OSError as error:
        _unreadable(archive, error)


def members_of(stream: IO[bytes], archive: Path | str) -> list[str]:
    """The same of an open zip.

    Args:
        stream: the zip's bytes; can be sought.
        archive: for messages.
    """
    try:
        with zipfile.ZipFile(stream) as opened:
            # A member without a name, which only a damaged zip has, is nothing that could be asked for.
            members = [one for one in opened.infolist() if one.filename and not one.is_dir()]
    except (OSError, ValueError, *BAD_ZIP) as error:
        _unreadable(archive, error)
    # Members may overlap, so that each looks honest and all together are a bomb.
    packed = stream.seek(0, io.SEEK_END)
    whole = sum(one.file_size for one in members)
    if whole > _SMALL and whole > _RATIO * max(1, packed):
        raise DataError(
            f"{packed:,} bytes that claim to become {whole:,}: more than {_RATIO} times as many, which no "
            "text does; get the zip anew from its publisher",
            file=archive,
            rule="zip_size",
        )
    names = [one.filename for one in members]
    inside = [name for name in names if not name.startswith(("/", "\\")) and ".." not in name.split("/")]
    twice = sorted(name for name, times in Counter(inside).items() if times > 1)
    if twice:
        raise DataError(f"the zip holds {twice[0]!r} twice; pack it anew", file=archive, rule="readable_zip")
    return inside


def open_member(stream: IO[bytes], archive: Path | str, inside: str) -> tuple[IO[bytes], int]:
    """Open one member of an open zip, which has to stay open as long.

    Args:
        stream: the zip's bytes; can be sought.
        archive: for messages.
        inside: the member's name.

    Returns:
        The member's bytes, and how many packed ones stand behind them.

    Raises:
        DataError: the zip is damaged, encrypted, lacks the member, or claims an absurd size for it.
    """
    try:
        opened = zipfile.ZipFile(stream)
        member = opened.getinfo(inside)
        _refuse_bomb(archive, member)
        return opened.open(member), member.compress_size
    except KeyError:
        raise DataError(f"the zip has no {inside}", file=archive, rule="file_exists") from None
    except (OSError, ValueError, *BAD_ZIP) as error:
        _unreadable(f"{archive}/{inside}" if isinstance(archive, str) else archive / inside, error)


def _refuse_bomb(archive: Path | str, member: zipfile.ZipInfo) -> None:
    if member.file_size > _SMALL and member.file_size > _RATIO * max(1, member.compress_size):
        raise DataError(
            f"{member.filename} is {member.compress_size:,} bytes that claim to become {member.file_size:,}: "
            f"more than {_RATIO} times as many, which no text does; get the zip anew from its publisher",
            file=archive,
            rule="zip_size",
        )


def _unreadable(file: Path | str, error: Exception) -> NoReturn:
    raise DataError(
        f"cannot be read as a zip: {error}; is it complete, and not encrypted?",
        file=file,
        rule="readable_zip",
    ) from None
