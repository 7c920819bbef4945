"""Bundles of registered versions on this machine: in place where the store is local, else fetched once.

    <cache>/registry/<registry>/<model>/<version>-<fingerprint>/bundle/
                                                                registered.json   what it was, and where

The cache is ``$LLARA_CACHE``, ``$LLARA_LOCAL/cache`` or ``$XDG_CACHE_HOME/llara`` (``~/.cache/llara``). A
folder appears there by one rename, when it is whole and its files have been compared with their checksums.
One process at a time fetches a version, the others wait for it. What nobody uses may be deleted by hand;
``llara gc`` does it below ``$LLARA_LOCAL``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from llara_core.errors import ConfigError, DataError, ModelError
from llara_core.files import check_writable, mark_used, new_folder, write_json
from llara_core.model.bundle import CARD_NAME, read_bundle
from llara_core.operations.lock import Holder, LockError, take
from llara_mlflow.versions import SCHEME, client_of

logger = logging.getLogger(__name__)

RECORD = "registered.json"
_BUNDLE = "bundle"
_PAUSE = 0.2  # seconds between two looks at whether somebody else has fetched it
_KEY = 16  # characters of a hash that name a folder


@dataclass(frozen=True)
class Cached:
    """A version that lies in the cache.

    Args:
        name: of the registered model.
        version: its number.
        fingerprint: of its bundle, as the registry said; empty: it did not.
        registry: where it was fetched from, without secrets.
        fetched: when; ISO 8601, UTC.
    """

    name: str
    version: str
    fingerprint: str
    registry: str
    fetched: str


def bundle_of(version: Any, client: Any | None = None, registry: str = "") -> Path:
    """The model folder of a version: in place, from the cache, or fetched into it.

    Args:
        version: as MLflow gives it.
        client: of its registry; None: the one that MLflow's environment says.
        registry: where that is, without secrets; names the folder in the cache.

    Raises:
        ModelError: the version holds no bundle of ours, or what was fetched is damaged or another model.
        ConfigError: its files cannot be fetched.
        DataError: the cache cannot be written.
    """
    client = client_of(client)
    repository = _repository(version, client)
    if (folder := _in_place(repository, version)) is not None:
        return folder
    place = place_of(registry or str(client.tracking_uri), version.name) / _key(version)
    with _alone(place):
        if (folder := _whole(place)) is None:
            _fetch(repository, version, registry, place)
            folder = place / _BUNDLE
    return folder


def cached(registry: str, name: str) -> dict[str, tuple[Path, Cached]]:
    """Number to bundle and record of what the cache holds of a model; the one fetched last of a number."""
    found: dict[str, tuple[Path, Cached]] = {}
    for record in place_of(registry, name).glob(f"*/{RECORD}"):
        try:
            one = Cached(**json.loads(record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:  # removed meanwhile, or of another version of llara
            logger.debug("%s: left out (%s)", record, error)
            continue
        if one.version not in found or found[one.version][1].fetched < one.fetched:
            found[one.version] = record.parent / _BUNDLE, one
    return found


def place_of(registry: str, name: str) -> Path:
    """Where the versions of a model lie in the cache."""
    plain = re.sub(r"[^\w.-]", "_", name)[:60]  # a name may hold anything, a path must stay below the cache
    return cache_folder() / "registry" / _hash(registry) / f"{plain}-{_hash(name)}"


def cache_folder() -> Path:
    """The cache of this user or checkout; where it cannot be written, a temporary folder of this process."""
    told = os.environ.get("LLARA_CACHE")
    if told:
        return Path(told).expanduser().absolute()
    if local := os.environ.get("LLARA_LOCAL"):
        return Path(local).expanduser().absolute() / "cache"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llara"
        check_writable(folder / "registry")
    except (DataError, RuntimeError):  # a container without a home
        return _temporary()
    return folder


_temporary_folder: list[Path] = []


def _temporary() -> Path:
    if not _temporary_folder:
        _temporary_folder.append(Path(tempfile.mkdtemp(prefix="llara-cache-")))
        logger.warning("No cache can be written in the home folder: LLARA_CACHE names a better place.")
    return _temporary_folder[0]


def _repository(version: Any, client: Any) -> Any:
    """MLflow's artifact repository of the version's files."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = client.get_model_version_download_uri(version.name, str(version.version))
    if uri.startswith(SCHEME) and "/" not in (model := uri.removeprefix(SCHEME)):
        uri = client.get_logged_model(model).artifact_location
    return get_artifact_repository(uri, tracking_uri=client.tracking_uri)


def _in_place(repository: Any, version: Any) -> Path | None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    if not isinstance(repository, LocalArtifactRepository):
        return None
    return _bundle_in(Path(repository.artifact_dir) / "artifacts", version)


def _bundle_in(folder: Path, version: Any) -> Path:
    found = sorted(folder.glob(f"*/{CARD_NAME}"))
    if not found:
        raise ModelError(
            f"{SCHEME}{version.name}/{version.version}: holds no bundle of ours (no artifacts/*/"
            f"{CARD_NAME}); expected a version that one of our pipelines registered. Give another model as a "
            "folder: model.base: FOLDER, or Retriever.from_pretrained(FOLDER)"
        )
    return found[0].parent


def _fetch(repository: Any, version: Any, registry: str, place: Path) -> None:
    """Everything of the version's bundle into its place in the cache; whole and verified, or not at all."""
    from mlflow.exceptions import MlflowException

    what = f"{SCHEME}{version.name}/{version.version}"
    logger.info("fetching %s into %s", what, place)
    with new_folder(place, replace=(RECORD,)) as part:
        raw = part / "raw"
        raw.mkdir()
        try:
            repository.download_artifacts("artifacts", dst_path=str(raw))
        except (MlflowException, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"{what}: its files cannot be fetched ({reason})") from error
        _bundle_in(raw / "artifacts", version).rename(part / _BUNDLE)
        shutil.rmtree(raw)
        bundle = read_bundle(part / _BUNDLE)
        bundle.verify()
        told = version.tags.get("fingerprint", "")
        if told and told != bundle.fingerprint:
            raise ModelError(
                f"{what}: the registry says fingerprint {told[:20]}, its files {bundle.fingerprint[:20]}: "
                "they are of another model; register it again"
            )
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        record = Cached(version.name, str(version.version), told, registry, now)
        write_json(part / RECORD, asdict(record))


def _whole(place: Path) -> Path | None:
    """The bundle in the cache, verified; None where there is none, or it was damaged since."""
    if not (place / RECORD).is_file():
        return None
    try:
        read_bundle(place / _BUNDLE).verify()
    except ModelError as error:
        logger.warning("%s; it is fetched anew", error)
        return None
    mark_used(place)
    return place / _BUNDLE


def _key(version: Any) -> str:
    told = version.tags.get("fingerprint") or f"at-{version.creation_timestamp}"
    return f"{version.version}-{re.sub(r'[^0-9a-zA-Z-]', '_', told)[:_KEY]}"


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """The block is run by one process, and one thread, at a time."""
    held: Any = None
    try:
        said = False
        while isinstance(held := take(place.with_suffix(".lock"), str(place.name), tries=0), Holder):
            if not said:
                logger.info("waiting for %s, which fetches the same version", held.words())
            said = True
            time.sleep(_PAUSE)
    except LockError as error:
        logger.debug("%s: fetching without a lock", error)  # whole or not at all holds without one, too
        held = None
    try:
        if held is not None:
            for left in place.parent.glob(f".{place.name}.*.partial"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        if held is not None:
            held.release()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY]
