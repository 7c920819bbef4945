"""The unadapted base bundle: the decoder that everything later starts from, with its slots."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from llara_core.config import REGISTRY, ModelSettings
from llara_core.data.collection import Collection
from llara_core.data.lineage import joined, lineage
from llara_core.errors import ConfigError
from llara_core.model.backbone import add_slots, build_from_scratch, decoder_of
from llara_core.model.bundle import CARD_NAME, Bundle, Stage, read_bundle, save_bundle
from llara_core.model.joint_pass import check_joint_support
from llara_core.model.loading import load_decoder
from llara_core.model.prompts import PromptEncoder, Template, resolve_template, with_free_slots

logger = logging.getLogger(__name__)


def prepare_base(
    settings: ModelSettings, collection: Collection, folder: Path, seed: int, origin: str | None = None
) -> Path:
    """Build or load the decoder, add the template's slots and write the base bundle.

    Args:
        settings: the decoder, its template and lengths.
        collection: its passages and training queries train the tokenizer of a model from scratch.
        folder: where the bundle goes.
        seed: of random weights.
        origin: what the bundle calls its base; None: ``settings.base``, or that it is from scratch.

    A base that is a bundle of ours (adapted once, say) keeps its template, its slots as they were trained,
    its history and its data hashes.

    Returns:
        The folder.

    Raises:
        ModelError: the base holds no usable decoder, its rows would be too long, or the folder
            cannot be written.
        ConfigError: the template or the architecture is unknown, the template is not the one that the base
            was trained with, or the base stands in a registry.
    """
    template = resolve_template(settings.template)
    before = _own_bundle(settings, template)
    model, tokenizer, usual_origin = _decoder(settings, collection, seed)
    origin = origin or usual_origin
    template = before.template if before else with_free_slots(template, tokenizer)
    add_slots(model, tokenizer, template, settings.slot_initialisation, seed)
    encoder = PromptEncoder(template, tokenizer, settings.query_length, settings.passage_length)
    prompt = len(encoder.prefix_ids) + max(len(encoder.ebae_suffix_ids), len(encoder.ebar_suffix_ids))
    check_joint_support(decoder_of(model), prompt + max(settings.query_length, settings.passage_length))
    parameters = sum(weights.numel() for weights in model.parameters())
    stage = Stage(
        name="prepare",
        settings=settings.model_dump(mode="json"),
        facts={
            "seed": seed,
            "parameters": parameters,
            "vocabulary": len(tokenizer),
            "base": origin,
            **({"base_fingerprint": before.fingerprint, "base_of_base": before.base_model} if before else {}),
        },
    )
    bundle = Bundle(
        template=template,
        slot_ids={"ebae": encoder.ebae_slot_ids, "ebar": encoder.ebar_slot_ids},
        query_length=settings.query_length,
        passage_length=settings.passage_length,
        base_model=origin,
        attention=settings.attention,
        dtype=settings.dtype,
        data_hashes={**(before.data_hashes if before else {}), collection.name: collection.content_hash},
        data=joined(before.data if before else (), lineage(collection), stage.name),
        history=(*(before.history if before else ()), stage),
    )
    save_bundle(folder, model, tokenizer, bundle)
    logger.info("base model: %s, %.1fM parameters, template %s", origin, parameters / 1e6, template.name)
    return folder


def _decoder(settings: ModelSettings, collection: Collection, seed: int) -> tuple[Any, Any, str]:
    """Model and tokenizer, built or loaded, and what they are from."""
    scratch = settings.from_scratch
    if scratch is None:
        return *load_decoder(settings), str(settings.base)
    model, tokenizer = build_from_scratch(scratch, _texts(collection), seed, settings.attention)
    return model, tokenizer, f"from scratch: {scratch.architecture}"


def _own_bundle(settings: ModelSettings, template: Template) -> Bundle | None:
    """What the base says about itself if it is a bundle of ours, else None."""
    if settings.base is None:
        return None
    if settings.base.startswith(REGISTRY):
        raise ConfigError(
            f"model.base: {settings.base!r} stands in an MLflow registry, which only the pipelines can ask: "
            "run `python -m pipelines training`, or fetch it with `mlflow artifacts download --artifact-uri "
            f"{settings.base} --dst-path FOLDER` and set model.base to the bundle in it (artifacts/bundle)"
        )
    folder = Path(settings.base).expanduser()
    if not (folder / CARD_NAME).is_file():
        return None
    bundle = read_bundle(folder)
    # The names of slots may have been changed to free ones; the wording is what vectors depend on.
    wanted = replace(template, slot_name=bundle.template.slot_name)
    if wanted.content_hash != bundle.template.content_hash:
        raise ConfigError(
            f"model.template: got {template.name!r}, but {folder} was trained with {bundle.template.name!r}; "
            "vectors of two wordings do not mix, so write the same template into the settings"
        )
    return bundle


def _texts(collection: Collection) -> list[str]:
    """Passages, and the queries of the training split only: test queries must not shape the vocabulary."""
    queries = collection.split_queries("train")[1] if "train" in collection.qrels else []
    return [*collection.passages, *queries]
