"""One contrastive step for the benchmark: its model, its texts, and the ways to compute it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from llara_core.config import (
    CollectionSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.data.collection import Collection
from llara_core.data.formats import load_collection, read_beir
from llara_core.model.adapters import with_lora
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import read_bundle
from llara_core.model.encoding import pad_rows
from llara_core.model.prepare import prepare_base
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs

ROOT = Path(__file__).resolve().parents[1]
SCIFACT = ROOT.parent / "shared" / "data" / "scifact"
QUERIES, NEGATIVES, RANK, TEMPERATURE = 24, 7, 16, 0.05
# Whole abstracts, but for the few longest.
LENGTHS = {"query_length": 64, "passage_length": 512}
MODEL = FromScratchSettings(  # small: a step takes seconds on one thread
    vocabulary_size=4000, hidden_size=128, intermediate_size=344, layers=2, heads=4, key_value_heads=2,
    max_positions=1024,
)  # fmt: skip
SETTINGS = FinetuneSettings(
    steps=1, batch_size=QUERIES, hard_negatives=NEGATIVES, temperature=TEMPERATURE,
    lora=LoraSettings(rank=RANK, dropout=0.0),  # with dropout no two ways would compute the same
)  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OURS, OURS_CACHED = "llara", "llara, gradient_cache"
PEER, PEER_CACHED = "MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"
WAYS = (OURS, PEER, OURS_CACHED, PEER_CACHED)


@dataclass
class Task:
    """One step's model and texts, the same for every way.

    Args:
        model: causal language model with adapters.
        folder: of its bundle.
        batch: the step as our trainer gives it.
        columns: the step as sentence-transformers takes it: queries, positives, negatives 1 to 7.
        data: name of the collection.
    """

    model: Any
    folder: Path
    batch: dict[str, Tensor]
    columns: list[dict[str, Tensor]]
    data: str


def collection() -> Collection:
    """SciFact where it lies beside the project, else the functions of this environment."""
    if SCIFACT.is_dir():
        return read_beir(SCIFACT, "scifact")
    return load_collection(CollectionSettings(source="pycode"))


def draw(whole: Collection) -> tuple[Collection, pa.Table]:
    """24 training queries with one positive each, and seven negatives, all of different texts."""
    random = np.random.default_rng(0)
    texts = dict(zip(whole.corpus_ids, whole.passages, strict=True))
    order = [whole.corpus_ids[row] for row in random.permutation(len(whole.corpus_ids))]
    judged = whole.judgements("train")
    chosen: dict[str, str] = {}
    seen: set[str] = set()
    for query, grades in judged.items():
        document = next((name for name, grade in grades.items() if grade > 0 and name in texts), None)
        if document is not None and texts[document] not in seen and len(chosen) < QUERIES:
            chosen[query] = document
            seen.add(texts[document])
    free = [name for name in order if texts[name] not in seen]
    free = list({texts[name]: name for name in free}.values())[: QUERIES * NEGATIVES]
    qrels = pa.table({"query_id": list(chosen), "corpus_id": list(chosen.values()), "score": [1] * QUERIES})
    asked = [query for query in chosen for _ in range(NEGATIVES)]
    small = Collection(whole.name, whole.corpus, whole.queries, {"train": qrels})
    return small, pa.table({"query_id": asked, "corpus_id": free})


def build(folder: Path, device: str, dtype: str) -> Task:
    """The model with random weights and the step."""
    whole = collection()
    base = folder / "base"
    if not base.exists():
        prepare_base(ModelSettings(from_scratch=MODEL, template="slots", **LENGTHS), whole, base, seed=0)
    bundle = read_bundle(base)
    model, tokenizer = bundle.load(device)
    model = with_lora(model.to(DTYPES[dtype]), SETTINGS.lora or LoraSettings(), seed=0).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # adapters start at zero, where half of their gradients are
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.copy_(torch.randn(weights.shape, generator=generator) * 0.02)
    small, negatives = draw(whole)
    encoder = bundle.encoder(tokenizer)
    pairs = TrainingPairs.collect(small, negatives, "train")
    batches = ContrastiveBatches(pairs, small, encoder, SETTINGS, seed=0)
    (batch,) = batches.part(0, 0, 1)
    plan = batches.plan[0]
    documents = np.stack([plan.positives, *plan.negatives.reshape(QUERIES, NEGATIVES).T])
    rows = [[[*encoder.prefix_ids, *batches.queries[row], *encoder.ebar_suffix_ids] for row in plan.queries]]
    rows += [
        [[*encoder.prefix_ids, *batches.documents[int(row)], *encoder.ebae_suffix_ids] for row in column]
        for column in pairs.text_of[documents]
    ]
    columns = []
    for column in rows:
        ids, lengths = pad_rows(column, encoder.pad_id)
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        columns.append({"input_ids": ids.to(device), "attention_mask": mask.to(device)})
    batch = {name: values.to(device) for name, values in batch.items() if name != "counts"}
    return Task(model, base, batch, columns, whole.name)


def our_step(task: Task, **changes: Any) -> Callable[[], Tensor]:
    """Forward and backward of ``ContrastiveObjective``."""
    objective = ContrastiveObjective(task.model, SETTINGS.model_copy(update=changes), slots=1)

    def step() -> Tensor:
        loss = objective(task.batch)["loss"]
        loss.backward()
        return loss.detach()

    return step


def peer_step(task: Task, cached: bool) -> Callable[[], Tensor]:
    """Forward and backward of sentence-transformers' loss over the very same decoder."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sentence_transformer import losses
        from sentence_transformers.sentence_transformer.modules import Pooling
    except ImportError:
        raise SystemExit(
            "this benchmark compares with sentence-transformers, which is not installed: "
            "pip install -c constraints.txt -e '.[dev]'"
        ) from None
    body = Transformer(str(task.folder))
    body.model = decoder_of(task.model)
    modules = [body, Pooling(MODEL.hidden_size, "lasttoken")]
    peer = SentenceTransformer(modules=modules, device=str(task.model.device)).train()
    kind = losses.CachedMultipleNegativesRankingLoss if cached else losses.MultipleNegativesRankingLoss
    loss_of = kind(
        peer, scale=1 / TEMPERATURE
    )  # what it calls scale is 1 / temperature; all else as it comes

    def step() -> Tensor:
        loss = loss_of([dict(column) for column in task.columns], torch.zeros(QUERIES))
        loss.backward()
        return loss.detach()

    return step


def steps_of(task: Task, names: tuple[str, ...]) -> dict[str, Callable[[], Tensor]]:
    """The ways to compute the step, by name."""
    makers: dict[str, Callable[[], Callable[[], Tensor]]] = {
        OURS: functools.partial(our_step, task),
        OURS_CACHED: functools.partial(our_step, task, gradient_cache=True),
        PEER: functools.partial(peer_step, task, cached=False),
        PEER_CACHED: functools.partial(peer_step, task, cached=True),
    }
    return {name: makers[name]() for name in names}
