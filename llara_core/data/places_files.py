"""Which files a place holds, and whether they are still the same. Issue 5, points 1 and 8."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from llara_core.data.places_open import open_seekable
from llara_core.data.places_stored import archive_of, version
from llara_core.data.places_unpack import Limits
from llara_core.data.places_where import as_text, bare_name, is_url, join, remote, shown, unreachable
from llara_core.data.zips import members_of
from llara_core.errors import DataError, LlaraError

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

_BLOCK = 1 << 20  # bytes hashed at a time
_DEFAULT = Limits()
T = TypeVar("T")


def exists(place: str | Path) -> bool:
    """Whether there is a file or folder, local, in a store, or in a zip.

    Raises:
        DataError: the store cannot be asked, or the zip cannot be read.
    """
    return is_file(place) or is_folder(place)


def is_file(place: str | Path) -> bool:
    """Whether there is a plain file (a zip is one too); raises as ``exists``."""
    archive = archive_of(place)
    if archive is not None and str(archive[1]) != ".":
        return str(archive[1]) in _members(archive[0])
    if is_url(place):
        store = remote(place)
        return bool(_asked(place, lambda: store.files.isfile(store.path)))
    return Path(as_text(place)).is_file()


def is_folder(place: str | Path) -> bool:
    """Whether there is a folder, also one in a zip (the zip itself is one); raises as ``exists``."""
    archive = archive_of(place)
    if archive is not None:
        inside = "" if str(archive[1]) == "." else f"{archive[1]}/"
        return any(name.startswith(inside) for name in _members(archive[0]))
    if is_url(place):
        store = remote(place)
        return bool(_asked(place, lambda: store.files.isdir(store.path)))
    return Path(as_text(place)).is_dir()


def plain_or_packed(folder: str | Path, name: str) -> str | None:
    """The place of a file in a folder, plain or packed (plain wins); None where there is none.

    Args:
        folder: local, in a store, a zip or in one.
        name: without packing: ``corpus.jsonl``.

    Raises:
        DataError: the store cannot be asked, or the zip cannot be read.
    """
    candidates = (join(folder, name + suffix) for suffix in ("", ".gz", ".zst", ".xz"))
    return next((place for place in candidates if is_file(place)), None)


def list_files(
    place: str | Path, patterns: Sequence[str] = ("*",), *, limits: Limits = _DEFAULT
) -> list[str]:
    """The files of a folder and of what lies below it, ordered by their paths.

    Links are followed, but no folder is entered twice on one way down, so that circles end. Hidden files
    and folders (``.git``, downloads cut off) are left out. A pipe, or a link that leads nowhere, is listed:
    ``open_place`` says what is wrong with it.

    Args:
        place: a local folder, a zip or a folder in it, or a URL of one; a file lists itself.
        patterns: of names (``*.jsonl``) or, with a ``/``, of paths below the place (``qrels/*.tsv``);
            each also finds the packed file (``*.jsonl`` finds ``a.jsonl.gz``).
        limits: how many files a folder may hold.

    Returns:
        Places that ``open_place`` opens; empty where nothing fits.

    Raises:
        DataError: there is no such place (``file_exists``), it cannot be read (``readable``), or it holds
            more files than the limits allow (``file_count``).
    """
    archive = archive_of(place)
    names: Iterable[str]
    if archive is not None:
        names = _in_zip(archive)
    elif is_url(place):
        names = _in_store(place)
    else:
        names = _in_folder(Path(as_text(place)))
    found: list[str] = []
    for count, name in enumerate(names, start=1):
        if count > limits.files:
            raise DataError(
                f"holds more than {limits.files:,} files; name a folder below it",
                file=shown(place),
                rule="file_count",
            )
        if name == "" or _fits(name, patterns):
            found.append(name)
    return [join(place, name) if name else as_text(place) for name in sorted(found)]


def place_fingerprint(place: str | Path) -> str:
    """SHA-256 that changes when the content of a file or folder does, in hexadecimal.

    A local file's is over its bytes as they are stored (a member's of a zip: over the whole zip); a stored
    file's over its entity tag and size, or over its bytes where the store gives no tag. A folder's is over
    its files' paths below it and their fingerprints; where it lies does not count.

    Raises:
        DataError: there is no such place, or it cannot be read.
        MissingDependencyError: the package for this kind of URL is not installed.
    """
    archive = archive_of(place)
    if archive is not None:
        _in_zip(archive)  # so that a place that is not in it is refused here as well
        return hashlib.sha256(f"{archive[1]}\0{_file_digest(archive[0])}".encode()).hexdigest()
    if not is_folder(place):
        return _file_digest(as_text(place))
    root = as_text(place).rstrip("/")
    digest = hashlib.sha256()
    for file in list_files(place):
        digest.update(f"{file[len(root) + 1 :]}\0{_file_digest(file)}\0".encode())
    return digest.hexdigest()


def _file_digest(place: str) -> str:
    if is_url(place):
        store = remote(place)
        info = _asked(place, lambda: store.files.info(store.path))
        tags = [one for one in version(info) if one.lower().startswith(("etag=", "size="))]
        if len(tags) > 1:
            return hashlib.sha256("\0".join(tags).encode()).hexdigest()
    digest = hashlib.sha256()
    with open_seekable(place) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _fits(name: str, patterns: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    bare = path.with_name(bare_name(name)) if bare_name(name) else path
    for pattern in patterns:
        forms = (str(path), str(bare)) if "/" in pattern else (path.name, bare.name)
        if any(fnmatchcase(form, pattern) for form in forms):
            return True
    return False


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _in_folder(folder: Path) -> Iterator[str]:
    """Paths below a local folder; "" for what is none."""
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):  # of a pipe or a device, opening says what it is
            yield ""
            return
        yield from _below(folder, "", ())
    except FileNotFoundError:
        raise DataError("no such file or folder; mend the path", file=folder, rule="file_exists") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot be read: {reason}", file=folder, rule="readable") from None


def _below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    own = folder.stat()
    if (own.st_dev, own.st_ino) in above:
        return  # a link back to a folder that we are in
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith("."):
                continue
            if _leads_to_folder(entry):
                inner = (*above, (own.st_dev, own.st_ino))
                yield from _below(Path(entry.path), f"{prefix}{entry.name}/", inner)
            else:  # also links to nowhere and pipes: who opens them says what is wrong
                yield prefix + entry.name


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _in_zip(archive: tuple[str, PurePosixPath]) -> list[str]:
    inside = "" if str(archive[1]) == "." else f"{archive[1]}/"
    members = _members(archive[0])
    if str(archive[1]) in members:
        return [""]
    found = [name[len(inside) :] for name in members if name.startswith(inside)]
    if not found:
        raise DataError(f"the zip has no {archive[1]}", file=shown(archive[0]), rule="file_exists")
    return [name for name in found if not _hidden(name)]


def _members(archive: str) -> list[str]:
    with open_seekable(archive) as stream:
        return members_of(stream, shown(archive))


def _in_store(place: str | Path) -> list[str]:
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    store = remote(place)

    def names() -> list[str]:
        if store.files.info(store.path)["type"] == "file":
            return [""]
        root = store.path.rstrip("/")
        # fsspec's own walk passes over folders that it cannot list in silence; the drivers' own do not.
        find = getattr(type(store.files), "_find", None) or type(store.files).find
        generic = find in (AsyncFileSystem._find, AbstractFileSystem.find)
        found = _walk(store.files, store.path) if generic else store.files.find(store.path)
        return [name[len(root) :].lstrip("/") for name in found]

    return [name for name in _asked(place, names) if not _hidden(name)]


def _walk(files: AbstractFileSystem, folder: str) -> Iterator[str]:
    for info in files.ls(folder, detail=True):
        name = info["name"].rstrip("/")
        if info["type"] != "directory":
            yield name
        elif name.startswith(folder.rstrip("/") + "/"):
            yield from _walk(files, name)


def _asked(place: str | Path, question: Callable[[], T]) -> T:
    """A store's answer; its errors become ours."""
    try:
        return question()
    except LlaraError:
        raise
    except Exception as error:  # drivers of stores raise errors of their own kinds
        raise unreachable(place, error) from error
