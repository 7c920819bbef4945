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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from llara_core.errors import ModelError
from llara_core.model.adapters import with_adapters
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import CARD_NAME, Bundle, Stage, quiet_transformers, read_bundle
from llara_core.model.export_checks import check_vectors, probe_vectors
from llara_core.model.export_tokenizers import prompt_facts
from llara_core.model.loading import DTYPES, load_weights
from llara_core.model.model_card import CARD_PAGE

TRAINING = ("adapt", "finetune")
_EXACT = (
    1024  # widths up to here are decomposed exactly; wider ones by random projection, then measured alike
)
_OVERSAMPLED, _ROUNDS = 32, 4  # of the random projection: far below the tolerance for spectra of LoRA
_MOST_ROWS = 4096  # trained token rows; more is an embedding that was trained as a whole


@dataclass(frozen=True)
class _Difference:
    """What training changed.

    Args:
        factors: name of a layer to its A [r, in] and B [out, r].
        rows: ids of token embeddings.
        residual: the largest share of a layer's weights, by Frobenius norm, that the factors do not explain.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rows: list[int]
    residual: float


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
    found = _difference(start, model, rank, stages)
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
    least = check_vectors(expected, probe_vectors(_loaded(name, bundle, rows, folder), encoder), "adapter")
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


def _difference(start: Any, model: Any, rank: int, stages: int) -> _Difference:
    """Compare all parameters.

    Raises:
        ModelError: a parameter that no adapter covers was changed, or a layer by more than the rank.
    """
    before = dict(start.named_parameters())
    after = dict(model.named_parameters())
    layers = dict(_linear_layers(start))
    head, table = (
        _weight_name(start, one) for one in (start.get_output_embeddings(), start.get_input_embeddings())
    )
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    rows: list[int] = []
    worst = 0.0
    for name, now in after.items():
        was = before.get(name)
        if was is None or was.shape != now.shape:
            raise _other_model(name, was, now)
        if name == table:
            rows = torch.nonzero((was != now).any(dim=1)).flatten().tolist()
        elif name == head or torch.equal(was, now):
            continue
        elif name.removesuffix(".weight") in layers:
            layer = name.removesuffix(".weight")
            turned = layers[layer]
            factors[layer], share = _factors(
                name, was.T if turned else was, now.T if turned else now, rank, stages
            )
            worst = max(worst, share)
        else:
            raise ModelError(
                f"--to adapter: {name} was changed, which no adapter covers: the base is another one, or all "
                "parameters were trained; give the right --base, or use --to merged"
            )
    if len(rows) > _MOST_ROWS:
        raise ModelError(
            f"--to adapter: {len(rows)} rows of the token embedding differ from the base (slots would be a "
            "few): the base is another one, or the embedding was trained; give the right --base, or use "
            "--to merged"
        )
    return _Difference(factors, rows, worst)


def _other_model(name: str, was: Tensor | None, now: Tensor) -> ModelError:
    found = "no such tensor" if was is None else f"shape {tuple(was.shape)}"
    return ModelError(
        f"--base: {name} has the shape {tuple(now.shape)} in the bundle, {found} in the base; give the "
        "model that training started from"
    )


def _linear_layers(model: Any) -> Iterator[tuple[str, bool]]:
    """Names of the layers that can have adapters, and whether their weights lie [in, out]."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield name, isinstance(module, Conv1D)


def _weight_name(model: Any, layer: Any) -> str | None:
    return next(
        (name for name, one in model.named_parameters() if layer is not None and one is layer.weight), None
    )


def _factors(
    name: str, was: Tensor, now: Tensor, rank: int, stages: int
) -> tuple[tuple[Tensor, Tensor], float]:
    """A [r, in] and B [out, r] with B A = now - was, and the share of ``now`` that is left over.

    Raises:
        ModelError: more is left than rounding explains: every stage's merging rounds each weight once.
    """
    precise = torch.float64 if min(was.shape) <= _EXACT else torch.float32
    delta = now.detach().to(precise) - was.detach().to(precise)
    rank = min(rank, *delta.shape)
    if min(delta.shape) <= _EXACT:
        left, sizes, right = torch.linalg.svd(delta, full_matrices=False)
        left, sizes, right = left[:, :rank], sizes[:rank], right[:rank]
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, sizes, turned = torch.svd_lowrank(
                delta, q=min(rank + _OVERSAMPLED, *delta.shape), niter=_ROUNDS
            )
        left, sizes, right = left[:, :rank], sizes[:rank], turned.T[:rank]
    root = sizes.sqrt()
    a, b = root[:, None] * right, left * root
    whole = float(now.detach().to(precise).norm())
    rest = float((delta - b @ a).norm())
    allowed = (1 + stages) * torch.finfo(now.dtype).eps * whole + 1e-5 * float(delta.norm())
    if rest > allowed:
        raise ModelError(
            f"--to adapter: {name} differs from the base by more than rank {rank}: {rest / whole:.2e} of its "
            f"weights is left over, rounding explains {allowed / whole:.2e}; the base is another one, or all "
            "parameters were trained. Give the right --base, or use --to merged"
        )
    return (a.float().contiguous(), b.float().contiguous()), rest / whole


def _adapted(start: Any, model: Any, found: _Difference, rank: int) -> Any:
    """The base with an adapter whose values are the difference."""
    from peft import LoraConfig

    layers = dict(_linear_layers(start))
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
    """peft keeps the names in a set, whose order changes from process to process."""
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
