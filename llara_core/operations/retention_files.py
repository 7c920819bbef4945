"""What runs leave below the local state, and which of it is in use.

| folder | what | goes when |
|---|---|---|
| ``vectors/`` | vectors of a corpus, by model | no model that is kept made them, and unused for long |
| | BM25 indexes of a corpus | unused for long |
| ``work/`` | folders of steps before they are stored | nothing runs, and old |
| ``checkpoints/<step>/`` | training runs that can be gone on with | nothing runs, and old |
| ``live/<model>/`` | generations | the pointer names another as live and as previous |
| ``quarantine/`` | rows that were put aside | old |
| ``cache/registry/`` | copies of registered models | unused for long; they can be fetched again |

A volume of a cluster has checkpoints, requests of training on several machines and shards directly below it
(``volume_items``).

Source: issue 6, point 6; issue 8, point 4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from llara_core.operations.retention import TRASH, Item, Use, last_used, newest, size_of, too_young
from llara_core.operations.retention_use import POINTER, live_pairs, locked
from llara_core.operations_settings import RetentionSettings

_VECTORS = re.compile(r"(?P<model>[0-9a-f]{20})-[0-9a-f]{20}-float(32|16)")
_OLD_VECTORS = re.compile(r"[0-9a-f]{20}-[0-9a-f]{20}\.npy")  # of versions before 0.4; nothing reads them
_BM25 = re.compile(r"bm25-[0-9a-f]{20}")
_PARTIAL = re.compile(r"\.(?P<name>.+?)(\.[0-9a-z_]{8})?\.partial")
_RUN = re.compile(r"run-[0-9a-f]{12}")
# What a run makes for itself: it goes only while nothing runs.
_OF_A_RUN = ("work", "checkpoints", "vectors half done", "live generation half done")
_WORK = re.compile(r".+-[0-9a-f]{12}")
_FETCHED = re.compile(r"\d+-[0-9A-Za-z_-]{1,16}")
_REQUEST, _SHARDS = re.compile(r".+-[0-9a-f]{16}"), re.compile(r"[0-9a-f]{20}")


def local_items(local: Path, settings: RetentionSettings, use: Use, now: float) -> list[Item]:
    """Everything below the local state that could go, each with the reason it stays.

    Folders that runs never make are no part of the list, whatever lies in them. Links are never followed.

    Args:
        local: the folder of the local state.
        settings: ages and numbers.
        use: what is in use.
        now: seconds since 1970.
    """
    found: list[Item] = []
    found += _vectors(local / "vectors", settings, use, now)
    found += _plain("work", local / "work", _WORK, settings, use, now)
    for step in _folders(local / "checkpoints"):
        found += _plain("checkpoints", step, _RUN, settings, use, now)
    for store in _folders(local / "live"):
        found += _generations(store, settings, use, now)
    for place in _folders(local / "quarantine"):
        found.append(_item("quarantine", place, settings, use, now))
    found += _fetched(local / "cache", settings, use, now)
    return [_spared(item, local, settings) for item in found]


def volume_items(volume: Path, settings: RetentionSettings, use: Use, now: float) -> list[Item]:
    """Everything on a volume of a cluster that could go, each with the reason it stays.

    Who uses a volume that many nodes mount cannot be seen from any of them, so age alone protects: what a
    run uses must be written or read more often than ``volume_days`` says. Encoded vectors are marked when
    they are used, and a request is as young as the checkpoints of its training.

    Args:
        volume: where it is mounted.
        settings: ``volume_days`` and ``keep``.
        use: what this machine has open.
        now: seconds since 1970.
    """
    found: list[Item] = []
    days = settings.volume_days
    settings = settings.model_copy(update={"minimum_age_days": days, "vectors_days": days})
    for local in (volume, *_folders(volume)):  # the ticks of a schedule keep a local state below it
        found += _vectors(local / "vectors", settings, use, now)
        found += _plain("work", local / "work", _WORK, settings, use, now)
        found += _fetched(local, settings, use, now)
    for step in _folders(volume):
        found += _plain("checkpoints", step, _RUN, settings, use, now)
    for item in _plain("request", volume / "requests", _REQUEST, settings, use, now):
        trained = last_used(_checkpoints_of(item.path or volume, volume))
        found.append(_kept(item, item.keep or too_young(trained, now, days)))
    found += _plain("shards", volume / "shards", _SHARDS, settings, use, now)
    return [_spared(item, volume, settings) for item in found]


def _checkpoints_of(request: Path, volume: Path) -> Path:
    """Where a request's training keeps its checkpoints; the request itself if it does not say."""
    try:
        name = json.loads((request / "request.json").read_text(encoding="utf-8"))["checkpoints"]
        return volume / Path(name).name
    except (OSError, ValueError, KeyError, TypeError):
        return request


