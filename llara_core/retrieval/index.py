"""An index of a corpus on disk: built once per model, refreshed when the corpus changes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ConfigError, ModelError
from llara_core.files import check_writable, new_folder
from llara_core.retrieval import index_files as files
from llara_core.retrieval.index_rules import choose
from llara_core.retrieval.index_search import search_index
from llara_core.retrieval.index_state import State, open_state, write_state
from llara_core.retrieval.vector_store import Dtype
from llara_core.retrieval.vectors import Encoder


@dataclass(frozen=True)
class IndexSettings:
    """How an index is to be built.

    Args:
        kind: ``auto`` (by size), ``flat``, ``ivfpq`` or ``hnsw``; see ``index_rules.choose``.
        parameters: of that kind, where the rules shall not choose.
        shards: files that the vectors are spread over, searched one after the other.
        dtype: of the vectors on disk, ``float32`` or ``float16``.
    """

    kind: str = "auto"
    parameters: Mapping[str, int] | None = None
    shards: int = 1
    dtype: Dtype = "float32"


class Index:
    """A saved index, opened; made by ``Index.build`` and ``Index.open``.

    Vectors and ids are memory-mapped. An index that is refreshed stays as it is for whoever has it open.
    """

    def __init__(self, folder: Path, state: State) -> None:
        """Hold an opened state; use ``Index.open``."""
        self.folder, self.manifest, self._state = folder, state.manifest, state
        self.fingerprint: Mapping[str, Any] = state.manifest["fingerprint"]

    @classmethod
    def build(
        cls,
        folder: Path,
        encoder: Encoder,
        ids: Sequence[str],
        passages: Sequence[str],
        settings: IndexSettings | None = None,
        *,
        template: str = "",
        cache: Path | None = None,
    ) -> Index:
        """Encode a corpus and write its index.

        A killed run leaves nothing under `folder`, and is gone on with by the next.

        Args:
            folder: where to write; an index that is there already is replaced.
            encoder: the model.
            ids: N ids, each once.
            passages: N texts.
            settings: kind, parameters, shards and type of numbers.
            template: name of the prompt template, for the fingerprint; the encoder's own fingerprint
                covers its wording.
            cache: folder of ``vectors.stored_vectors``; None: a hidden one beside `folder`, removed at
                the end.

        Raises:
            ConfigError: unusable settings.
            DataError: ids are not unique or not as many as passages, or the folder cannot be written.
            MissingDependencyError: an approximate kind without FAISS.
        """
        settings = settings or IndexSettings()
        if settings.shards < 1 or settings.dtype not in ("float32", "float16"):
            raise ConfigError(
                "index: expected at least 1 shard and dtype float32 or float16, got "
                f"{settings.shards} and {settings.dtype!r}"
            )
        choose(settings.kind, len(passages), encoder.dimension, settings.parameters)
        check_writable(folder)
        asked = {"kind": settings.kind, "parameters": dict(settings.parameters or {})}
        facts = {"asked": asked, "template": template, "dtype": settings.dtype, "shards": settings.shards}
        work = cache or folder.absolute().parent / f".{folder.name}.vectors"
        with new_folder(folder, replace=(files.MANIFEST,)) as made:
            write_state(made, encoder, ids, passages, facts, None, work)
        if cache is None:
            shutil.rmtree(work, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, verify: bool | None = None) -> Index:
        """Open a saved index.

        Args:
            folder: as given to ``build``.
            verify: compare every byte of the vectors with its SHA-256; None: up to 256 MiB of them. All
                other files are compared in any case.

        Raises:
            DataError: the folder is no index, or a file is missing, cut off or changed.
        """
        return cls(folder, open_state(folder, verify))

    def __len__(self) -> int:
        """Number of passages, N."""
        return len(self._state.ids)

    @property
    def dimension(self) -> int:
        """Length D of its vectors."""
        return int(self.fingerprint["dimension"])

    @property
    def ids(self) -> list[str]:
        """Ids of the passages, by row."""
        found: list[str] = self._state.ids.to_pylist()
        return found

    def id_of(self, row: int) -> str:
        """Id of one passage."""
        return str(self._state.ids[int(row)].as_py())

    def ids_between(self, start: int, stop: int) -> list[str]:
        """Ids of the passages in rows ``start`` to ``stop``, the last one left out."""
        found: list[str] = self._state.ids.slice(start, max(0, stop - start)).to_pylist()
        return found

    def hash_of(self, row: int) -> bytes:
        """Hash of one passage's text, 16 bytes; see ``hashes.passage_hashes``."""
        return bytes(self._state.hashes[int(row)].tobytes())

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """Hashes of all passages by row, uint8 [N, 16]; see ``hashes.passage_hashes``."""
        return self._state.hashes

    def check_model(self, model: Encoder | str, dimension: int | None = None) -> None:
        """Refuse another model than the index was built with.

        Args:
            model: an encoder, or the fingerprint of one.
            dimension: of its vectors; None: the encoder's.

        Raises:
            ModelError: it is another.
        """
        fingerprint = model if isinstance(model, str) else model.fingerprint
        width = dimension if isinstance(model, str) or dimension is not None else model.dimension
        if fingerprint != self.fingerprint["model"] or (width is not None and width != self.dimension):
            raise ModelError(
                f"the index {self.folder} holds vectors of the model {self.fingerprint['model'][:20]} "
                f"({self.dimension} dimensions, template {self.fingerprint['template'] or 'unnamed'}), and "
                f"this is the model {fingerprint[:20]} ({width or 'unknown'} dimensions); their vectors do "
                "not mix: use the model it was built with, or build the index again with this one"
            )

    def search(
        self, queries: NDArray[np.float32], k: int, model: Encoder | str
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k passages of greatest inner product with each query, best first, ties by row.

        A flat index gives what ``exact.search`` gives. An approximate one proposes candidates, which are
        scored exactly; where it proposes fewer than k, the query is searched exactly.

        Args:
            queries: [Q, D] float32.
            k: results per query, ≥ 1; at most N are returned.
            model: the encoder that made the queries, or its fingerprint.

        Returns:
            Scores [Q, min(k, N)] float32 and rows [Q, min(k, N)] int64.

        Raises:
            ModelError: the queries are another model's.
            InputError: k < 1, the shape is not [Q, D], or a vector holds NaN or infinity.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        self.check_model(model, queries.shape[1] if queries.ndim == 2 else None)
        return search_index(self._state.vectors, self._state.approximate, queries, k)

    def prepare(self) -> int:
        """Hold what makes many searches quick: of a flat index its vectors rounded to bfloat16.

        It pays where one process searches again and again, and changes no result. Nothing is held where the
        processor does not multiply bfloat16, and of approximate indexes, which search few vectors.

        Returns:
            The memory that it takes, in bytes: 2 N D, or 0.
        """
        return self._state.vectors.prepare() if self._state.approximate is None else 0

    def refresh(
        self, encoder: Encoder, ids: Sequence[str], passages: Sequence[str], *, cache: Path | None = None
    ) -> Index:
        """Make the index follow a changed corpus; only texts that it does not know are encoded.

        The state of the new corpus is written beside the old one, and becomes the index in one step: a kill
        leaves the old index. A flat index is then what a full build would be. An approximate one keeps what
        was trained, until a fifth of its passages are new or gone since; then it is trained again.

        Args:
            encoder: the model that the index was built with.
            ids: N ids of the whole new corpus, in its order, each once.
            passages: N texts.
            cache: as for ``build``.

        Returns:
            The refreshed index; ``manifest["counts"]`` says how many passages were encoded, kept, added,
            changed and deleted.

        Raises:
            ModelError: the encoder is another.
            DataError: as ``build``.
        """
        self.check_model(encoder)
        manifest = self.manifest
        facts = {key: manifest[key] for key in ("asked", "dtype", "shards")}
        facts["template"] = self.fingerprint["template"]
        work = cache or self.folder.absolute().parent / f".{self.folder.name}.vectors"
        write_state(self.folder, encoder, ids, passages, facts, self._state, work)
        if cache is None:
            shutil.rmtree(work, ignore_errors=True)
        fresh = Index.open(self.folder)
        files.remove_other_states(self.folder)
        return fresh
