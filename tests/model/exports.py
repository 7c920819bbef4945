"""Bundles that the tests of exports share: one with LoRA merged in, without the minutes of a training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llara_core.config import LoraSettings
from llara_core.model.adapters import with_lora
from llara_core.model.bundle import Bundle, Stage, read_bundle, save_bundle
from llara_core.model.prompts import PromptEncoder, Template
from llara_core.model.retriever import Retriever

TEXTS = [
    "",
    "open a file",
    "return the sum of two numbers " * 40,
    "</s> <s1><s9> Größe 東京 e\u0301\u0000 👩‍🚀",
    " Def  Parse_JSON ",
]
PASSAGES = [*TEXTS, {"title": "HTTPServer", "text": "class HTTPServer: pass"}]
JOINED = [*TEXTS, "HTTPServer class HTTPServer: pass"]  # what a caller of another library writes


def bundle_of(folder: Path, template: Template, model: Any, tokenizer: Any, **changes: Any) -> Bundle:
    """A bundle around any model; the slots are in its tokenizer already."""
    encoder = PromptEncoder(template, tokenizer, 8, 16)
    slots = {"ebae": encoder.ebae_slot_ids, "ebar": encoder.ebar_slot_ids}
    values = {"base_model": "hub/tiny", **changes}
    return save_bundle(folder, model, tokenizer, Bundle(template, slots, 8, 16, **values))


def trained_with_lora(base: Path, folder: Path, rank: int = 3, **changes: Any) -> Bundle:
    """The base after a stage of LoRA whose factors are drawn, slots' rows moved as adaptation moves them."""
    bundle = read_bundle(base)
    model, tokenizer = bundle.load()
    rows = [*bundle.slot_ids["ebae"], *bundle.slot_ids["ebar"]]
    targets = changes.pop("target_modules", "all-linear")
    model = with_lora(model, LoraSettings(rank=rank, dropout=0.0, target_modules=targets), 0, rows)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name or "trainable_tokens" in name:
                weights.add_(0.2 * torch.randn(weights.shape, generator=generator))
    stage = Stage("adapt", {"lora": {"rank": rank}, "steps": 1}, [{"step": 1, "loss": 2.0}])
    return save_bundle(
        folder, model.merge_and_unload(), tokenizer, replace(bundle.with_stage(stage), **changes)
    )


def ours(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The bundle's vectors of ``TEXTS`` as queries and ``PASSAGES`` as passages."""
    retriever = Retriever.from_pretrained(folder, "cpu")
    passages = [one if isinstance(one, dict) else {"text": one} for one in PASSAGES]
    return retriever.encode_queries(TEXTS), retriever.encode_passages(passages)


def least_cosine(left: np.ndarray, right: np.ndarray) -> float:
    assert left.shape == right.shape
    return float((left.astype(np.float64) * right).sum(axis=1).min())


def card_code(folder: Path, **places: object) -> dict[str, Any]:
    """Run the lines that a card tells people to copy; gives the names they define."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    code = found[1].replace("FOLDER", str(folder))
    for name, place in places.items():
        code = code.replace(name, str(place))
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def without_llara(code: str, *arguments: object, folder: Path) -> str:
    """What a program prints that cannot import ``llara_core``, run in a folder of its own."""
    blocked = "import sys; sys.modules['llara_core'] = None; "
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", blocked + code, *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
