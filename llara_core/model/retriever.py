"""Text → vectors: what a bundle is for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llara_core.data.collection import passage_text
from llara_core.errors import ModelError
from llara_core.model.backbone import choose_device, decoder_of
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.encoded import Counted, Encoded, Tally, check_finite
from llara_core.model.encoding import Rows, embed, in_advance, pad_rows, token_budget_batches
from llara_core.model.last_layer import SlotRows, sees_no_padding, slots_only
from llara_core.model.prompts import Kind
from llara_core.model.registries import Source, fetch
from llara_core.progress import Progress

logger = logging.getLogger(__name__)

# Padded tokens per forward: a CPU wants its activations in cache, a GPU wants to be full
# (docs/results/encoding.md measures it).
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
# A block: the texts that are tokenised and sorted together. Enough to sort well by length, little beside the
# vectors themselves. Batches never span two blocks, so the bytes of a vector depend on its block and not on
# who computes the others.
TEXTS_AT_A_TIME = 16384
_TOKENISED_AT_ONCE = 1024  # texts; Python's lists of ids take nine times the memory of the arrays kept
PLURAL: dict[Kind, str] = {"query": "queries", "passage": "passages"}
OnTexts = Callable[[int], None]


class Retriever:
    """Encodes queries and passages with one model.

    Args:
        bundle: what the folder says about itself.
        model: causal language model, already on its device.
        tokenizer: its tokenizer.
        source: where it came from; None: the bundle's folder.

    Threads may share one: each gets the vectors that it would get alone, and they take turns at the model.
    """

    def __init__(self, bundle: Bundle, model: Any, tokenizer: Any, source: Source | None = None) -> None:
        self.bundle = bundle
        self.source = source or Source(bundle.folder, fingerprint=bundle.fingerprint)
        self.tokenizer = tokenizer
        self.encoder = bundle.encoder(tokenizer)
        self._decoder = decoder_of(model).eval()
        # Threads may share a retriever: neither a tokenizer's truncation nor the hooks of a batch may meet
        # another thread's.
        self._tokenising, self._computing = threading.Lock(), threading.Lock()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | None = None, *, verify: bool = True
    ) -> Retriever:
        """Open a bundle.

        Args:
            folder: a bundle folder.
            device: e.g. ``cpu`` or ``cuda:1``; None: CUDA where there is one.
            verify: compare every file with its checksum; False saves reading the weights once more.

        Raises:
            ModelError: the folder is no bundle, a file of it was changed or may be a pickle, or its model
                cannot be loaded.
        """
        bundle = read_bundle(Path(folder).expanduser())
        model, tokenizer = bundle.load(choose_device(device), verify=verify)
        return cls(bundle, model, tokenizer)

    @classmethod
    def from_registry(
        cls,
        name: str,
        alias: str = "champion",
        version: int | str | None = None,
        tracking_uri: str | None = None,
        device: str | None = None,
    ) -> Retriever:
        """Open a registered model, e.g. ``Retriever.from_registry("llara-retriever")``.

        The alias is looked up at every call. A version's bundle is used where it lies if that is on this
        machine; otherwise it is fetched once into a cache, whole and compared with its checksums. Processes
        and threads may do so at once. A version that was rolled back is opened with a warning.

        Args:
            name: of the registered model.
            alias: which version, unless ``version`` says it.
            version: number of a version; one that is in the cache needs no registry that answers.
            tracking_uri: of the MLflow server or database; None: what ``MLFLOW_TRACKING_URI`` says.
            device: e.g. ``cpu`` or ``cuda:1``; None: CUDA where there is one.

        Returns:
            The retriever; its ``source`` says what was opened.

        Raises:
            ConfigError: the registry does not answer, or has no such model, alias or version; names those
                that it has.
            ModelError: the version holds no bundle, or a damaged one.
            MissingDependencyError: MLflow is not installed: pip install 'llara[mlflow]'.
        """
        number = None if version is None else str(version)
        source = fetch(name, alias=alias, version=number, tracking_uri=tracking_uri)
        if source.folder is None:
            raise ModelError(
                f"{source}: its registry gave no folder; it must give one, see model/registries.py"
            )
        retriever = cls.from_pretrained(source.folder, device)
        retriever.source = source
        return retriever

    @property
    def dimension(self) -> int:
        """Length of a vector, D."""
        return int(self._decoder.config.get_text_config().hidden_size)

    @property
    def passage_length(self) -> int:
        """Most tokens of a passage's text; prompt and slots come on top."""
        return self.bundle.passage_length

    @property
    def batch_tokens(self) -> int:
        """Padded tokens per forward pass that suit the device."""
        return BATCH_TOKENS.get(self._decoder.device.type, BATCH_TOKENS["cpu"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, tokenizer and template: vectors of different fingerprints do not mix."""
        return self.bundle.fingerprint

    def encode_queries(
        self, queries: Sequence[str], *, batch_tokens: int | None = None, progress: bool = False
    ) -> NDArray[np.float32]:
        """Vectors of queries, float32 [N, D], L2-normalised.

        Args:
            queries: N texts; the empty one is allowed.
            batch_tokens: padded tokens per forward pass; None: what suits the device.
            progress: show a progress bar.

        Raises:
            ModelError: a vector holds NaN or infinity; the message names the row.
        """
        return self._encode(queries, "query", batch_tokens, progress)

    def encode_passages(
        self,
        passages: Sequence[str] | Sequence[Mapping[str, str]],
        *,
        batch_tokens: int | None = None,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D], L2-normalised.

        Args:
            passages: N texts, or N mappings with ``text`` and perhaps ``title``.
            batch_tokens: padded tokens per forward pass; None: what suits the device.
            progress: show a progress bar.

        Raises:
            ModelError: a vector holds NaN or infinity; the message names the row.
        """
        return self._encode(passages, "passage", batch_tokens, progress)

    def encode_blocks(
        self,
        blocks: Iterable[Sequence[str]],
        kind: Kind = "passage",
        *,
        batch_tokens: int | None = None,
        on_texts: OnTexts | None = None,
    ) -> Iterator[Encoded]:
        """Encode block after block, so that a corpus of any size needs the memory of one block.

        Args:
            blocks: texts, e.g. ``TEXTS_AT_A_TIME`` of them a block; sorted by length within their block only.
            kind: ``passage`` or ``query``.
            batch_tokens: padded tokens per forward pass; None: what suits the device.
            on_texts: called with the number of texts that were just encoded.

        Yields:
            Each block's vectors float32 [N, D] in the order of its texts, not checked for NaN.
        """
        device, budget = self._decoder.device, batch_tokens or self.batch_tokens
        # A GPU must not wait for the tokenizer; a CPU has nothing to spare beside the model.
        ahead = 1 if device.type == "cuda" else 0
        for rows, cut in in_advance(blocks, lambda texts: self._tokenised(texts, kind), ahead):
            tally = Tally(len(rows), cut, sum(map(len, rows)))
            yield Encoded(self._embed_block(rows, budget, tally, on_texts or _ignore), tally)

    def encode_counted(self, texts: Sequence[str], kind: Kind) -> Counted:
        """Vectors, and what each text took: for a service that encodes texts of several callers at once.

        Args:
            texts: N texts, one block.
            kind: ``passage`` or ``query``.

        Returns:
            Vectors float32 [N, D] that are not checked for NaN, tokens [N] and which were cut [N].
        """
        with self._tokenising:
            some, cut = self.encoder.encode_marked(texts, kind)
        rows = [np.array(row, np.int32) for row in some]
        vectors = self._embed_block(rows, self.batch_tokens, Tally(), _ignore)
        return Counted(vectors, np.array([len(row) for row in rows], np.int64), np.array(cut, np.bool_))

    def _encode(
        self,
        texts: Sequence[str] | Sequence[Mapping[str, str]],
        kind: Kind,
        batch_tokens: int | None,
        progress: bool,
    ) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        starts = range(0, len(texts), TEXTS_AT_A_TIME)
        blocks = (_plain(texts[start : start + TEXTS_AT_A_TIME]) for start in starts)
        total = Tally()
        with _bar(kind, len(texts), progress) as on_texts:
            encoded = self.encode_blocks(blocks, kind, batch_tokens=batch_tokens, on_texts=on_texts)
            for start, block in zip(starts, encoded, strict=True):
                rows = range(start, start + len(block.vectors))
                check_finite(block.vectors, rows, lambda row: _plain(texts[row : row + 1])[0])
                vectors[start : rows.stop] = block.vectors
                total.add(block.tally)
        if total.cut:
            # One text is a user's query, and a service would say this all day.
            logger.log(
                logging.INFO if total.texts > 1 else logging.DEBUG,
                "%d of %d %s were cut at %d tokens", total.cut, total.texts, PLURAL[kind],
                self.encoder.lengths[kind],
            )  # fmt: skip
        return vectors

    def _tokenised(self, texts: Sequence[str], kind: Kind) -> tuple[Rows, int]:
        rows: Rows = []
        cut = 0
        for start in range(0, len(texts), _TOKENISED_AT_ONCE):
            with self._tokenising:
                some, more = self.encoder.encode_counted(texts[start : start + _TOKENISED_AT_ONCE], kind)
            rows += [np.array(row, np.int32) for row in some]
            cut += more
        return rows, cut

    @torch.inference_mode()
    def _embed_block(self, rows: Rows, budget: int, tally: Tally, on_texts: OnTexts) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        batches = token_budget_batches([len(row) for row in rows], budget)
        parts: list[torch.Tensor] = []
        with self._computing, slots_only(self._decoder) as last_layer:
            for batch in batches:
                parts.append(self._embed([rows[row] for row in batch], last_layer))
                tally.padded += len(batch) * len(rows[batch[0]])
                on_texts(len(batch))
        if parts:  # fetched at once: every fetch would make a GPU wait for the next batch
            vectors[np.concatenate(batches)] = torch.cat(parts).float().cpu().numpy()
        return vectors

    def _embed(self, rows: Rows, last_layer: SlotRows | None) -> torch.Tensor:
        ids, lengths = pad_rows(rows, self.encoder.pad_id)
        device, slots = self._decoder.device, self.bundle.template.slots_per_prompt
        ids, lengths = ids.to(device), lengths.to(device)
        masked = not sees_no_padding(self._decoder)
        return embed(self._decoder, ids, lengths, slots, masked=masked, last_layer=last_layer)


def _plain(texts: Sequence[str] | Sequence[Mapping[str, str]]) -> list[str]:
    return [
        one if isinstance(one, str) else passage_text(one.get("title") or "", one.get("text") or "")
        for one in texts
    ]


@contextmanager
def _bar(kind: Kind, total: int, show: bool) -> Iterator[OnTexts]:
    if not show:
        yield _ignore
        return
    with Progress(f"encode {PLURAL[kind]}", total, PLURAL[kind]) as bar:
        yield bar.update


def _ignore(texts: int) -> None:
    """Nobody asked."""
