"""The unadapted base bundle: the decoder that everything later starts from, with its slots."""

from __future__ import annotations

import logging
from pathlib import Path

from llara_core.config import ModelSettings
from llara_core.data.collection import Collection
from llara_core.model.backbone import add_slots, build_from_scratch, decoder_of, load_decoder
from llara_core.model.bundle import Bundle, Stage, save_bundle
from llara_core.model.joint_pass import check_joint_support
from llara_core.model.prompts import PromptEncoder, resolve_template

logger = logging.getLogger(__name__)


def prepare_base(settings: ModelSettings, collection: Collection, folder: Path, seed: int) -> Path:
    """Build or load the decoder, add the template's slots and write the base bundle.

    Args:
        settings: the decoder, its template and lengths.
        collection: its passages and training queries train the tokenizer of a model from scratch.
        folder: where the bundle goes.
        seed: of random weights.

    Returns:
        The folder.

    Raises:
        ModelError: the base holds no usable decoder, its rows would be too long, or the folder
            cannot be written.
        ConfigError: the template or the architecture is unknown.
    """
    template = resolve_template(settings.template)
    if settings.from_scratch is not None:
        model, tokenizer = build_from_scratch(settings.from_scratch, _texts(collection), seed)
        origin = f"from scratch: {settings.from_scratch.architecture}"
    else:
        model, tokenizer = load_decoder(settings)
        origin = str(settings.base)
    add_slots(model, tokenizer, template, settings.slot_initialisation, seed)
    encoder = PromptEncoder(template, tokenizer, settings.query_length, settings.passage_length)
    prompt = len(encoder.prefix_ids) + max(len(encoder.ebae_suffix_ids), len(encoder.ebar_suffix_ids))
    check_joint_support(decoder_of(model), prompt + max(settings.query_length, settings.passage_length))
    parameters = sum(weights.numel() for weights in model.parameters())
    stage = Stage(
        name="prepare",
        settings=settings.model_dump(mode="json"),
        facts={"seed": seed, "parameters": parameters, "vocabulary": len(tokenizer)},
    )
    bundle = Bundle(
        template=template,
        slot_ids={"ebae": encoder.ebae_slot_ids, "ebar": encoder.ebar_slot_ids},
        query_length=settings.query_length,
        passage_length=settings.passage_length,
        base_model=origin,
        attention=settings.attention,
        dtype=settings.dtype,
        data_hashes={collection.name: collection.content_hash},
        history=(stage,),
    )
    save_bundle(folder, model, tokenizer, bundle)
    logger.info("base model: %s, %.1fM parameters, template %s", origin, parameters / 1e6, template.name)
    return folder


def _texts(collection: Collection) -> list[str]:
    """Passages, and the queries of the training split only: test queries must not shape the vocabulary."""
    queries = collection.split_queries("train")[1] if "train" in collection.qrels else []
    return [*collection.passages, *queries]
