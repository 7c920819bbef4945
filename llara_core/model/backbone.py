"""Any decoder-only language model: built from scratch, and its slot tokens, added once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from llara_core.config import FromScratchSettings
from llara_core.errors import ConfigError
from llara_core.model.loading import check_decoder
from llara_core.model.prompts import Template
from llara_core.model.tokenization import train_tokenizer
from llara_core.settings import nearest

logger = logging.getLogger(__name__)


def build_from_scratch(
    settings: FromScratchSettings, texts: Iterable[str], seed: int, attention: str = "sdpa"
) -> tuple[Any, Any]:
    """A decoder with random weights and a tokenizer trained on the texts.

    Args:
        settings: architecture and dimensions.
        texts: what the tokenizer learns from.
        seed: of the weights; the caller's random state is left as it was.
        attention: the attention kernel, as in ``ModelSettings``.

    Returns:
        The causal language model (float32, CPU) and its fast tokenizer.

    Raises:
        ConfigError: the architecture is unknown, its dimensions do not fit each other, or it cannot run
            with that kernel.
    """
    from transformers import AutoModelForCausalLM

    _check_dimensions(settings)  # before the tokenizer's minutes
    tokenizer = train_tokenizer(settings, texts)
    config = from_scratch_config(
        settings,
        len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    check_decoder(config, settings.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = cast(Any, AutoModelForCausalLM).from_config(
                config, dtype=torch.float32, attn_implementation=attention
            )
        except ValueError as error:
            raise ConfigError(
                f"model.from_scratch: {settings.architecture} cannot be built with attention {attention!r} "
                f"({str(error).splitlines()[0]}); try model.attention: eager"
            ) from error
    return model, tokenizer


def from_scratch_config(settings: FromScratchSettings, vocabulary: int, **token_ids: int | None) -> Any:
    """The transformers configuration of a decoder that is built from scratch.

    Args:
        settings: architecture and dimensions.
        vocabulary: V, tokens of its tokenizer.
        token_ids: its special tokens, e.g. ``pad_token_id``.

    Raises:
        ConfigError: the architecture is unknown, or its dimensions do not fit each other.
    """
    from transformers import AutoConfig

    _check_dimensions(settings)
    return AutoConfig.for_model(
        settings.architecture,
        vocab_size=vocabulary,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.key_value_heads or settings.heads,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=settings.tie_embeddings,
        **token_ids,
    )


def _check_dimensions(settings: FromScratchSettings) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if settings.architecture not in CONFIG_MAPPING:
        hint = nearest(settings.architecture, ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt_neox"])
        raise ConfigError(f"model.from_scratch.architecture: unknown {settings.architecture!r}{hint}")
    if settings.hidden_size % settings.heads:
        raise ConfigError(
            f"model.from_scratch: hidden_size {settings.hidden_size} is not a multiple of "
            f"heads {settings.heads}"
        )
    shared = settings.key_value_heads or settings.heads
    if settings.heads % shared:
        raise ConfigError(
            f"model.from_scratch: heads {settings.heads} is not a multiple of key_value_heads {shared}"
        )


def add_slots(
    model: Any, tokenizer: Any, template: Template, initialisation: Literal["mean", "random"], seed: int
) -> list[int]:
    """Add the template's slot tokens to tokenizer and model, once: a second call changes nothing.

    Args:
        model: causal language model; its embeddings grow only where they have no spare rows.
        tokenizer: grows by the slots that it lacks.
        template: names the slots.
        initialisation: ``mean`` of the vocabulary's embeddings, or ``random`` with their mean and spread.
        seed: of the random initialisation.

    Returns:
        Ids of the slots that were new.
    """
    from transformers import AddedToken

    names = [*template.ebae_slots, *template.ebar_slots]
    known = tokenizer.get_added_vocab()
    new = [name for name in names if name not in known]
    if not new:
        return []
    words = len(tokenizer)
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in new], special_tokens=True
    )
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids: list[int] = [int(index) for index in tokenizer.convert_tokens_to_ids(new)]
    generator = torch.Generator().manual_seed(seed)
    tables: dict[int, Tensor] = {id(table): table for table in _embedding_tables(model)}  # tied: one table
    with torch.no_grad():
        for table in tables.values():
            _initialise_rows(table, ids, words, initialisation, generator)
    return ids


def _embedding_tables(model: Any) -> list[Any]:
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [layer.weight for layer in layers if layer is not None]


def _initialise_rows(
    table: Tensor, ids: Sequence[int], words: int, initialisation: str, generator: torch.Generator
) -> None:
    known = table[:words].float()
    mean, spread = known.mean(dim=0), known.std(dim=0)
    for index in ids:
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        row = mean if initialisation == "mean" else mean + spread * noise
        table[index] = row.to(table.dtype)


def decoder_of(model: Any) -> Any:
    """The model below its output head: gives final hidden states, never logits."""
    whole = model.get_base_model() if hasattr(model, "peft_config") else model
    return whole.base_model


def choose_device(device: str | None = None) -> str:
    """The device asked for, else CUDA where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        first_line = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"device {device!r} cannot be used ({first_line}); this machine has: {', '.join(there)}"
        ) from error
    return device
