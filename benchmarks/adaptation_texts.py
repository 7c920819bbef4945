"""For benchmarks/adaptation_step.py: its texts (random ids of one length, or real), its model, its gauges."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AddedToken, LlamaConfig, LlamaForCausalLM

from llara_core.config import CollectionSettings, FromScratchSettings
from llara_core.data.formats import load_collection
from llara_core.model.prompts import TEMPLATES, PromptEncoder
from llara_core.model.tokenization import train_tokenizer
from tests.oracles.published_adaptation_step import PublishedPrompts

ARTICLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "enwiki_sample" / "articles.jsonl.gz"
EQUAL, REAL = "equal lengths", "real lengths"
Pairs = list[tuple[list[int], list[int]]]  # text and next text
# Of the tokenizer, before the 16 slots: the size of LLaMA-2's.
WORDS = 32_000
# Texts that the tokenizer learns from: enough for its size.
LEARNT = 3_000


@dataclass(frozen=True)
class Shape:
    """Of the model and of a step.

    Args:
        hidden: width of the hidden states.
        layers: decoder layers.
        length: tokens of the longest row, prompts included.
        batch: rows of a step.
        steps: steps of one measured round on real text.
        device: ``cpu`` or ``cuda``.
    """

    hidden: int
    layers: int
    length: int
    batch: int
    steps: int
    device: str


def real_texts(count: int) -> tuple[list[str], str]:
    """``count`` texts in the order of their source, and what they are."""
    if ARTICLES.is_file():
        with gzip.open(ARTICLES, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in islice(lines, count)], "Wikipedia articles"
    with tempfile.TemporaryDirectory() as scratch:
        code = load_collection(CollectionSettings(source="pycode"), Path(scratch))
    return code.passages[:count], "functions of the installed packages (pycode)"


def read_texts() -> tuple[PublishedPrompts, list[list[int]], str]:
    """Prompts of ``llama2vec`` and token ids of real texts (vocabulary 32,016), and what the texts are."""
    texts, source = real_texts(LEARNT)
    settings = FromScratchSettings(vocabulary_size=WORDS, lowercase=False, split_identifiers=False)
    tokenizer = train_tokenizer(settings, texts)
    template = TEMPLATES["llama2vec"]
    slots = [*template.ebae_slots, *template.ebar_slots]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in slots])
    encoder = PromptEncoder(template, tokenizer, query_length=64, passage_length=160)
    prompts = PublishedPrompts(
        encoder.prefix_ids, encoder.ebae_suffix_ids, encoder.ebar_suffix_ids, template.slots_per_prompt,
        encoder.pad_id, frozenset(encoder.special_ids),
    )  # fmt: skip
    return prompts, encoder.text_ids(texts), source


def make_pairs(shape: Shape, case: str, prompts: PublishedPrompts, texts: list[list[int]]) -> Pairs:
    """The rows (text, next text) of a round: one step of random ids, or several of real text."""
    room = shape.length - len(prompts.prefix) - len(prompts.ebae_suffix) - len(prompts.ebar_suffix)
    if case == EQUAL:
        random = np.random.default_rng(0)
        rows = [random.integers(4, WORDS, room).tolist() for _ in range(shape.batch + 1)]
    else:
        rows = [text[:room] for text in texts[: shape.batch * shape.steps + 1]]
    return list(pairwise(rows))


def make_model(shape: Shape) -> Any:
    """A Llama with random weights and an output embedding of its own; bfloat16 on CUDA, else float32."""
    heads = max(1, shape.hidden // 64)
    config = LlamaConfig(
        vocab_size=WORDS + 16,
        hidden_size=shape.hidden,
        intermediate_size=-(-shape.hidden * 8 // 3 // 16) * 16,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2 * shape.length,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(torch.bfloat16 if shape.device == "cuda" else torch.float32)
    return model.to(shape.device).train()


def clock(device: str) -> float:
    """Seconds: CPU seconds of this process on a CPU, wall time once the GPU is done."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def resident(key: str) -> int:
    """A line of /proc/self/status in bytes, e.g. VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: memory can only be measured on Linux")
