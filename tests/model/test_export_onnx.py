"""The graph gives the bundle's vectors for any batch and length, and says what 8 bits change."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llara_core.errors import MissingDependencyError
from llara_core.model.backbone import add_slots, decoder_of
from llara_core.model.bundle import read_bundle
from llara_core.model.encoding import embed, pad_rows
from llara_core.model.export import ExportOptions, export_bundle
from llara_core.model.export_onnx import INT8, OnnxRetriever, write_onnx
from llara_core.model.export_onnx_graph import EmbeddingGraph
from llara_core.model.prepare import prepare_base
from llara_core.model.prompts import TEMPLATES
from tests.model.conftest import collection, settings
from tests.model.exports import JOINED, TEXTS, bundle_of, card_code, least_cosine, ours
from tests.oracles.decoder_families import FAMILIES, WINDOW, WINDOWED, kernels_of, tiny
from tests.oracles.tokenizers import byte_level

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra onnx",
)
ROWS = [[[5, 6, 7]], [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [3, 4], [9, 8, 7, 6, 5]], [[1, 2]] * 5]
# Families in every run; the others take as long again, so they are in the slow tier.
CORE = {"llama", "gemma2", "gpt2", "mistral", "qwen2"}
CASES = [
    pytest.param(family, window, marks=[] if family in CORE else pytest.mark.slow)
    for family in FAMILIES
    for window in (None, WINDOW)
    if not window or family in WINDOWED
]


@needs_onnx
def test_graph_tokenizers_and_eight_bits(tmp_path: Path) -> None:
    """One slot and no words: the empty text is a row of a single token."""
    base = prepare_base(settings(template="slots"), collection(), tmp_path / "base", seed=0)
    record = export_bundle(base, "onnx", tmp_path / "out", options=ExportOptions(int8=True))
    facts = record["facts"]
    assert facts["least_cosine"] > 0.99999 and 0.9 < facts["int8_least_cosine"] < 0.999999
    assert facts["int8_bytes"] < facts["bytes"]
    queries, passages = ours(base)
    retriever = card_code(tmp_path / "out")["retriever"]  # what the card tells people to copy
    assert least_cosine(retriever.encode(TEXTS, "query"), queries) > 0.99999
    assert least_cosine(retriever.encode(JOINED, "passage"), passages) > 0.99999
    assert least_cosine(retriever.encode([""], "query"), queries[:1]) > 0.99999
    own = OnnxRetriever(tmp_path / "out", "f")
    assert own.dimension == queries.shape[1]
    assert least_cosine(own.encode_passages(JOINED * 20), np.tile(passages, (20, 1))) > 0.99999
    small = OnnxRetriever(tmp_path / "out", "f", INT8)
    assert small.fingerprint != own.fingerprint
    assert least_cosine(small.encode_queries(TEXTS), queries) > 0.9


@needs_onnx
@pytest.mark.slow
def test_eight_slots_and_half_precision(tmp_path: Path) -> None:
    """A bundle in bfloat16 becomes a graph in float32."""
    base = prepare_base(settings(dtype="bfloat16"), collection(), tmp_path / "base", seed=0)
    bundle = read_bundle(base)
    export_bundle(base, "onnx", tmp_path / "out")
    queries, _ = ours(base)
    assert bundle.template.slots_per_prompt == 8
    own = OnnxRetriever(tmp_path / "out", "f")
    assert least_cosine(own.encode_queries(TEXTS), queries) > 0.999


@needs_onnx
@pytest.mark.slow
def test_weights_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would not fit into one file lies beside it, and 8 bits too."""
    monkeypatch.setattr("llara_core.model.export_onnx._ONE_FILE", 1000)
    base = prepare_base(settings(template="slots"), collection(), tmp_path / "base", seed=0)
    export_bundle(base, "onnx", tmp_path / "out", options=ExportOptions(int8=True))
    assert (tmp_path / "out" / "model.onnx.data").is_file()
    (tmp_path / "out").rename(tmp_path / "moved")
    queries, _ = ours(base)
    for name, least in (("model.onnx", 0.99999), (INT8, 0.9)):
        own = OnnxRetriever(tmp_path / "moved", "f", name)
        assert least_cosine(own.encode_queries(TEXTS), queries) > least


@pytest.mark.parametrize(("family", "window"), CASES)
def test_the_graph_is_the_encoding(family: str, window: int | None) -> None:
    """Before it is exported: masks, windows and positions of every family, at any padding."""
    model = tiny(family, kernels_of(family)[0], window)
    decoder = decoder_of(model)
    graph = EmbeddingGraph(decoder, 2)
    for rows in ROWS:
        ids, lengths = pad_rows(rows, 0)
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        with torch.inference_mode():
            torch.testing.assert_close(graph(ids, mask), embed(decoder, ids, lengths, 2), atol=1e-5, rtol=0)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gpt_neox", "gemma2", "gpt2"])
def test_families_in_onnxruntime(family: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    model = copy.deepcopy(tiny(family, kernels_of(family)[0], WINDOW if family in WINDOWED else None))
    add_slots(model, tokenizer, TEMPLATES["slots"], "mean", seed=0)
    attention = kernels_of(family)[0]
    bundle_of(tmp_path / "bundle", TEMPLATES["slots"], model, tokenizer, attention=attention)
    record = export_bundle(tmp_path / "bundle", "onnx", tmp_path / "out")
    assert record["facts"]["least_cosine"] > 0.99999


def test_the_extra_is_named(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"llara\[onnx\]"):
        write_onnx(tmp_path, read_bundle(base))
