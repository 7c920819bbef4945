"""Where a place lies: on this machine, in a store reached by URL, or inside a zip. Nothing is opened here.

A place is a path or an fsspec URL: ``corpus.jsonl``, ``sets/scifact.zip/scifact/corpus.jsonl``,
``s3://bucket/corpus.jsonl.zst``. ``Path`` swallows one of a URL's slashes (``s3:/bucket``); it is put
back, so that settings may keep places as paths. Issue 5, point 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from llara_core.errors import DataError, MissingDependencyError

# What brings the driver of a scheme; "" where core packages do.
SCHEMES = {
    "memory": "",
    "s3": "pip install 'llara[s3]'",
    "s3a": "pip install 'llara[s3]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
    "hdfs": "Hadoop's native library (libhdfs), with HADOOP_HOME and CLASSPATH set",
    "webhdfs": "pip install requests",
    "abfs": "pip install adlfs",
    "abfss": "pip install adlfs",
    "az": "pip install adlfs",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
    "ftp": "",
    "sftp": "pip install paramiko",
}
_LOCAL = ("file", "local")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)  # one letter is a Windows drive
_SECRET = re.compile(r"(?<=://)[^/@]*@")
PACKED = (".gz", ".xz", ".zst")


class Remote(NamedTuple):
    """A place in a store."""

    files: Any  # fsspec.AbstractFileSystem
    path: str  # as the file system names it
    url: str  # as it is shown: without passwords and signatures


def as_text(place: str | Path) -> str:
    """The place as one string: a local path, or a URL with both of its slashes."""
    text = str(place)
    match = _URL.fullmatch(text)
    if match is None:
        return text
    scheme, slashes, rest = match.groups()
    scheme = scheme.lower()
    if scheme in _LOCAL:
        return f"/{rest}"
    if scheme in SCHEMES or len(slashes) > 1:
        return f"{scheme}://{rest}"
    return text


def is_url(place: str | Path) -> bool:
    """Whether a place lies in a store (``file://`` lies on this machine)."""
    return "://" in as_text(place)


def shown(place: str | Path) -> Path | str:
    """The place as messages and records may show it: URLs lose passwords and signatures."""
    text = as_text(place)
    if "://" not in text:
        return Path(text)
    return _SECRET.sub("", text.split("?", 1)[0]) + ("?…" if "?" in text else "")


def name_of(place: str | Path) -> str:
    """The last part of a place, without a URL's query."""
    text = as_text(place)
    return PurePosixPath(text.split("?", 1)[0]).name if "://" in text else Path(text).name


def bare_name(place: str | Path) -> str:
    """The last part of a place without the suffix of its packing: ``a.jsonl`` of ``x/a.jsonl.gz``."""
    name = name_of(place)
    return name[: -len(suffix)] if (suffix := packing_of(name)) else name


def packing_of(place: str | Path) -> str:
    """``.gz``, ``.xz``, ``.zst``, or nothing for a file that is not packed (a zip is none of these)."""
    name = name_of(place).lower()
    return next((suffix for suffix in PACKED if name.endswith(suffix)), "")


def join(place: str | Path, *parts: str) -> str:
    """The place of a file below a folder, be it local, remote or in a zip."""
    text = as_text(place)
    if "://" in text:
        return "/".join([text.rstrip("/"), *parts])
    return str(Path(text, *parts))


def split_archive(place: str | Path, is_file: Callable[[str], bool]) -> tuple[str, PurePosixPath] | None:
    """The zip that a place leads through and the place inside it, or None where no zip is on the way.

    Args:
        place: e.g. ``s3://bucket/scifact.zip/scifact/corpus.jsonl``.
        is_file: tells a zip from a folder that is called so.
    """
    text = as_text(place)
    if ".zip" not in text.lower():
        return None
    head, separator, rest = text.partition("://")
    whole = PurePosixPath(rest) if separator else Path(text)
    for candidate in (whole, *whole.parents):
        if candidate.suffix.lower() == ".zip":
            archive = f"{head}://{candidate}" if separator else str(candidate)
            if is_file(archive):
                return archive, PurePosixPath(whole.relative_to(candidate).as_posix())
    return None


def remote(place: str | Path) -> Remote:
    """The store that a URL names, not asked anything yet.

    Credentials, end points and time-outs are taken from where fsspec and the drivers look for them
    (``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``,
    ``~/.config/fsspec/*.json``), so that no secret stands in a recipe.

    Raises:
        DataError: the scheme is unknown, or the URL chains several (``zip://…::s3://…``).
        MissingDependencyError: the package that reads the scheme is not installed; says which.
    """
    from fsspec.core import url_to_fs

    text = as_text(place)
    scheme = text.partition("://")[0]
    if "::" in text or scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise DataError(
            f"cannot be opened: expected a path or one of {known}; zips are named by their path, e.g. "
            "s3://bucket/set.zip/corpus.jsonl",
            file=shown(place),
            rule="known_place",
        )
    try:
        files, path = url_to_fs(text)
    except ImportError as error:
        raise _missing(scheme, error) from None
    except Exception as error:  # every driver has errors of its own; all of them are told
        if scheme == "hdfs" and ("libjvm" in str(error) or "libhdfs" in str(error)):
            raise _missing(scheme, error) from None
        raise unreachable(place, error) from error
    files.invalidate_cache()  # listings that the driver keeps may be of yesterday
    return Remote(files, path, str(shown(place)))


def _missing(scheme: str, error: Exception) -> MissingDependencyError:
    said = str(error).splitlines()[0]
    return MissingDependencyError(
        f"{scheme}:// needs what is not installed ({said}): {SCHEMES[scheme] or 'pip install fsspec'}"
    )


def unreachable(place: str | Path, error: BaseException) -> DataError:
    """The error for a store that does not give what was asked of it, with what to do about it."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None and _advice(cause):
        error = cause  # fsspec's HTTP says "not found" whatever happened
    file, name = shown(place), type(error).__name__
    if isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404:
        return DataError("no such bucket, folder or file there; mend the URL", file=file, rule="file_exists")
    if name == "FileExpired":
        return DataError(
            "the file changed while it was read; wait until its writer is done, and read it again",
            file=file,
            rule="changed_while_read",
        )
    advice = (
        _advice(error) or "the store refused: mend the URL or the credentials, or copy the file here first"
    )
    return DataError(f"{advice} ({name}: {_said(place, error)})", file=file, rule="readable")


def _advice(error: BaseException) -> str:
    """What to do about errors whose meaning is known; else nothing."""
    name = type(error).__name__
    if "Credential" in name or "NoAuthHandler" in name:
        return (
            "no credentials: log in as the store's own tool does (for S3: AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
        return "access is denied: use credentials that may list and read this place"
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return "the store did not answer in time: try again, or copy the file here first"
    if isinstance(error, ConnectionError) or "Connect" in name or "Endpoint" in name:
        return "the store cannot be reached: is there a network, and is the end point right?"
    return ""


def _said(place: str | Path, error: BaseException) -> str:
    """The driver's own words, without the secrets of the URL."""
    said = str(error).strip().split("\n")[0]
    for secret in [*as_text(place).split("?", 1)[1:], *_SECRET.findall(as_text(place))]:
        said = said.replace(secret, "…")
    return said[:300]
