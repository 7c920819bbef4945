"""Files as they are stored, on this machine or in a store, watched while they are read. Issue 5, point 8."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from llara_core.data.places_unpack import Damaged
from llara_core.data.places_where import as_text, is_url, remote, split_archive, unreachable
from llara_core.errors import DataError, LlaraError

BUFFER = 1 << 20  # bytes
_REMOTE_BLOCK = 8 << 20  # bytes fetched at a time from a store
_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_stored(place: str | Path) -> io.BufferedReader[Any]:
    """Open a file as it is stored: packed, and not looked into.

    Raises:
        DataError: there is no such file (``file_exists``), it is no plain file (``regular_file``) or cannot
            be read (``readable``); while reading, at its end: it changed (``changed_while_read``).
        MissingDependencyError: the package for this kind of URL is not installed.
    """
    return io.BufferedReader(
        _open_remote(place) if is_url(place) else _open_local(Path(as_text(place))), BUFFER
    )


def archive_of(place: str | Path) -> tuple[str, PurePosixPath] | None:
    """The zip that a place leads through and the place inside it; None where no zip is on the way.

    Raises:
        DataError: the store cannot be asked.
    """
    return split_archive(place, _is_file)


def is_archive(place: str | Path) -> bool:
    """Whether the place is a zip itself."""
    found = archive_of(place)
    return found is not None and str(found[1]) == "."


def _is_file(place: str) -> bool:
    if not is_url(place):
        return Path(place).is_file()
    store = remote(place)
    try:
        return bool(store.files.isfile(store.path))
    except Exception as error:  # drivers of stores raise errors of their own kinds
        raise unreachable(place, error) from error


class Watched(io.RawIOBase):
    """A raw stream whose errors name the place, and which looks at its end whether the file changed.

    Args:
        stream: what is read; closed with this.
        verify: raises where the file is no longer what it was when it was opened.
        translate: turns an error of the stream into one for a person.
    """

    def __init__(
        self,
        stream: Any,
        verify: Callable[[], None],
        translate: Callable[[Exception], Exception],
    ) -> None:
        self._stream, self.verify, self._translate = stream, verify, translate
        # One read at a time: what came before an error is not lost with it.
        self._fill = getattr(stream, "readinto1", stream.readinto)
        self._damage: Damaged | None = None

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """Whether the stream below can seek."""
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte; ``OSError`` where there is none, which readers of zips and Parquet rely on."""
        try:
            return int(self._stream.seek(offset, whence))
        except ValueError as error:
            raise OSError(str(error)) from error

    def tell(self) -> int:
        """The byte that is read next."""
        return int(self._stream.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; 0 at the end."""
        if self._damage is not None:
            raise self._damage
        try:
            length = self._fill(buffer) or 0
            if not length and len(buffer):
                self.verify()
        except LlaraError:
            raise
        except Exception as error:  # drivers of stores raise errors of their own kinds
            translated = self._translate(error)
            if isinstance(translated, Damaged):  # nothing can be read behind it: the same answer ever after
                self._damage = translated
            raise translated from error
        return int(length)

    def close(self) -> None:
        """Close the stream below too."""
        if not self.closed:
            self._stream.close()
        super().close()


def _open_local(file: Path) -> Watched:
    try:
        _refuse_special(file, file.stat().st_mode)
        # Not waited for: between the look above and this, somebody may have put a FIFO in its place.
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        _unreadable(file, error)
    stream = io.FileIO(handle, "rb")
    before = os.fstat(handle)
    try:
        _refuse_special(file, before.st_mode)
    except DataError:
        stream.close()
        raise

    def verify() -> None:
        after = os.fstat(handle)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            _changed(file, f"{before.st_size:,} bytes at first, now {after.st_size:,}")

    def translate(error: Exception) -> Exception:
        return DataError(f"cannot be read: {error}", file=file, rule="readable")

    return Watched(stream, verify, translate)


def _open_remote(place: str | Path) -> Watched:
    store = remote(place)
    try:
        before = store.files.info(store.path)
        if before["type"] != "file":
            raise DataError("is a folder; name a file in it", file=store.url, rule="regular_file")
        stream = store.files.open(store.path, "rb", block_size=_REMOTE_BLOCK)
    except LlaraError:
        raise
    except Exception as error:  # drivers of stores raise errors of their own kinds
        raise unreachable(place, error) from error

    def verify() -> None:
        store.files.invalidate_cache()
        after = store.files.info(store.path)
        if version(before) != version(after):
            _changed(store.url, f"{before.get('size')} bytes at first, now {after.get('size')}")

    return Watched(stream, verify, lambda error: unreachable(place, error))


def version(info: dict[str, Any]) -> tuple[str, ...]:
    """What tells one version of a stored file from another: size, tag and time, as far as they are known."""
    keys = ("size", "ETag", "etag", "LastModified", "mtime", "updated", "created", "last_modified")
    return tuple(f"{key}={info[key]}" for key in keys if info.get(key) is not None)


def _refuse_special(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something special")
        raise DataError(f"is {kind}; expected a plain file", file=file, rule="regular_file")


def _unreadable(file: Path, error: OSError | ValueError) -> NoReturn:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise DataError("no such file; mend the path", file=file, rule="file_exists") from None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    raise DataError(f"cannot be opened: {reason}", file=file, rule="readable") from None


def _changed(file: Path | str, found: str) -> NoReturn:
    raise DataError(
        f"the file changed while it was read ({found}); wait until its writer is done, and read it again",
        file=file,
        rule="changed_while_read",
    )
