"""gzip, xz and zstd unpacked as a stream, within bounded memory, whoever made the file.

What comes out is counted against what went in, so that a bomb stops after some megabytes; dictionaries
and windows are bounded; data that end early are told from data that are complete. Issue 5, point 8.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import zstandard

from llara_core.errors import DataError

_STEP = 1 << 20  # bytes out at a time
_PADDED = 6  # bytes: the longest magic number


@dataclass(frozen=True)
class Limits:
    """How much a packed file may become; a plain file is as long as it is.

    Args:
        ratio: bytes out per byte in. JSON lines shrink to a third or a tenth, templates to a fiftieth.
        harmless: bytes out below which any ratio goes.
        total: bytes out altogether.
        memory: bytes that a dictionary (xz) or window (zstd) may take; ``xz -9`` and ``zstd --long``
            need 64 and 128 MiB.
        files: files in one folder.
    """

    ratio: int = 200
    harmless: int = 64 << 20
    total: int = 256 << 30
    memory: int = 256 << 20
    files: int = 1_000_000


class Damaged(DataError):
    """Packed data end early or are broken, after everything before was read.

    Args:
        reason: what is wrong and what to do.
        file: the file at fault.
    """

    def __init__(self, reason: str, *, file: Path | str | None = None) -> None:
        super().__init__(reason, file=file, rule="readable")
        self.reason = reason


class _Gzip:
    """One member of a gzip file."""

    name, chunk = "gzip", 1 << 16

    def __init__(self, _limits: Limits) -> None:
        self._inner = zlib.decompressobj(31)  # 31: gzip, with its checksum

    def decompress(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes out and the bytes in that are still to be used."""
        out = self._inner.decompress(data, _STEP)
        return out, self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return True


class _Xz:
    """One stream of an xz file."""

    name, chunk = "xz", 1 << 16

    def __init__(self, limits: Limits) -> None:
        self._inner = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.memory)

    def decompress(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes out and the bytes in that are still to be used (others are kept inside)."""
        out = self._inner.decompress(data, _STEP)
        return out, self._inner.unused_data if self._inner.eof else b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input


class _Zstd:
    """One frame of a zstd file."""

    # The decoder gives all that its input holds at once; 1 KiB holds at most 32 MiB (4 bytes → 128 KiB).
    name, chunk = "zstd", 1 << 10

    def __init__(self, limits: Limits) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=limits.memory).decompressobj()

    def decompress(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes out and the bytes in that are still to be used."""
        out = self._inner.decompress(data[: self.chunk])
        return out, (self._inner.unused_data if self._inner.eof else b"") + data[self.chunk :]

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return True


_DECODERS: dict[str, Any] = {".gz": _Gzip, ".xz": _Xz, ".zst": _Zstd}
_MAGIC = {".gz": (b"\x1f\x8b",), ".xz": (b"\xfd7zXZ\0",), ".zst": (b"\x28\xb5\x2f\xfd",)}
_SKIPPED = b"\x2a\x4d\x18"  # after one byte 0x50-0x5f: a zstd frame that holds no data
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"PK\x03\x04": "zip"}


def packing_in(head: bytes) -> str:
    """The packing that a file's first bytes show: a suffix, a name of one that is not read, or nothing."""
    for suffix, magics in _MAGIC.items():
        if head.startswith(magics):
            return suffix
    if head[1:4] == _SKIPPED and head[:1] and 0x50 <= head[0] <= 0x5F:
        return ".zst"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return "bzip2"
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), "")


class Unpacked(io.RawIOBase):
    """The bytes of a packed file, as a raw stream.

    Args:
        packed: the packed bytes, at their beginning; closed with this.
        suffix: ``.gz``, ``.xz`` or ``.zst``.
        file: for messages.
        limits: how much may come out.
        size: packed bytes that stand behind all of this, where another packing lies around it.

    Raises (while reading):
        DataError: the data become more than the limits allow.
        Damaged: the data end early or are broken, after everything before was given.
    """

    def __init__(
        self, packed: IO[bytes], suffix: str, file: Path | str, limits: Limits, size: int | None = None
    ) -> None:
        self._packed, self._file, self._limits, self._size = packed, file, limits, size
        self._decoder = _DECODERS[suffix]
        self._suffix = suffix
        self._taken = self._given = 0
        self._piece = memoryview(b"")
        self._pieces = self._unpack()
        self._error: Exception | None = None

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as one piece goes; 0 at the end."""
        if self._error is not None:
            raise self._error
        try:
            while not self._piece:
                self._piece = memoryview(next(self._pieces))
        except StopIteration:
            return 0
        except Exception as error:
            self._error = error
            raise
        length = min(len(buffer), len(self._piece))
        buffer[:length] = self._piece[:length]
        self._piece = self._piece[length:]
        return length

    def close(self) -> None:
        """Close the packed file too."""
        self._packed.close()
        super().close()

    def _take(self) -> bytes:
        data = self._packed.read(self._decoder.chunk)
        self._taken += len(data)
        return data

    def _unpack(self) -> Iterator[bytes]:
        """Everything in the file, one gzip member, xz stream or zstd frame after the other."""
        data = self._take()
        while True:
            data = yield from self._member(data)
            while not (data := data.lstrip(b"\0")):  # tapes and block devices pad with zeros
                if not (data := self._take()):
                    return
            while len(data) < _PADDED and (more := self._take()):
                data += more
            if packing_in(data) != self._suffix:
                raise Damaged(
                    f"bytes after the end of the {self._decoder.name} data are no {self._decoder.name}",
                    file=self._file,
                )

    def _member(self, data: bytes) -> Generator[bytes, None, bytes]:
        """One member; returns the bytes after it."""
        decoder = self._decoder(self._limits)
        while not decoder.eof:
            if not data and decoder.hungry and not (data := self._take()):
                raise Damaged(
                    f"the {decoder.name} data end early: the file is cut off; get it again", file=self._file
                )
            try:
                out, data = decoder.decompress(data)
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
                if "memory" in str(error).lower():
                    self._too_hungry()
                raise Damaged(
                    f"the {decoder.name} data are damaged ({error}); get the file again", file=self._file
                ) from None
            if out:
                self._count(len(out))
                yield out
        return data

    def _too_hungry(self) -> NoReturn:
        raise DataError(
            f"unpacking it takes more than {self._limits.memory >> 20} MiB of memory (dictionary of xz, "
            "--long window of zstd); pack it anew without",
            file=self._file,
            rule="expansion",
        ) from None

    def _count(self, length: int) -> None:
        self._given += length
        taken = self._taken if self._size is None else min(self._taken, self._size)
        limits = self._limits
        if self._given > max(limits.harmless, limits.ratio * taken) or self._given > limits.total:
            raise DataError(
                f"{taken:,} packed bytes became {self._given:,}, and there is more: beyond "
                f"{limits.ratio} times as many, or {limits.total:,}, which no text does; if you trust "
                "the file, unpack it yourself and name the unpacked one",
                file=self._file,
                rule="expansion",
            )
