"""What training changed of a base model, as a peft adapter.

A bundle holds merged weights, so the adapter is found again as their difference to the base:

1. stages trained with LoRA add up to a difference of at most the sum of their ranks, layer by layer;
2. its singular value decomposition, cut at that rank, gives the two factors;
3. what is left over must be no more than the weights' own rounding, else the difference is of another kind;
4. rows of the token embedding that are new or were trained (the slots) travel with the adapter;
5. base and adapter are loaded by peft and must give the bundle's vectors.

So it works for any chain of stages and for bundles that were trained before this file was written. The output
head's rows of the slots are left out: no vector depends on them.
Source: LoRA (arXiv 2106.09685); issue 7, point 5.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, cast

import torch

from llara_core.errors import ModelError
from llara_core.model.adapters import with_adapters
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import CARD_NAME, Bundle, Stage, quiet_transformers, read_bundle
from llara_core.model.export_checks import LEAST_COSINE, check_vectors, probe_vectors
from llara_core.model.export_difference import Difference, difference, linear_parts
from llara_core.model.export_tokenizers import prompt_facts
from llara_core.model.loading import DTYPES, load_weights
from llara_core.model.model_card import CARD_PAGE

TRAINING = ("adapt", "finetune")
# Merging rounds the weights of a bundle, and an adapter's are not rounded: in bfloat16 that shows.
_LEAST = {"float32": LEAST_COSINE, "bfloat16": 0.999}


def write_adapter(folder: Path, bundle: Bundle, base: str | None) -> dict[str, Any]:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and the tokenizer.

    Args:
        folder: empty.
        bundle: trained with LoRA alone.
        base: folder or hub id of the model that training started from; None: what the bundle says.

    Returns:
        Facts for the record: rank, residual, least cosine, what the card needs.

    Raises:
        ModelError: the base is not known or is another model, or the difference is not of low rank.
    """
    name = _base_name(bundle, base)
    rank, stages = _trained_rank(bundle, name)
    model, tokenizer = bundle.load(verify=False)
    encoder = bundle.encoder(tokenizer)
    expected = probe_vectors(decoder_of(model), encoder)
    start = _base(name, bundle, model)
    found = difference(start, model, rank, stages)
    rows = int(model.get_input_embeddings().weight.shape[0])
    trained = _adapted(start, model, found, rank)
    del model, start
    config = trained.peft_config["default"]
    config.base_model_name_or_path = Path(name).name if Path(name).expanduser().exists() else name
    config.inference_mode = True
    trained.save_pretrained(folder, save_embedding_layers=False)
    (folder / CARD_PAGE).unlink(missing_ok=True)  # peft writes one that says nothing; ours takes its place
    _sort_modules(folder / "adapter_config.json")
    tokenizer.save_pretrained(folder)
    del trained
    found_vectors = probe_vectors(_loaded(name, bundle, rows, folder), encoder)
    least = check_vectors(expected, found_vectors, "adapter", _LEAST[bundle.dtype])
    return {
        "base": config.base_model_name_or_path,
        "rank": rank,
        "layers": len(found.factors),
        "token_rows": len(found.rows),
        "largest_unexplained_share_of_a_layer": found.residual,
        "least_cosine": least,
        "embedding_rows": rows,
        "prompt": prompt_facts(encoder),
    }


def _base_name(bundle: Bundle, base: str | None) -> str:
    if base is not None:
        return base
    if bundle.base_model.startswith("from scratch"):
        raise ModelError(
            "--to adapter: the bundle was trained from scratch, so there is no base that others have; give "
            "the bundle that it started from with --base FOLDER, or use --to merged"
        )
    return bundle.base_model


def _trained_rank(bundle: Bundle, base: str) -> tuple[int, int]:
    """The sum of the ranks of all stages since the base, and their number."""
    card = Path(base).expanduser() / CARD_NAME
    before: tuple[Stage, ...] = read_bundle(card.parent).history if card.is_file() else ()
    stages = [stage for stage in bundle.history[len(before) :] if stage.name in TRAINING]
    whole = [stage.name for stage in stages if not stage.settings.get("lora")]
    if whole or not stages:
        did = f"{', '.join(whole)} trained all parameters" if whole else "nothing was trained since the base"
        raise ModelError(f"--to adapter: {did}, so there is no adapter to write; use --to merged")
    return sum(int(stage.settings["lora"]["rank"]) for stage in stages), len(stages)


def _base(name: str, bundle: Bundle, model: Any) -> Any:
    """The base model, as large as the bundle's."""
    place = Path(name).expanduser()
    local = {"local_files_only": True} if place.exists() else {}
    with quiet_transformers():
        start = load_weights(
            str(place) if local else name, dtype=DTYPES[bundle.dtype], attention=bundle.attention, **local
        )
    if start.config.model_type != model.config.model_type:
        raise ModelError(
            f"--base {name}: is a {start.config.model_type}, the bundle a {model.config.model_type}; give "
            f"the model that training started from ({bundle.base_model})"
        )
    _resize(start, int(model.get_input_embeddings().weight.shape[0]))
    return start


def _resize(model: Any, rows: int) -> None:
    if model.get_input_embeddings().weight.shape[0] != rows:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _adapted(start: Any, model: Any, found: Difference, rank: int) -> Any:
    """The base with an adapter whose values are the difference."""
    from peft import LoraConfig

    layers = dict(linear_parts(start))
    rows = model.get_input_embeddings().weight.detach()[found.rows].clone()
    config = cast(Any, LoraConfig)(
        r=rank,
        lora_alpha=rank,  # a factor of 1: it is in the factors
        lora_dropout=0.0,
        target_modules=sorted(found.factors),
        fan_in_fan_out=any(layers[name] for name in found.factors),
        trainable_token_indices=found.rows or None,
        task_type="CAUSAL_LM",
    )
    trained = with_adapters(start, config)
    with torch.no_grad():
        for name, (a, b) in found.factors.items():
            layer = trained.get_submodule(f"base_model.model.{name}")
            for weights, values in (
                (layer.lora_A["default"].weight, a.T),
                (layer.lora_B["default"].weight, b),
            ):
                weights.zero_()  # factors of a narrow layer are fewer than the rank
                target = weights.T if values is not b else weights
                target[:, : values.shape[1]] = values.to(weights.dtype)
        if found.rows:
            table = trained.get_base_model().get_input_embeddings()
            table.token_adapter.trainable_tokens_delta["default"].copy_(rows)
    return trained


def _sort_modules(path: Path) -> None:
    """Names in an order of their own: peft keeps them in a set, which differs from run to run."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["target_modules"] = sorted(values["target_modules"])
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _loaded(name: str, bundle: Bundle, rows: int, folder: Path) -> Any:
    """What a user gets: the decoder of base and adapter, as peft loads them."""
    from peft import PeftModel

    place = Path(name).expanduser()
    local = {"local_files_only": True} if place.exists() else {}
    with quiet_transformers():
        base = load_weights(
            str(place) if local else name, dtype=DTYPES[bundle.dtype], attention=bundle.attention, **local
        )
    _resize(base, rows)
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return decoder_of(PeftModel.from_pretrained(base, folder))
