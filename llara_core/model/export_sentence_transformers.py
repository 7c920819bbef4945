"""A bundle as a folder for sentence-transformers, of its own modules alone: no code to trust.

    Router            two tokenisers: queries and documents end in different words and slots
    Transformer       the decoder
    WordWeights       1 for the slots, 0 for all else     (only where there are several slots)
    Pooling           the weighted mean; with one slot the last token
    Normalize

A route of a ``Router`` begins with a module that tokenises, and of those only ``Transformer`` takes any
tokenizer; so each tokeniser is a ``Transformer`` without layers, two numbers wide, whose output the decoder's
replaces. There is no route without a task: ``encode`` without one is refused, not guessed.

Source: issue 7, point 5; sentence-transformers 6, whose own ``save_pretrained`` writes the same files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from llara_core.errors import ModelError
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import Bundle, quiet_transformers
from llara_core.model.export_tokenizers import check_prompts, prompt_length, prompt_tokenizer
from llara_core.model.prompts import Kind, PromptEncoder

# Where version 6 keeps its modules; version 5 knows none of these places, so the folder asks for 6.
_BASE, _OWN = "sentence_transformers.base.modules", "sentence_transformers.sentence_transformer.modules"
LEAST_VERSION = "6.0"
ROUTES: dict[str, Kind] = {"query": "query", "document": "passage"}
_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def write_sentence_transformers(folder: Path, bundle: Bundle, model: Any, tokenizer: Any) -> None:
    """Write the files that ``SentenceTransformer(folder)`` reads, and compare the tokenisers with ours.

    Args:
        folder: empty.
        bundle: of the model.
        model: causal language model; only what lies below its head is written.
        tokenizer: its tokenizer.

    Raises:
        ModelError: the tokenizer cannot be written as data.
    """
    encoder = bundle.encoder(tokenizer)
    decoder = decoder_of(model)
    several = bundle.template.slots_per_prompt > 1
    modules = {
        "": f"{_BASE}.router.Router",
        "1_Transformer": f"{_BASE}.transformer.Transformer",
        **({"2_WordWeights": f"{_OWN}.word_weights.WordWeights"} if several else {}),
        f"{2 + several}_Pooling": f"{_OWN}.pooling.Pooling",
        f"{3 + several}_Normalize": f"{_BASE}.normalize.Normalize",
    }
    _json(
        folder / "modules.json",
        [
            {"idx": place, "name": str(place), "path": path, "type": kind}
            for place, (path, kind) in enumerate(modules.items())
        ],
    )
    _write_facts(folder)
    for name in modules:
        (folder / name).mkdir(exist_ok=True)
    _write_router(folder, encoder, decoder)
    _write_decoder(folder / "1_Transformer", bundle, decoder, tokenizer)
    if several:
        _write_weights(folder / "2_WordWeights", encoder, _vocabulary(decoder))
    _json(
        folder / f"{2 + several}_Pooling" / "config.json",
        {
            "embedding_dimension": int(decoder.config.get_text_config().hidden_size),
            "pooling_mode": "mean" if several else "lasttoken",
            "include_prompt": True,
        },
    )
    _json(folder / f"{3 + several}_Normalize" / "config.json", {})


def _write_facts(folder: Path) -> None:
    _json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "requirements": {
                "sentence-transformers": {
                    "specifier": f">={LEAST_VERSION}",
                    "reason": "modules have other names in older versions",
                }
            },
            # Words before a text are in the tokenisers, where truncation does not count them as text.
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def _vocabulary(decoder: Any) -> int:
    return int(decoder.get_input_embeddings().weight.shape[0])


def _write_router(folder: Path, encoder: PromptEncoder, decoder: Any) -> None:
    names = {route: f"{route}_0_Transformer" for route in ROUTES}
    kind = f"{_BASE}.transformer.Transformer"
    _json(
        folder / "router_config.json",
        {
            "types": dict.fromkeys(names.values(), kind),
            "structure": {route: [name] for route, name in names.items()},
            "parameters": {"default_route": None, "allow_empty_key": False, "route_mappings": {}},
        },
    )
    for route, name in names.items():
        _write_tokeniser(folder / name, encoder, ROUTES[route], _vocabulary(decoder))


def _write_tokeniser(folder: Path, encoder: PromptEncoder, kind: Kind, vocabulary: int) -> None:
    """A tokenizer whose output is the whole prompt, and a model without layers to carry it."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    most = prompt_length(encoder, kind)
    wrapped: Any = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=prompt_tokenizer(encoder, kind),
        pad_token=encoder.tokenizer.convert_ids_to_tokens(encoder.pad_id),
        model_max_length=most,
        padding_side="right",
        truncation_side="right",
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    config: Any = LlamaConfig(
        vocab_size=vocabulary, hidden_size=2, intermediate_size=2, num_hidden_layers=0, num_attention_heads=1,
        num_key_value_heads=1, head_dim=2, max_position_embeddings=most, pad_token_id=encoder.pad_id,
    )  # fmt: skip
    carrier: Any = LlamaModel(config)
    with torch.no_grad():
        for weights in carrier.parameters():
            weights.zero_()  # the same bytes in every export
    with quiet_transformers():
        carrier.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    _json(folder / "sentence_bert_config.json", _transformer_facts())
    written: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    check_prompts(encoder, kind, lambda texts: written(texts, truncation=True)["input_ids"], "tokenizer")


def _write_decoder(folder: Path, bundle: Bundle, decoder: Any, tokenizer: Any) -> None:
    with quiet_transformers():
        decoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kernel = {"model_kwargs": {"attn_implementation": bundle.attention}}
    _json(folder / "sentence_bert_config.json", {**_transformer_facts(), **kernel})


def _transformer_facts() -> Mapping[str, Any]:
    return {
        "transformer_task": "feature-extraction",
        "modality_config": _TEXT_ONLY,
        "module_output_name": "token_embeddings",
        "unpad_inputs": False,  # the slots are found by their place in a padded row
    }


def _write_weights(folder: Path, encoder: PromptEncoder, vocabulary: int) -> None:
    """Weights by id: no text holds a slot, so the slots of a row are exactly the ids that count."""
    slots = {*encoder.ebae_slot_ids, *encoder.ebar_slot_ids}
    if len(slots) != len(encoder.ebae_slot_ids) + len(encoder.ebar_slot_ids):
        raise ModelError(
            "two slots of the template are one token; sentence-transformers cannot tell them apart"
        )
    _json(
        folder / "config.json",
        {
            # Words are looked up in lower case as well: numbers have none.
            "vocab": [str(index) for index in range(vocabulary)],
            "word_weights": {str(index): 1.0 for index in sorted(slots)},
            "unknown_word_weight": 0.0,
        },
    )


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
