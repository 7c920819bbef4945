"""Any decoder-only language model: built from scratch or loaded, with the slot tokens added once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from llara_core.config import FromScratchSettings, LoraSettings, ModelSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.model.prompts import Template
from llara_core.model.tokenization import train_tokenizer
from llara_core.settings import nearest

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_from_scratch(settings: FromScratchSettings, texts: Iterable[str], seed: int) -> tuple[Any, Any]:
    """A decoder with random weights and a tokenizer trained on the texts.

    Args:
        settings: architecture and dimensions.
        texts: what the tokenizer learns from.
        seed: of the weights; the caller's random state is left as it was.

    Returns:
        The causal language model (float32, CPU) and its fast tokenizer.

    Raises:
        ConfigError: the architecture is unknown, or its dimensions do not fit each other.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
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
    tokenizer = train_tokenizer(settings, texts)
    config = AutoConfig.for_model(
        settings.architecture,
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=shared,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=settings.tie_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    _check_decoder(config, settings.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cast(Any, AutoModelForCausalLM).from_config(config, dtype=torch.float32)
    return model, tokenizer


def load_decoder(settings: ModelSettings, device: str | None = None) -> tuple[Any, Any]:
    """Load ``settings.base``: a local folder (no network is used), or a hub id.

    Returns:
        The causal language model in ``settings.dtype`` and its tokenizer.

    Raises:
        ModelError: no such folder or id, no decoder in it, or weights missing.
    """
    if settings.base is None:
        raise ModelError("model.base is not set; give a folder or id, or use build_from_scratch")
    name, local = _locate(settings.base)
    arguments: dict[str, Any] = {
        "revision": settings.revision,
        "trust_remote_code": settings.trust_remote_code,
    }
    if local:
        arguments["local_files_only"] = True
    return load_causal_model(
        name, dtype=DTYPES[settings.dtype], attention=settings.attention, device=device, **arguments
    )


def load_causal_model(
    name: str, *, dtype: torch.dtype, attention: str, device: str | None = None, **arguments: Any
) -> tuple[Any, Any]:
    """A causal language model and its tokenizer from a folder or id.

    Args:
        name: what ``from_pretrained`` takes.
        dtype: of the weights.
        attention: ``sdpa`` or ``eager``.
        device: where the model goes; None: the CPU.
        arguments: passed on to every ``from_pretrained``.

    Raises:
        ModelError: it cannot be loaded, is no decoder, or lacks weights.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(name, **arguments)
        _check_decoder(config, name)
        tokenizer = AutoTokenizer.from_pretrained(name, **arguments)
        model, info = cast(Any, AutoModelForCausalLM).from_pretrained(
            name, dtype=dtype, attn_implementation=attention, output_loading_info=True, **arguments
        )
    except (OSError, ValueError) as error:
        if "does not support an attention implementation" in str(error):
            raise ModelError(
                f"{name}: this kind of model cannot run with attention {attention!r}; "
                "set model.attention: eager"
            ) from error
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: cannot be loaded as a decoder ({first_line}); expected a Hugging Face folder with "
            "config.json, *.safetensors and tokenizer files. Where there is no hub: run "
            f"`hf download {name} --local-dir models/{Path(name).name}` on a connected machine, "
            "copy the folder here and set model.base to it"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: the weights lack {len(missing)} tensors of the model, first {missing[0]!r}; "
            "the folder is incomplete, or not the causal language model itself"
        )
    return model.to(device) if device else model, tokenizer


def _locate(base: str) -> tuple[str, bool]:
    """The name to load from, and whether it is a local folder (which must then hold a model)."""
    folder = Path(base).expanduser()
    if not folder.exists():
        looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
        if looks_local:
            raise ModelError(
                f"{base}: no such folder; model.base is a Hugging Face model folder, or a hub id"
            )
        return base, False
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{base}: no config.json in it, so no Hugging Face model; give the folder that holds "
            "config.json, *.safetensors and tokenizer files"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelError(
            f"{base}: config.json but no weights (*.safetensors); download the folder completely"
        )
    return str(folder), True


def _check_decoder(config: Any, name: str) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    # BERT and its like can be built as decoders, but their weights look both ways unless is_decoder.
    two_way = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    causal = remote or (kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not two_way)
    if getattr(config, "is_encoder_decoder", False) or not causal:
        architecture = ", ".join(config.architectures or []) or kind
        raise ModelError(
            f"{name}: holds {architecture}, which is no decoder-only language model; "
            "choose one such as Llama, Qwen, Mistral, Gemma or GPT-NeoX"
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


def with_lora(model: Any, settings: LoraSettings, seed: int, trained_tokens: Sequence[int] = ()) -> Any:
    """The model with low-rank adapters; all else is frozen, but the rows of ``trained_tokens``.

    Args:
        model: causal language model.
        settings: rank, alpha, dropout and the layers' names.
        seed: of the adapters' first values; the caller's random state is left as it was.
        trained_tokens: ids whose embedding rows are trained as well (new slots know nothing yet).

    Raises:
        ConfigError: the model has none of the target modules.
    """
    from peft import LoraConfig, get_peft_model

    linear = {
        name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    targets = [name for name in settings.target_modules if name in linear]
    if not targets:
        raise ConfigError(
            f"lora.target_modules: the model has none of {', '.join(settings.target_modules)}; "
            f"its linear layers: {', '.join(sorted(linear))}"
        )
    config = cast(Any, LoraConfig)(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        trainable_token_indices=list(trained_tokens) or None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def choose_device(device: str | None = None) -> str:
    """The device asked for, else CUDA where there is one, else the CPU."""
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
