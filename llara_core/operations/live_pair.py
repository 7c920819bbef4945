"""A pair: a model and the index that was made with it, in one folder, which serve together or not at all.

    <store>/<generation>/pair.json   what it is; written with the folder, never changed
                         model/      the bundle
                         index/      of ``retrieval.index``
                         collection/ texts, titles and judgements; older generations lack it

Swapping a model while the vectors of another stay is the classic outage; a pair cannot be swapped by half.
Source: issue 6, point 4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llara_core.errors import DataError, LlaraError

if TYPE_CHECKING:
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index

FACTS, MODEL, INDEX, COLLECTION = "pair.json", "model", "index", "collection"
_TEXTS = ("version", "fingerprint", "corpus", "created")


class LiveError(LlaraError):
    """The live store cannot do what was asked; what serves is what served before."""


@dataclass(frozen=True)
class Pair:
    """A generation of a live store.

    Args:
        folder: where it lies.
        version: number of the registered version whose bundle it holds.
        fingerprint: of that bundle.
        corpus: hash of ids and passages that the index holds; see ``index_files.corpus_hash``.
        documents: that the index holds, N.
        created: when it was made; ISO 8601, UTC.
        shape: how its index was asked for: kind, parameters, shards and dtype.
        collection: content hash of the collection it holds; None: it holds ids only, as older versions of
            llara made them.
    """

    folder: Path
    version: str
    fingerprint: str
    corpus: str
    documents: int
    created: str
    shape: Mapping[str, Any]
    collection: str | None = None

    @property
    def name(self) -> str:
        """Of the generation."""
        return self.folder.name

    @property
    def model(self) -> Path:
        """The bundle."""
        return self.folder / MODEL

    @property
    def index(self) -> Path:
        """The folder of the index."""
        return self.folder / INDEX

    @property
    def texts(self) -> Path | None:
        """The folder of the saved collection, rows in the order of the index; None: see ``collection``."""
        return None if self.collection is None else self.folder / COLLECTION

    def answers_as(self, other: Pair) -> bool:
        """Whether model, corpus and kind of index are the same, whatever judgements lie beside them."""
        mine, theirs = ((one.version, one.fingerprint, one.corpus, dict(one.shape)) for one in (self, other))
        return mine == theirs

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``folder`` is the name of the generation, so that a store may be moved."""
        return {**vars(self), "folder": self.name, "shape": dict(self.shape)}

    @classmethod
    def of(cls, store: Path, values: Mapping[str, Any]) -> Pair:
        """The pair that ``to_dict`` wrote.

        Raises:
            ValueError, KeyError, TypeError: it did not.
        """
        name = Path(str(values["folder"])).name
        if not name or name != values["folder"]:
            raise ValueError(f"folder: got {values['folder']!r}, expected the name of a generation")
        told = {key: str(values[key]) for key in _TEXTS}
        documents, shape = int(values["documents"]), dict(values["shape"])
        held = values.get("collection")
        collection = None if held is None else str(held)
        return cls(folder=store / name, documents=documents, shape=shape, collection=collection, **told)

    @classmethod
    def read(cls, folder: Path) -> Pair:
        """The pair that a generation's folder holds.

        Raises:
            DataError: it holds none.
        """
        file = folder / FACTS
        try:
            return cls.of(
                folder.parent, json.loads(file.read_text(encoding="utf-8")) | {"folder": folder.name}
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"is no pair of model and index ({error!r}); run the indexing again", file=file
            ) from None

    def open(self, device: str | None = None, *, verify: bool | None = None) -> tuple[Retriever, Index]:
        """Model and index, ready to search, after a look whether they belong together.

        Args:
            device: of the model; None: the best there is.
            verify: every byte of the vectors; see ``Index.open``.

        Raises:
            DataError: the index is missing or damaged.
            ModelError: the bundle cannot be loaded, or the index holds vectors of another model.
        """
        from llara_core.model.retriever import Retriever
        from llara_core.retrieval.index import Index

        index = Index.open(self.index, verify=verify)
        index.check_model(self.fingerprint)
        retriever = Retriever.from_pretrained(self.model, device)
        index.check_model(retriever)
        return retriever, index


def generation_name(
    version: str, fingerprint: str, corpus: str, shape: Mapping[str, Any], collection: str | None = None
) -> str:
    """Name of the folder of a pair: the same for the same content, e.g. ``v3-5f0c2ab19d44``.

    Args:
        version: number of the registered version.
        fingerprint: of the bundle.
        corpus: hash of ids and passages.
        shape: of the index.
        collection: content hash of the collection that it holds; None: none.
    """
    parts = [version, fingerprint, corpus, dict(shape)]
    text = json.dumps(parts if collection is None else [*parts, collection], sort_keys=True)
    return f"v{version}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