def still_used(item: Item, use: Use) -> str | None:
    """Who has begun to use an item since the list was made; None: nobody."""
    path = item.path
    if path is None:
        return None
    words = use.of_path(path)
    if words is None and item.kind in _OF_A_RUN:
        words = use.running
    if words is None and item.kind.startswith("vectors"):
        lock = path.parent / f".{_stem(item.name)}.lock"
        words = "another process writes it" if locked(lock) else None
    if words is None and item.kind == "fetched model":
        lock = path.parent / f"{_stem(item.name)}.lock"
        words = "another process fetches it" if locked(lock) else None
    if words is None and item.kind == "live generation":
        words = _pointed_at(path.parent, item.name.rsplit("/", 1)[-1])
    return words


def _pointed_at(store: Path, generation: str) -> str | None:
    pairs = live_pairs(store)
    if pairs is None:
        return f"{POINTER} cannot be read"
    named = {Path(str(one.get("folder", ""))).name for one in pairs}
    return "the live pointer names it" if generation in named else None


def _vectors(folder: Path, settings: RetentionSettings, use: Use, now: float) -> Iterator[Item]:
    kept = {
        hashlib.sha256(fingerprint.encode()).hexdigest()[:20]: words
        for fingerprint, words in use.fingerprints.items()
    }
    for place in _entries(folder):
        if match := _VECTORS.fullmatch(place.name):
            item = _item("vectors", place, settings, use, now)
            reason = (
                item.keep or kept.get(match["model"]) or too_young(item.modified, now, settings.vectors_days)
            )
            yield _kept(item, reason)
        elif _BM25.fullmatch(place.name):  # of no model: it takes seconds to make again
            item = _item("BM25 index", place, settings, use, now)
            yield _kept(item, item.keep or too_young(item.modified, now, settings.vectors_days))
        elif _OLD_VECTORS.fullmatch(place.name):
            yield _item("vectors", place, settings, use, now)
        elif _PARTIAL.fullmatch(place.name):
            yield _item("vectors half done", place, settings, use, now)
        elif place.name.startswith(TRASH):
            yield _item("interrupted gc", place, settings, use, now)


def _fetched(cache: Path, settings: RetentionSettings, use: Use, now: float) -> Iterator[Item]:
    """Copies of registered models; whoever needs one again fetches it again."""
    for registry in _folders(cache / "registry"):
        for model in _folders(registry):
            for item in _plain("fetched model", model, _FETCHED, settings, use, now):
                yield _kept(item, item.keep or too_young(item.modified, now, settings.vectors_days))


def _plain(
    kind: str, folder: Path, names: re.Pattern[str], settings: RetentionSettings, use: Use, now: float
) -> Iterator[Item]:
    """Folders that a run makes for itself."""
    for place in _entries(folder):
        if place.name.startswith(TRASH):
            yield _item("interrupted gc", place, settings, use, now)
        elif names.fullmatch(place.name) or _PARTIAL.fullmatch(place.name):
            yield _item(kind, place, settings, use, now)


def _generations(store: Path, settings: RetentionSettings, use: Use, now: float) -> Iterator[Item]:
    places = [place for place in _folders(store) if not place.name.startswith(".")]
    pairs = live_pairs(store)
    named = {} if pairs is None else {Path(str(one.get("folder", ""))).name: one for one in pairs}
    spare = newest(
        {place.name: place.stat().st_mtime for place in places if place.name not in named},
        settings.generations,
    )
    for place in places:
        item = _item("live generation", place, settings, use, now)
        reason = item.keep
        if pairs is None:
            reason = f"{POINTER} cannot be read"
        elif not pairs:
            reason = "the store has no pointer yet"
        elif place.name in named:
            reason = "the live pointer names it"
        elif reason is None and place.name in spare:
            reason = f"among the newest {settings.generations} unused"
        yield _kept(item, reason)
    for place in _entries(store):
        if place.name.startswith(TRASH):
            yield _item("interrupted gc", place, settings, use, now)
        elif _PARTIAL.fullmatch(place.name):
            yield _item("live generation half done", place, settings, use, now)


def _item(kind: str, place: Path, settings: RetentionSettings, use: Use, now: float) -> Item:
    """The item, with the reasons that hold for every kind."""
    modified = last_used(place)
    item = Item(kind, f"{place.parent.name}/{place.name}", size_of(place), modified, path=place)
    if place.is_symlink():
        return _kept(item, "a link")
    young = too_young(modified, now, settings.minimum_age_days)
    if kind == "interrupted gc":  # it was condemned already
        return _kept(item, use.of_path(place))
    return _kept(item, still_used(item, use) or young)


def _kept(item: Item, reason: str | None) -> Item:
    return Item(item.kind, item.name, item.size, item.modified, reason, item.path, item.key)


def _spared(item: Item, local: Path, settings: RetentionSettings) -> Item:
    """The item, kept if a pattern of the settings names it or a folder it lies in."""
    if item.keep is not None or item.path is None:
        return item
    relative = item.path.relative_to(local)
    for pattern in settings.keep:
        if any(part.match(pattern) for part in (relative, *relative.parents)):
            return _kept(item, f"retention.keep names {pattern}")
    return item


def _stem(name: str) -> str:
    last = name.rsplit("/", 1)[-1]
    match = _PARTIAL.fullmatch(last)
    return match["name"] if match else last


def _folders(folder: Path) -> list[Path]:
    return [place for place in _entries(folder) if place.is_dir() and not place.is_symlink()]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
