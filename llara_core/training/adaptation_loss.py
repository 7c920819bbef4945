"""How well a model's slots say a text, and the next one: EBAE and EBAR on text it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from llara_core.config import AdaptSettings
from llara_core.model.backbone import choose_device
from llara_core.model.bundle import read_bundle
from llara_core.model.retriever import Retriever
from llara_core.training.adapt import plan
from llara_core.training.objectives import AdaptationObjective

_COSINES = 1_000  # passages whose mean cosine is taken


def held_out_losses(folder: Path, rows: pa.Table, settings: AdaptSettings, seed: int) -> dict[str, float]:
    """Losses of a bundle on rows, in nats, and how alike its embeddings are.

    The frequency prior and the IDF weights, where the settings ask for them, are those of the rows
    themselves, so that two models are judged by the same rule whatever they were trained on.

    Args:
        folder: the bundle.
        rows: table with ``text`` and ``next_text``.
        settings: weights and variants of the objective; steps and batch size are not used.
        seed: of random spans; equal seeds draw equal spans.

    Returns:
        ``loss`` (the weighted sum of the terms), ``ebae``, ``ebar`` and ``language_model`` (those whose
        weight is not 0), and ``cosine``: the mean over pairs of passages, near 1 after a collapse.

    Raises:
        TrainingError: the rows hold no text.
        ModelError: the folder is no bundle.
    """
    bundle = read_bundle(folder)
    model, tokenizer = bundle.load(choose_device())
    encoder = bundle.encoder(tokenizer)
    # One step that holds every row: its micro-batches add up to the means over all rows.
    whole = settings.model_copy(update={"steps": 1, "batch_size": rows.num_rows})
    vocabulary = model.get_output_embeddings().weight.shape[0]
    batches, log_prior = plan(rows, encoder, whole, vocabulary, seed)
    objective = AdaptationObjective(model, whole, len(encoder.prefix_ids), log_prior).to(model.device).eval()
    totals: dict[str, float] = {}
    with torch.no_grad():
        for micro_batch in batches.part(0, 0, 1):
            on_device = {
                name: tensor.to(model.device)
                for name, tensor in micro_batch.items()
                if name not in {"counts", "row_ids"}  # for the engine, not for the objective
            }
            for name, value in objective(on_device).items():
                totals[name] = totals.get(name, 0.0) + float(value)
    some = rows["text"].slice(0, _COSINES).to_pylist()
    return {**totals, "cosine": mean_cosine(Retriever(bundle, model, tokenizer).encode_passages(some))}


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine over all pairs of different rows of unit vectors [N, D]; 0 for fewer than two."""
    count = len(vectors)
    if count < 2:
        return 0.0
    # |sum of unit vectors|² holds each pair twice and each vector with itself once.
    squared = float(np.square(vectors.astype(np.float64).sum(axis=0)).sum())
    return (squared - count) / (count * (count - 1))
