"""What serves, against the champion and the corpus of now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llara_core.data.collection import Collection
from llara_core.errors import DataError, ModelError
from llara_core.operations.freshness_documents import Changes, compare
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.index import Index
from steps.live_state import settle, store_of

Absent = dict[str, str]


def live(name: str, indexing: Mapping[str, Any], champion: Any | None) -> tuple[str, Any | None]:
    """What is wrong with the live pair, in words (empty: it serves the champion), and the pair.

    Args:
        name: of the registered model.
        indexing: run configuration of the live index.
        champion: its version; None: there is none.
    """
    store = store_of(name, (indexing.get("parameters") or {}).get("live"))
    settle(store, name)
    pair = store.current()
    if pair is None:
        return "nothing is live yet", None
    if champion is not None and str(pair.version) != str(champion.version):
        return f"version {pair.version} serves, the champion is version {champion.version}", pair
    return "", pair


def index(pair: Any | None, data: Collection, absent: Absent) -> Changes | None:
    """What became of the documents since the index of the live pair was made."""
    if pair is None:
        absent["index"] = "nothing is live yet"
        return None
    try:
        opened = Index.open(pair.index, verify=False)
    except (DataError, ModelError) as error:
        absent["index"] = f"the live index cannot be opened ({error})"
        return None
    return compare(opened.ids, opened.hashes, data.corpus_ids, passage_hashes(data.passages))
