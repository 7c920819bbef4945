"""A teacher that may object to a negative: a cross-encoder, or another retriever's bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from llara_core.config import VetoSettings
from llara_core.errors import ModelError
from llara_core.retrieval.mining_positives import lowered

if TYPE_CHECKING:
    from llara_core.model.retriever import Retriever

logger = logging.getLogger(__name__)


class Teacher(Protocol):
    """Scores passages for a query; the more relevant, the higher."""

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Scores [P] of the passages; they depend on nothing but query and passages."""
        ...


def load_teacher(settings: VetoSettings, device: str | None = None) -> Teacher:
    """Open the veto's model: a bundle of ours, else a sequence classifier with one label.

    Raises:
        ModelError: no such folder or id, its weights are incomplete, or it gives more than one score.
    """
    from llara_core.model.bundle import CARD_NAME
    from llara_core.model.retriever import Retriever

    folder = Path(settings.model).expanduser()
    if (folder / CARD_NAME).is_file():
        return RetrieverTeacher(Retriever.from_pretrained(folder, device))
    return CrossEncoder(settings, device)


class RetrieverTeacher:
    """Inner products of another retriever."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Scores [P], between -1 and 1."""
        vector = self._retriever.encode_queries([query])[0].astype(np.float64)
        passages_vectors = self._retriever.encode_passages(list(passages)).astype(np.float64)
        scores: NDArray[np.float32] = (passages_vectors @ vector).astype(np.float32)
        return scores


class CrossEncoder:
    """A sequence classifier with one label that reads query and passage together.

    Args:
        settings: which one, how long its input may be and how many pairs it reads at once.
        device: None: CUDA where there is one.
    """

    def __init__(self, settings: VetoSettings, device: str | None = None) -> None:
        from llara_core.model.backbone import choose_device

        self._settings = settings
        self._model, self._tokenizer = _load_classifier(settings)
        self._model = self._model.to(choose_device(device)).eval()

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Scores [P] between 0 and 1: the logistic function of the model's one output."""
        import torch

        scores = []
        for start in range(0, len(passages), self._settings.batch_size):
            some = list(passages[start : start + self._settings.batch_size])
            batch = self._tokenizer(
                [query] * len(some),
                some,
                padding=True,
                truncation="longest_first",
                max_length=self._settings.max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = self._model(**batch.to(self._model.device)).logits
            scores.append(torch.sigmoid(logits[:, 0].float()).cpu().numpy())
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def _load_classifier(settings: VetoSettings) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(settings.model).expanduser()
    name = str(folder) if folder.is_dir() else settings.model
    arguments = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **arguments)
        model, info = cast(Any, AutoModelForSequenceClassification).from_pretrained(
            name, output_loading_info=True, use_safetensors=True, **arguments
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(_why_not(settings, error)) from error
    if model.config.num_labels != 1:
        raise ModelError(
            f"mine.veto.model: {settings.model} gives {model.config.num_labels} scores a pair, expected 1; "
            "choose a reranker (a cross-encoder trained to score relevance)"
        )
    if info["missing_keys"]:
        raise ModelError(
            f"mine.veto.model: {settings.model} lacks {len(info['missing_keys'])} weights of a reranker, "
            f"first {sorted(info['missing_keys'])[0]!r}; it is a language model without a trained "
            "score, and its objections would be random"
        )
    if tokenizer.pad_token is None:  # decoders often have none, and a classifier must know which it is
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _why_not(settings: VetoSettings, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    folder = settings.model.rstrip("/").rpartition("/")[2] or "reranker"
    return (
        f"mine.veto.model: {settings.model} is neither a bundle of ours nor a reranker that can be loaded "
        f"({reason}); where a hub can be reached, run `hf download {settings.model} --local-dir {folder}` "
        "(it needs config.json, the tokenizer's files and *.safetensors), copy that folder here and set "
        "mine.veto.model to it, or leave mine.veto out"
    )


class Veto:
    """A teacher and how near a positive's score is too near.

    Args:
        teacher: who judges.
        settings: `share` and `distance`.
    """

    def __init__(self, teacher: Teacher, settings: VetoSettings) -> None:
        self._teacher, self._settings = teacher, settings

    def limit(self, query: str, positives: Sequence[str]) -> float:
        """What the teacher may at most give a negative of the query, by its score of the best positive."""
        best = self._teacher.score(query, positives).astype(np.float64).max(keepdims=True)
        return float(lowered(best, self._settings.share, self._settings.distance)[0])

    def against(self, query: str, passages: Sequence[str], limit: float) -> NDArray[np.bool_]:
        """To which of the passages [P] the teacher objects."""
        marks: NDArray[np.bool_] = self._teacher.score(query, passages).astype(np.float64) > limit
        return marks


def open_veto(settings: VetoSettings | None, teacher: Teacher | None) -> Veto | None:
    """The veto that the settings name, with ``teacher`` in place of their model where it is given.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if settings is None and teacher is None:
        return None
    settings = settings or VetoSettings(model="given")
    return Veto(teacher or load_teacher(settings), settings)
