"""Making a new pair beside the live one: the bundle is linked or copied, the index refreshed or built.

The new generation appears by one rename when it is whole and on the disk. Nothing here changes what serves.
Source: issue 6, point 4.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llara_core.data.collection import Collection
from llara_core.errors import DataError, ModelError
from llara_core.files import new_folder, write_json
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.bundle_files import check_fingerprint, compare
from llara_core.operations.live import LiveStore
from llara_core.operations.live_pair import COLLECTION, FACTS, INDEX, MODEL, LiveError, Pair, generation_name
from llara_core.operations.live_pointer import now, sync_folder
from llara_core.operations.lock import Held, take
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.index import Index, IndexSettings
from llara_core.retrieval.index_files import corpus_hash
from llara_core.retrieval.vectors import Encoder

logger = logging.getLogger(__name__)
_STAGING_LOCK = ".staging.lock"
_ATTEMPTS = 100  # generations of the same content, each damaged; nobody has that many


@dataclass(frozen=True)
class Staged:
    """A pair that is ready to be looked at by the canary.

    Args:
        pair: the generation.
        counts: documents ``encoded``, ``kept``, ``added``, ``changed``, ``deleted`` against what it was made
            from; empty where it was there already.
        how: ``unchanged`` (it serves already), ``found`` (an earlier run made it), ``refreshed`` (from the
            live index) or ``built``.
    """

    pair: Pair
    counts: dict[str, int]
    how: str


def stage(  # noqa: PLR0913, PLR0917 - a model, a corpus, and how they become a pair
    store: LiveStore,
    bundle: Path,
    version: str,
    ids: Sequence[str],
    passages: Sequence[str],
    settings: IndexSettings,
    load: Callable[[Path], Encoder],
    cache: Path | None = None,
    texts: Path | None = None,
) -> Staged:
    """Make the pair of a model and a corpus, or find it.

    With the model that serves, only new and changed passages are encoded. Killed anywhere, what serves stays
    and the next call goes on: vectors that were encoded are not encoded again.

    Args:
        store: where it goes.
        bundle: folder of the model; it is never changed.
        version: its number in the registry.
        ids: N ids of the corpus, each once.
        passages: N texts.
        settings: of a new index.
        load: gives the encoder of a bundle's folder.
        cache: folder of vectors that other runs share; None: a hidden one of the store.
        texts: the saved collection that ids and passages are of, which the pair then holds too; its files
            are linked or copied. None: the pair holds ids only, and a search page cannot show passages.

    Raises:
        LiveError: another process is making a pair in this store.
        DataError: the corpus or the folder cannot be used.
        ModelError: the bundle cannot be read or was changed.
    """
    work = cache if cache is not None else store.folder / ".vectors"
    with _alone(store.folder):
        made = _stage(store, bundle, version, (ids, passages, settings), load, work, texts)
        if cache is None:
            shutil.rmtree(work, ignore_errors=True)
        return made


def _stage(
    store: LiveStore,
    bundle: Path,
    version: str,
    content: tuple[Sequence[str], Sequence[str], IndexSettings],
    load: Callable[[Path], Encoder],
    cache: Path,
    texts: Path | None,
) -> Staged:
    held = None if texts is None else Collection.load(texts).content_hash
    told, (ids, passages, settings) = read_bundle(bundle), content
    shape = {**asdict(settings), "parameters": dict(settings.parameters or {})}
    corpus = corpus_hash(list(ids), passage_hashes(passages))
    name = generation_name(version, told.fingerprint, corpus, shape, held)
    live, found = store.current(), _find(store, name)
    if found is not None:
        return Staged(found, {}, "unchanged" if live is not None and live.name == found.name else "found")
    target = _free(store.folder, name)
    with new_folder(target) as made:
        _place_bundle(store, bundle, told, made / MODEL)
        index, how = _place_index(store, made, told, shape, content, load, cache)
        if texts is not None:
            _copy(texts, made / COLLECTION)
        pair = Pair(target, version, told.fingerprint, corpus, len(index), now(), shape, held)
        write_json(made / FACTS, pair.to_dict())
        _to_disk(made)
    sync_folder(store.folder)
    return Staged(pair, dict(index.manifest["counts"]), how)


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Be the only one that makes a pair here, and remove what killed runs left half done.

    Raises:
        LiveError: somebody else is at it.
    """
    held = take(store / _STAGING_LOCK, "indexing")
    if not isinstance(held, Held):
        raise LiveError(f"{store}: {held.words()} is making a pair; wait until it has ended")
    try:
        for left in store.glob(".v*-*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        for left in store.glob(f".{Path(_STAGING_LOCK).stem}.json.*.partial"):
            left.unlink(missing_ok=True)
        yield
    finally:
        held.release()


def _find(store: LiveStore, name: str) -> Pair | None:
    """A whole and sound generation of this content; damaged ones are told and passed over."""
    for folder in sorted(store.folder.glob(f"{name}*")):
        try:
            pair = Pair.read(folder)
            check_pair(pair)
        except (DataError, ModelError) as error:
            logger.warning("%s is damaged and is made again: %s", folder.name, error)
            continue
        return pair
    return None


def check_pair(pair: Pair) -> None:
    """Compare every byte of model, index and texts with what was noted when they were written.

    Raises:
        DataError: a file of the index or the collection is missing, cut off or changed.
        ModelError: the model was changed, or the index is another model's.
    """
    index = Index.open(pair.index, verify=True)
    index.check_model(pair.fingerprint)
    _check_bundle(pair.model, pair.fingerprint)
    if pair.texts is not None:
        _check_texts(pair, index, pair.texts)


def _check_texts(pair: Pair, index: Index, folder: Path) -> None:
    """Compare a collection with its hash and, row by row, with what the index was made of.

    Raises:
        DataError: it is another.
    """
    collection = Collection.load(folder)
    if collection.content_hash != pair.collection:
        raise DataError("the collection is not the one that was written; run the indexing again", file=folder)
    ids, hashes = list(collection.corpus_ids), passage_hashes(collection.passages)
    if corpus_hash(ids, hashes) != index.manifest["fingerprint"]["corpus"]:
        raise DataError("the collection is not the one that the index was made of", file=folder)


def _free(store: Path, name: str) -> Path:
    """A folder that is not there yet: ``name``, or with a number where a damaged one stands."""
    for number in range(1, _ATTEMPTS):
        folder = store / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise LiveError(f"{store}: {_ATTEMPTS} damaged generations called {name}*; check the disk, remove them")


def _place_bundle(store: LiveStore, source: Path, told: Bundle, target: Path) -> None:
    """The bundle's files: linked from a generation that has them, else copied and compared."""
    for pair in store.generations():
        if pair.fingerprint == told.fingerprint:
            try:
                _copy(pair.model, target)
                _check_bundle(target, told.fingerprint)
                return
            except (OSError, ModelError) as error:
                logger.warning("The bundle of %s is not used again: %s", pair.name, error)
                shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    _check_bundle(target, told.fingerprint)


def _check_bundle(folder: Path, expected: str) -> None:
    """Compare all files with their checksums, and weights, tokenizer and template with the fingerprint.

    Raises:
        ModelError: they are others.
    """
    told = read_bundle(folder)
    compare(folder, told.files)
    check_fingerprint(folder, told.template, expected)


def _place_index(
    store: LiveStore,
    made: Path,
    told: Bundle,
    shape: dict[str, Any],
    content: tuple[Sequence[str], Sequence[str], IndexSettings],
    load: Callable[[Path], Encoder],
    cache: Path,
) -> tuple[Index, str]:
    """The index of the new generation: the live one refreshed where it fits, else a new one."""
    ids, passages, settings = content
    target, encoder = made / INDEX, load(made / MODEL)
    template = f"{told.template.name}-{told.template.version}"
    live = store.current()
    if live is not None and live.fingerprint == told.fingerprint and dict(live.shape) == shape:
        try:
            _copy(live.index, target)
            # Every byte: a vector that rotted on the disk must not be handed on for ever.
            index = Index.open(target, verify=True)
            return index.refresh(encoder, ids, passages, cache=cache), "refreshed"
        except DataError as error:
            logger.warning("The index of %s cannot be refreshed, so one is built: %s", live.name, error)
            shutil.rmtree(target, ignore_errors=True)
    index = Index.build(target, encoder, ids, passages, settings, template=template, cache=cache)
    return index, "built"


def _copy(source: Path, target: Path) -> None:
    """A folder whose files are hard links where the file system has them: files of a pair never change."""
    shutil.copytree(source, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _to_disk(folder: Path) -> None:
    """Make a folder survive a power cut before anything points at it."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(folder)
