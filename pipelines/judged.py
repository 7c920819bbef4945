"""Which collections an evaluation judges: the list of the settings, with every public set spelled out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llara_core.config import Bm25Settings, CollectionSettings
from llara_core.errors import ConfigError
from llara_core.evaluation.beir_places import Place, places
from llara_core.evaluation_settings import EvaluationSettings, JudgedCollection, check_names


@dataclass(frozen=True)
class Judged:
    """One collection to judge.

    Args:
        place: its name, source, split and protocol.
        settings: what reading it needs to know.
        bm25: settings of the lexical baseline on it.
    """

    place: Place
    settings: CollectionSettings
    bm25: Bm25Settings


def judged_collections(settings: EvaluationSettings) -> list[Judged]:
    """The collections in their order; CQADupStack gives its twelve forums.

    Raises:
        ConfigError: two collections would have one name, or a name cannot stand in a metric key; or a
            source names an environment variable that is not set.
        DataError: a public set is not where it was looked for, or unknown.
    """
    found = [one for collection in settings.collections for one in _one(collection, settings)]
    try:
        check_names("collections", [one.place.name for one in found])
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return found


def _one(collection: JudgedCollection, settings: EvaluationSettings) -> list[Judged]:
    reading = collection.plain
    folder = reading.folder  # refuses a variable that is not set
    source = "pycode" if folder is None else str(folder)
    listed = places([source], split=collection.split, default_split=settings.split)
    if collection.name is not None:
        if len(listed) > 1:
            raise ConfigError(
                f"collections: {collection.source} stands for {len(listed)} collections with names of their "
                f"own, which cannot all be called {collection.name!r}; leave out its name"
            )
        listed = [replace(listed[0], name=collection.name)]
    bm25 = collection.bm25 or settings.bm25
    return [Judged(place, place.settings(reading), bm25) for place in listed]
