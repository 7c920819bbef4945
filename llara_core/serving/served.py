"""What answers: a model, the index that was made with it, and the texts that the index holds.

    served = open_pair(LiveStore(folder).current())        # a generation of the live store
    served = open_folders(Path("model"), index=Path("i"))  # or folders that lie anywhere

A request holds one ``Served`` from its first byte to its last, so that its answer never mixes two.
Source: issue 7, point 3.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llara_core.errors import DataError
from llara_core.retrieval.hashes import passage_hashes

if TYPE_CHECKING:
    from llara_core.data.collection import Collection
    from llara_core.model.retriever import Retriever
    from llara_core.operations.live_pair import Pair
    from llara_core.retrieval.index import Index
    from llara_core.serving.corpus import Corpus

logger = logging.getLogger(__name__)
_WARM_TEXTS = ("", "warm up")  # two lengths: what a kernel sets up for the first batch is set up
_WARM_DEPTH = 10  # results of the first search


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is loaded, and what it searches.

    Args:
        name: of the generation, or of the model's folder; the same for the same content.
        version: number in the registry; "" where the model did not come from there.
        retriever: the model.
        index: of its vectors; None: it only encodes.
        corpus: titles, texts and judgements by row of the index; None: results carry ids only.
        created: when the pair was made, ISO 8601, UTC; "" where nobody noted it.
    """

    name: str
    version: str
    retriever: Retriever
    index: Index | None
    corpus: Corpus | None = None
    created: str = ""

    @property
    def fingerprint(self) -> str:
        """Of the model: vectors of different fingerprints do not mix."""
        return self.retriever.fingerprint

    def facts(self) -> dict[str, str]:
        """How an answer names what it came from."""
        return {"pair": self.name, "version": self.version, "fingerprint": self.fingerprint}

    def warm(self) -> None:
        """Encode and search once, so that the first user does not wait for what is set up at first use.

        A flat index is prepared for many searches: see ``Index.prepare`` for the memory that this takes.

        Raises:
            ModelError: the model gives NaN.
            DataError: the index cannot be read.
        """
        self.retriever.encode_passages(_WARM_TEXTS)
        vectors = self.retriever.encode_queries(_WARM_TEXTS)
        if self.index is not None and len(self.index):
            self.index.prepare()
            self.index.search(vectors, _WARM_DEPTH, self.retriever)


def open_pair(pair: Pair, device: str | None = None) -> Served:
    """Open a generation of a live store.

    Args:
        pair: the generation.
        device: of the model; None: the best there is.

    Raises:
        DataError: index or texts are missing or damaged, or are not of one corpus.
        ModelError: the bundle cannot be loaded, or is not the one the index was made with.
    """
    from llara_core.serving.corpus import Corpus

    retriever, index = pair.open(device)
    corpus = None if pair.texts is None else Corpus.open(pair.texts, index)
    return Served(pair.name, pair.version, retriever, index, corpus, pair.created)


def open_folders(
    model: Path,
    index: Path | None = None,
    collection: Collection | None = None,
    *,
    cache: Path | None = None,
    device: str | None = None,
) -> Served:
    """Open a model, an index and a collection that lie anywhere.

    Args:
        model: the bundle.
        index: made with it. None: one is built from the collection, or found in the cache.
        collection: its texts; None: results carry ids only. With neither index nor collection the model
            encodes and does not search.
        cache: where indexes that are built here are kept; needed for a collection without an index.
        device: of the model; None: the best there is.

    Raises:
        DataError: the index is damaged, or the collection is not what it holds.
        ModelError: the bundle cannot be loaded, or the index is another model's.
    """
    from llara_core.model.bundle import read_bundle
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index
    from llara_core.serving.corpus import Corpus

    corpus = None if collection is None else Corpus(collection)
    opened = None
    if index is not None:  # what does not fit is said before a model of gigabytes is read
        opened = Index.open(index)
        opened.check_model(read_bundle(model).fingerprint)
        if corpus is not None:
            corpus.check_index(opened)
    retriever = Retriever.from_pretrained(model, device)
    if opened is None and collection is not None:
        opened = _built(retriever, collection, cache or model.parent / ".llara-serve")
    return Served(model.resolve().name, "", retriever, opened, corpus)


def _built(retriever: Retriever, collection: Collection, cache: Path) -> Index:
    """The index of a collection, kept under its content so that the next start is quick."""
    from llara_core.operations.live_pair import generation_name
    from llara_core.retrieval.index import Index
    from llara_core.retrieval.index_files import corpus_hash

    ids, passages = collection.corpus_ids, collection.passages
    corpus = corpus_hash(list(ids), passage_hashes(passages))
    folder = cache / generation_name("0", retriever.fingerprint, corpus, {})
    try:
        return Index.open(folder)
    except DataError:
        logger.info("%s: encoding %d documents into %s", collection.name, len(passages), folder)
    return Index.build(folder, retriever, ids, passages)
