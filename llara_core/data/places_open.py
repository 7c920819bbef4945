"""Opening a place for reading bytes, whatever it is and whoever made it. Issue 5, points 1 and 8.

A place that is no plain file (a FIFO, a device, a socket) is refused without being waited for; links
that lead in a circle, archives that would have to be unpacked, and files that change while they are
read are named. Nothing is ever unpacked to disk, so no name in an archive can lead anywhere.
"""

from __future__ import annotations

import io
import lzma
import zlib
from pathlib import Path
from typing import Any, NoReturn, cast

from llara_core.data.places_stored import BUFFER, Watched, archive_of, is_archive, open_stored
from llara_core.data.places_unpack import Damaged, Limits, Unpacked, packing_in
from llara_core.data.places_where import name_of, packing_of, shown
from llara_core.data.zips import BAD_ZIP, open_member
from llara_core.errors import DataError

_TAR = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_HEAD = 512  # bytes: enough for tar's mark
_DEFAULT = Limits()


def open_place(place: str | Path, *, limits: Limits = _DEFAULT) -> io.BufferedReader[Any]:
    """Open a file for reading its unpacked bytes from the beginning to the end.

    Args:
        place: a local path, a member of a zip (``set.zip/corpus.jsonl``) or an fsspec URL; ``.gz``,
            ``.xz`` and ``.zst`` are unpacked on the way.
        limits: how much a packed file may become.

    Returns:
        A buffered stream. Read it with ``read1`` where every byte before a damage counts: ``read``
        raises without handing out what it already had.

    Raises:
        DataError: there is no such file (``file_exists``); it is no plain file (``regular_file``); it is an
            archive, or is not packed as its name says (``packing``); it cannot be read (``readable``). While
            reading: it becomes too large (``expansion``, ``zip_size``) or changes (``changed_while_read``).
        Damaged: (a ``DataError`` too) while reading: the packed data end early or are broken.
        MissingDependencyError: the package for this kind of URL is not installed.
    """
    raw, size = _open_packed(place)
    try:
        suffix = packing_of(place)
        _check_packing(place, _head(raw), suffix)
        if not suffix:
            return raw
        unpacked: io.BufferedReader[Any] = io.BufferedReader(
            Unpacked(raw, suffix, shown(place), limits, size), BUFFER
        )
        _check_inside(place, unpacked)
    except BaseException:
        raw.close()
        raise
    return unpacked


def open_seekable(place: str | Path) -> io.BufferedReader[Any]:
    """Open a plain file that is read here and there (Parquet, a zip's directory), local or remote.

    Raises:
        DataError: as ``open_place``; also for a member of a zip (``packing``), which can only be read on.
        MissingDependencyError: the package for this kind of URL is not installed.
    """
    if archive_of(place) is not None and not is_archive(place):
        raise DataError(
            "a file of this kind is read here and there, which a zip does not allow; unpack it first",
            file=shown(place),
            rule="packing",
        )
    return open_stored(place)


def _open_packed(place: str | Path) -> tuple[io.BufferedReader[Any], int | None]:
    """The bytes as they are stored, and how many of them stand behind a member of a zip."""
    found = archive_of(place)
    if found is None or str(found[1]) == ".":
        return open_stored(place), None
    archive, inside = found
    stored = open_stored(archive)
    watched = cast("Watched", stored.raw)
    try:
        member, size = open_member(stored, shown(archive), str(inside))
    except BaseException:
        stored.close()
        raise

    def damaged(error: Exception) -> Exception:
        if isinstance(error, (*BAD_ZIP, EOFError, OSError, zlib.error, lzma.LZMAError)):
            return Damaged(f"the zip's data are damaged ({error}); get the zip again", file=shown(place))
        return error

    class Member(Watched):
        def close(self) -> None:
            super().close()
            stored.close()

    return io.BufferedReader(Member(member, watched.verify, damaged), BUFFER), size


def _check_packing(place: str | Path, head: bytes, suffix: str) -> None:
    """Refuse a file that is not what its name says, by its first bytes."""
    found = packing_in(head)
    if found == "tar" or name_of(place).lower().endswith(_TAR):
        _refuse_tar(place)
    if found == suffix:
        return
    if not found:
        if head:  # an empty file is one that is cut off; reading says so
            _misnamed(place, f"is named {suffix}, but its bytes are not; rename it, or get it again")
        return
    if found == "zip":
        _misnamed(place, "is a zip; give it the suffix .zip and name a file in it, e.g. set.zip/corpus.jsonl")
    if found in ("bzip2", "7z", "rar"):
        _misnamed(
            place, f"is packed by {found}, which is not read; unpack it, or pack it as .gz, .xz or .zst"
        )
    _misnamed(place, f"is packed as {found}; give it that suffix")


def _check_inside(place: str | Path, unpacked: io.BufferedReader[Any]) -> None:
    found = packing_in(_head(unpacked))
    if found == "tar":
        _refuse_tar(place)
    if found:
        _misnamed(place, f"is packed twice: there is {found} inside; unpack one layer")


def _head(stream: io.BufferedReader[Any]) -> bytes:
    try:
        return bytes(stream.peek(_HEAD)[:_HEAD])
    except Damaged:  # reading raises it again, when whoever reads is ready for it
        return b""


def _refuse_tar(place: str | Path) -> NoReturn:
    _misnamed(
        place,
        "is a tar archive, which is not read; unpack it with `tar -x` and name the folder or a file in it",
    )


def _misnamed(place: str | Path, message: str) -> NoReturn:
    raise DataError(message, file=shown(place), rule="packing")
