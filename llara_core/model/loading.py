"""A decoder-only language model from a folder or a hub: whole, or with its weights in 4 bits."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from pathlib import Path
from typing import Any, Literal, cast

import torch

from llara_core.config import ModelSettings
from llara_core.errors import MissingDependencyError, ModelError
from llara_core.network import answers

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Seconds to wait for a hub to answer at all; its own client tries for half a minute, file by file.
HUB_TIMEOUT = 5.0
_BLOCK = 64  # weights of 4 bits that share a scale
# While transformers loads a model it sets things of the whole process, torch's default dtype and initialisers
# among them. Two loads at once put them back in the wrong order, and miss weights.
_loading = threading.Lock()


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
    if local or not _hub_answers():
        arguments["local_files_only"] = True  # of a hub id: what an earlier download left in the cache
    return load_causal_model(
        name, dtype=DTYPES[settings.dtype], attention=settings.attention, device=device, **arguments
    )


def load_causal_model(
    name: str,
    *,
    dtype: torch.dtype,
    attention: str,
    device: str | None = None,
    quantization: Literal["none", "nf4"] = "none",
    **arguments: Any,
) -> tuple[Any, Any]:
    """A causal language model and its tokenizer from a folder or id.

    Args:
        name: what ``from_pretrained`` takes.
        dtype: of the weights; with ``nf4`` of those that stay whole and of the arithmetic.
        attention: attention kernel, e.g. ``sdpa``.
        device: where the model goes; None: the CPU.
        quantization: ``nf4``: linear layers but the output head in 4 bits, frozen (QLoRA,
            arXiv 2305.14314, section 3).
        arguments: passed on to every ``from_pretrained``.

    Raises:
        ModelError: it cannot be loaded, is no decoder, lacks weights, or cannot be held in 4 bits here.
        MissingDependencyError: ``nf4`` without bitsandbytes.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        check_decoder(AutoConfig.from_pretrained(name, **arguments), name)
        tokenizer = AutoTokenizer.from_pretrained(name, **arguments)
    except (OSError, ValueError) as error:
        raise ModelError(_why_not(name, attention, error)) from error
    four_bits = _four_bits(dtype, device) if quantization == "nf4" else {}
    model = load_weights(name, dtype=dtype, attention=attention, **four_bits, **arguments)
    if four_bits:
        _settle_four_bits(model, name)
        return model, tokenizer
    return model.to(device) if device else model, tokenizer


def load_weights(name: str, *, dtype: torch.dtype, attention: str, **arguments: Any) -> Any:
    """A causal language model on the CPU, without a tokenizer.

    Args:
        name: what ``from_pretrained`` takes.
        dtype: of the weights.
        attention: attention kernel, e.g. ``sdpa``.
        arguments: passed on to ``from_pretrained``.

    Raises:
        ModelError: it cannot be loaded or lacks weights.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        with _loading:
            model, info = cast(Any, AutoModelForCausalLM).from_pretrained(
                name,
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                use_safetensors=True,  # never a pickle, not even by the careful unpickler
                **arguments,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(_why_not(name, attention, error)) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: the weights lack {len(missing)} tensors of the model, first {missing[0]!r}; "
            "the folder is incomplete, or not the causal language model itself"
        )
    return model


def check_decoder(config: Any, name: str) -> None:
    """Refuse what is no decoder-only language model.

    Args:
        config: of the model.
        name: what to call it in the message.

    Raises:
        ModelError: an encoder, an encoder-decoder, or no causal language model of transformers.
    """
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


def _four_bits(dtype: torch.dtype, device: str | None) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that load linear layers in 4-bit NormalFloat."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            "lora.quantization: nf4 needs bitsandbytes, which is not installed; "
            "run `pip install 'llara[gpu]'`, or set lora.quantization: none"
        )
    from transformers import BitsAndBytesConfig

    config = cast(Any, BitsAndBytesConfig)(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    # A quantised model cannot be moved, so it is loaded where it stays: on this process's own device.
    place: str | int = torch.cuda.current_device() if device == "cuda" else device or "cpu"
    return {"quantization_config": config, "device_map": {"": place}}


def _settle_four_bits(model: Any, name: str) -> None:
    """What bitsandbytes 0.50 gets wrong on a processor, and says nothing.

    Blocks of widths that are no multiple of 64 are mixed up. A pass in evaluation mode packs the weights
    for good, and no gradient comes through packed ones.
    """
    if model.device.type != "cpu":
        return
    for layer, module in model.named_modules():
        if type(module).__name__ != "Linear4bit":
            continue
        module.support_avx512bf16_for_cpu = False  # never pack
        width = module.in_features
        if width % _BLOCK:
            raise ModelError(
                f"{name}: {layer} takes {width} values, and on a processor 4 bits come out right only for "
                f"multiples of {_BLOCK}; set lora.quantization: none, or use a GPU"
            )


def _why_not(name: str, attention: str, error: Exception) -> str:
    if "does not support an attention implementation" in str(error):
        return (
            f"{name}: this kind of model cannot run with attention {attention!r}; set model.attention: eager"
        )
    if not Path(name).exists() and _offline(error):
        return (
            f"{name}: no such folder, and no model hub can be reached to look for it there ({_endpoint()}). "
            f"{_DOWNLOAD.format(name=name, folder=Path(name).name)}"
        )
    if "tiktoken" in str(error) and any(Path(name).glob("*.model")):
        return (
            f"{name}: has a SentencePiece tokenizer (*.model) and no tokenizer.json; run "
            "`pip install sentencepiece`, or add the tokenizer.json that the model is published with"
        )
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    expected = (
        f"{name}: cannot be loaded as a decoder ({first_line}); expected a Hugging Face folder with "
        "config.json, *.safetensors and tokenizer files"
    )
    if Path(name).exists():
        return expected
    return f"{expected}. Where there is no hub: {_DOWNLOAD.format(name=name, folder=Path(name).name)}"


_DOWNLOAD = (
    "On a connected machine run `hf download {name} --local-dir models/{folder}`, copy that folder here and "
    "set model.base: models/{folder} (or give --base models/{folder})"
)


def _offline(error: BaseException) -> bool:
    """Whether a loading error means that nothing was cached and the hub was not asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        cause = cause.__cause__ or cause.__context__
    return not _hub_answers()


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _hub_answers() -> bool:
    """Whether the hub (``HF_ENDPOINT``) takes connections; true where a proxy stands before it."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    endpoint = _endpoint()
    if answers(endpoint, HUB_TIMEOUT):
        return True
    logger.info("no model hub at %s: looking for the model in the local cache only", endpoint)
    return False


def no_weights(folder: Path) -> str:
    """What is missing of a model folder without safetensors, and what to do."""
    pickled = next((path.name for path in sorted(folder.glob("*.bin"))), None)
    if pickled is None:
        return "config.json but no weights (*.safetensors); download the folder completely"
    return (
        f"its weights are pickled ({pickled}), and a pickle can run any code when it is loaded; take the "
        "safetensors of that model, or convert them on a machine that may run it: load the folder with "
        "transformers' AutoModelForCausalLM and save_pretrained it"
    )


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
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{base}: {no_weights(folder)}")
    return str(folder), True
