"""What the encoding benchmark encodes, and the ways to do it: same weights, pooling, lengths, token ids."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contrastive_task import collection
from numpy.typing import NDArray
from torch.nn import functional

from llara_core.config import FromScratchSettings, ModelSettings, TemplateSettings
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever

SHORTEST, LONGEST, BATCH = 20, 300, 32  # tokens a passage; texts a batch of the peers
OURS, PEER, PLAIN = "llara", "SentenceTransformer.encode", "plain loop, unsorted"
WAYS = (OURS, PEER, PLAIN)
MODELS = {  # a CPU is busy for some seconds with the one, a GPU with the other
    "cpu": FromScratchSettings(
        vocabulary_size=8000, hidden_size=128, intermediate_size=344, layers=4, heads=4, max_positions=512
    ),
    "cuda": FromScratchSettings(
        vocabulary_size=8000, hidden_size=2048, intermediate_size=5632, layers=16, heads=16, max_positions=512
    ),
}
Way = Callable[[], NDArray[np.float32]]


@dataclass
class Task:
    """Texts, their lengths in tokens, and the model.

    Args:
        texts: N passages.
        lengths: int [N], tokens of each prompt.
        retriever: ours.
        device: where it is.
        data: name of the collection that the words are from.
    """

    texts: list[str]
    lengths: NDArray[np.int64]
    retriever: Retriever
    device: str
    data: str


def build(folder: Path, device: str, documents: int) -> Task:
    """The model with random weights, and passages whose lengths spread evenly on a logarithmic scale."""
    whole = collection()
    if not (folder / "base").exists():
        # The last token is the embedding, as SentenceTransformer can pool it, and no prompt around the text.
        template = TemplateSettings(name="last-token", slots=1, slot_kind="eos")
        settings = ModelSettings(
            from_scratch=MODELS[device], template=template, query_length=LONGEST, passage_length=LONGEST,
            dtype="float32" if device == "cpu" else "bfloat16",
        )  # fmt: skip
        prepare_base(settings, whole, folder / "base", seed=0)
    retriever = Retriever.from_pretrained(folder / "base", device)
    texts = passages(list(whole.passages), retriever, documents)
    rows = retriever.encoder.encode_batch(texts, "passage")
    return Task(texts, np.array([len(row) for row in rows]), retriever, device, whole.name)


def passages(source: list[str], retriever: Retriever, count: int) -> list[str]:
    """Texts of 20 to 300 tokens, in no order: words of the source's passages, one after another."""
    random = np.random.default_rng(0)
    wanted = np.exp(random.uniform(np.log(SHORTEST), np.log(LONGEST), count)).astype(int)
    words = iter([word for row in random.permutation(len(source)) for word in source[row].split()] * 20)
    sizes: dict[str, int] = {}
    texts = []
    for most in wanted:
        chosen: list[str] = []
        room = int(most) - 1  # for the slot
        for word in words:
            if word not in sizes:
                sizes[word] = len(retriever.encoder.text_ids([" " + word])[0])
            room -= sizes[word]
            if room < 0:
                break
            chosen.append(word)
        texts.append(" ".join(chosen))
    return texts


def ways_of(task: Task, names: tuple[str, ...] = WAYS) -> dict[str, Way]:
    """The ways to encode the task's texts, by name."""
    makers = {OURS: our_way, PEER: peer_way, PLAIN: plain_way}
    return {name: makers[name](task) for name in names}


def our_way(task: Task, batch_tokens: int | None = None) -> Way:
    """``Retriever.encode_passages``."""
    return lambda: task.retriever.encode_passages(task.texts, batch_tokens=batch_tokens)


def peer_way(task: Task) -> Way:
    """sentence-transformers over the very same decoder, last token pooled and normalised."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling
    except ImportError:
        raise SystemExit(
            "this benchmark compares with sentence-transformers, which is not installed: "
            "pip install -c constraints.txt -e '.[dev]'"
        ) from None
    base = task.retriever.bundle.folder or Path()
    folder = base.with_name("peer")
    shutil.copytree(base, folder, dirs_exist_ok=True)
    ending_tokenizer(task).save_pretrained(folder)
    body = Transformer(str(folder))
    body.model = task.retriever._decoder
    peer = SentenceTransformer(
        modules=[body, Pooling(task.retriever.dimension, "lasttoken")], device=task.device
    )
    peer.max_seq_length = LONGEST + 1
    return lambda: np.asarray(
        peer.encode(task.texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False),
        np.float32,
    )


def plain_way(task: Task) -> Way:
    """What one writes first: 32 texts after another, padded to the longest of them."""
    tokenizer, decoder = ending_tokenizer(task), task.retriever._decoder

    @torch.inference_mode()
    def encode() -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(task.texts), BATCH):
            texts = task.texts[start : start + BATCH]
            batch = tokenizer(
                texts, padding=True, truncation=True, max_length=LONGEST + 1, return_tensors="pt"
            ).to(task.device)
            mask = batch["attention_mask"]
            states = decoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
            last = states[torch.arange(len(texts), device=mask.device), mask.sum(1) - 1]
            parts.append(functional.normalize(last.float(), dim=-1).cpu().numpy())
        return np.concatenate(parts)

    return encode


def ending_tokenizer(task: Task) -> Any:
    """The model's tokenizer, ending every text with the token that is our slot."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task.retriever.bundle.folder)
    tokenizer.padding_side = "right"
    encoder = task.retriever.encoder
    begin = tokenizer.convert_ids_to_tokens(encoder.prefix_ids)
    (end,) = tokenizer.convert_ids_to_tokens(encoder.ebae_slot_ids)
    special = {*zip(begin, encoder.prefix_ids, strict=True), (end, encoder.ebae_slot_ids[0])}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*begin, "$A", end], special_tokens=sorted(special)
    )
    return tokenizer
