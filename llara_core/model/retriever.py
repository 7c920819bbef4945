"""Text → vectors: what a bundle is for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llara_core.data.collection import passage_text
from llara_core.model.backbone import choose_device, decoder_of
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.encoding import embed, pad_rows, token_budget_batches
from llara_core.model.prompts import Kind

logger = logging.getLogger(__name__)

# Padded tokens per forward: a CPU wants its activations in cache, a GPU wants to be full.
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
# Texts tokenised at a time: enough to sort well by length, little beside the vectors themselves.
TEXTS_AT_A_TIME = 16384


class Retriever:
    """Encodes queries and passages with one model.

    Args:
        bundle: what the folder says about itself.
        model: causal language model, already on its device.
        tokenizer: its tokenizer.
    """

    def __init__(self, bundle: Bundle, model: Any, tokenizer: Any) -> None:
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.encoder = bundle.encoder(tokenizer)
        self._decoder = decoder_of(model).eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | None = None) -> Retriever:
        """Open a bundle.

        Args:
            folder: a bundle folder.
            device: e.g. ``cpu`` or ``cuda:1``; None: CUDA where there is one.

        Raises:
            ModelError: the folder is no bundle, or its model cannot be loaded.
        """
        bundle = read_bundle(Path(folder).expanduser())
        model, tokenizer = bundle.load(choose_device(device))
        return cls(bundle, model, tokenizer)

    @property
    def dimension(self) -> int:
        """Length of a vector, D."""
        return int(self._decoder.config.get_text_config().hidden_size)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, tokenizer and template: vectors of different fingerprints do not mix."""
        return self.bundle.fingerprint

    def encode_queries(
        self, queries: Sequence[str], *, batch_tokens: int | None = None, progress: bool = False
    ) -> np.ndarray:
        """Vectors of queries, float32 [N, D], L2-normalised.

        Args:
            queries: N texts; the empty one is allowed.
            batch_tokens: padded tokens per forward pass; None: what suits the device.
            progress: show a progress bar.
        """
        return self._encode(queries, "query", batch_tokens, progress)

    def encode_passages(
        self,
        passages: Sequence[str] | Sequence[Mapping[str, str]],
        *,
        batch_tokens: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Vectors of passages, float32 [N, D], L2-normalised.

        Args:
            passages: N texts, or N mappings with ``text`` and perhaps ``title``.
            batch_tokens: padded tokens per forward pass; None: what suits the device.
            progress: show a progress bar.
        """
        texts = [
            one if isinstance(one, str) else passage_text(one.get("title") or "", one.get("text") or "")
            for one in passages
        ]
        return self._encode(texts, "passage", batch_tokens, progress)

    @torch.inference_mode()
    def _encode(
        self, texts: Sequence[str], kind: Kind, batch_tokens: int | None, progress: bool
    ) -> np.ndarray:
        device = self._decoder.device
        budget = batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        slots = self.bundle.template.slots_per_prompt
        for start, rows, batch in _progress(self._batches(texts, kind, budget), kind, len(texts), progress):
            ids, lengths = pad_rows([rows[row] for row in batch], self.encoder.pad_id)
            embeddings = embed(self._decoder, ids.to(device), lengths.to(device), slots)
            vectors[[start + row for row in batch]] = embeddings.cpu().numpy()
        return vectors

    def _batches(
        self, texts: Sequence[str], kind: Kind, budget: int
    ) -> Iterable[tuple[int, list[list[int]], list[int]]]:
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            rows = self.encoder.encode_batch(texts[start : start + TEXTS_AT_A_TIME], kind)
            for batch in token_budget_batches([len(row) for row in rows], budget):
                yield start, rows, batch


def _progress(
    batches: Iterable[tuple[int, list[list[int]], list[int]]], kind: Kind, total: int, show: bool
) -> Iterable[tuple[int, list[list[int]], list[int]]]:
    if not show:
        yield from batches
        return
    from llara_core.progress import Progress

    plural = {"query": "queries", "passage": "passages"}[kind]
    with Progress(f"encode {plural}", total=total) as bar:
        for item in batches:
            yield item
            bar.update(len(item[2]))
