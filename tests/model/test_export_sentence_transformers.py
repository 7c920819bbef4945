"""``SentenceTransformer(folder)`` gives our vectors, where llara_core cannot be imported."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from llara_core.model.backbone import add_slots
from llara_core.model.export import export_bundle
from llara_core.model.prompts import TEMPLATES
from tests.model.exports import JOINED, TEXTS, bundle_of, least_cosine, ours, trained_with_lora, without_llara
from tests.model.test_prompts import tiny_model
from tests.oracles.decoder_families import WINDOW, WINDOWED, kernels_of, tiny
from tests.oracles.tokenizers import unigram, with_begin

pytest.importorskip("sentence_transformers")

LOAD = """
import json, sys, warnings
import numpy as np
warnings.simplefilter("error")  # nothing deprecated is written
from sentence_transformers import SentenceTransformer

folder, texts = sys.argv[1], json.loads(sys.argv[2])
out = {}
model = SentenceTransformer(folder, device="cpu")
out["query"] = model.encode_query(texts["queries"])
out["document"] = model.encode_document(texts["passages"], batch_size=2)
out["alone"] = np.stack([model.encode_document(text) for text in texts["passages"]])
out["task"] = model.encode(texts["queries"], task="query", prompt_name="query")
for arguments in ({}, {"prompt_name": "query"}):
    try:
        model.encode(texts["queries"], **arguments)
        raise SystemExit("encode without a task was not refused")
    except ValueError as error:
        assert "task" in str(error), error
model.save_pretrained("again")
again = SentenceTransformer("again", device="cpu")
out["again"] = again.encode_query(texts["queries"])
half = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "bfloat16"})
out["half"] = half.encode_query(texts["queries"])
np.savez("out.npz", **out)
"""


def loaded(folder: Path, work: Path) -> dict[str, np.ndarray]:
    texts = json.dumps({"queries": TEXTS, "passages": JOINED})
    without_llara(LOAD, folder, texts, folder=work)
    return dict(np.load(work / "out.npz"))


def test_several_slots(base: Path, tmp_path: Path) -> None:
    """Eight slots, words around the text: titles, cut texts, batches, a round trip, bfloat16."""
    trained_with_lora(base, tmp_path / "bundle")
    record = export_bundle(tmp_path / "bundle", "sentence-transformers", tmp_path / "out")
    queries, passages = ours(tmp_path / "bundle")
    assert least_cosine(queries, passages[: len(queries)]) < 0.99  # else a mix-up would not show
    found = loaded(tmp_path / "out", tmp_path)
    wanted = {"query": queries, "document": passages, "alone": passages, "task": queries}
    for name, expected in wanted.items():
        assert least_cosine(found[name], expected) > 0.999999, name
    assert least_cosine(found["again"], queries) > 0.999999
    assert least_cosine(found["half"], queries) > 0.999
    assert record["facts"] == {"custom_code": False}
    kinds = [one["type"] for one in json.loads((tmp_path / "out" / "modules.json").read_text())]
    assert all(kind.startswith("sentence_transformers.") for kind in kinds)  # no code to trust
    assert not list((tmp_path / "out").rglob("*.py"))


@pytest.mark.slow
def test_one_slot_that_is_the_end_token_and_also_pads(tmp_path: Path) -> None:
    """Last-token pooling, a tokenizer that puts spaces, and a pad token that is the slot itself."""
    tokenizer = unigram(pad_token="</s>")
    bundle_of(tmp_path / "bundle", TEMPLATES["llara"], tiny_model(tokenizer), tokenizer)
    export_bundle(tmp_path / "bundle", "sentence-transformers", tmp_path / "out")
    queries, passages = ours(tmp_path / "bundle")
    found = loaded(tmp_path / "out", tmp_path)
    assert least_cosine(found["query"], queries) > 0.999999
    assert least_cosine(found["document"], passages) > 0.999999


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma2", "gpt2", "llama", "mistral", "opt", "qwen2"])
def test_families(family: str, tmp_path: Path) -> None:
    """Soft-capping that needs its own kernel, windows shorter than a text, learned positions."""
    from sentence_transformers import SentenceTransformer

    kernel = kernels_of(family)[0]
    model = copy.deepcopy(tiny(family, kernel, WINDOW if family in WINDOWED else None))
    tokenizer = with_begin()
    add_slots(model, tokenizer, TEMPLATES["slots"], "random", seed=0)
    bundle_of(tmp_path / "bundle", TEMPLATES["slots"], model, tokenizer, attention=kernel)
    export_bundle(tmp_path / "bundle", "sentence-transformers", tmp_path / "out")
    loaded_here = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    queries, passages = ours(tmp_path / "bundle")
    assert least_cosine(loaded_here.encode_query(TEXTS), queries) > 0.999999
    assert least_cosine(loaded_here.encode_document(JOINED), passages) > 0.999999
