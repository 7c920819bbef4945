"""What a plan knows of a model before anybody has downloaded it: its configuration, never its weights.

Source: issue 3, point 10.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from llara_core.config import ModelSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.model.backbone import from_scratch_config
from llara_core.model.prompts import PromptEncoder, Template, resolve_template

# Ids a plan uses for what is no text; any will do, since no number is ever computed.
BEGIN, SLOT = 1, 2


@cache
def data_table(name: str) -> dict[str, Any]:
    """A YAML file of this package, e.g. ``gpus`` or ``known_models``."""
    text = (files("llara_core.training") / f"{name}.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


def model_config(settings: ModelSettings, file: Path | None = None) -> Any:
    """The transformers configuration of the model that the settings name; the network is not used.

    In this order: ``file``, a model from scratch, a local folder, the table of known models, the local cache
    of the hub. The slots of the template are counted into the vocabulary.

    Args:
        settings: of the model.
        file: a ``config.json``, for a model that is not here yet.

    Raises:
        ConfigError: the file is no configuration, or nothing is known of the model.
    """
    template = resolve_template(settings.template)
    if file is not None:
        config = _from_file(file)
    elif settings.from_scratch is not None:
        config = from_scratch_config(settings.from_scratch, settings.from_scratch.vocabulary_size)
    else:
        config = _of_base(str(settings.base))
    text = config.get_text_config()
    text.vocab_size += len(template.ebae_slots) + len(template.ebar_slots)
    config._attn_implementation = settings.attention if settings.attention in ("sdpa", "eager") else "sdpa"
    return config


def _of_base(base: str) -> Any:
    from transformers import AutoConfig

    folder = Path(base).expanduser()
    if (folder / "config.json").is_file():
        return _from_file(folder / "config.json")
    known = data_table("known_models")
    if base in known:
        values = dict(known[base])
        return AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        return AutoConfig.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError):
        raise ConfigError(
            f"model.base: {base!r} is neither a folder with config.json, nor in the hub's cache on this "
            f"machine, nor one of the models planned from a table ({', '.join(sorted(known))}); "
            "give its config.json with --model-config FILE"
        ) from None


def _from_file(file: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; expected a model's config.json") from None
    except (ValueError, KeyError, AttributeError, TypeError, StrictDataclassError) as error:
        raise ConfigError(
            f"{file}: not the config.json of a transformers model ({type(error).__name__}: {error})"
        ) from None


def build_model(config: Any, dtype: Any) -> Any:
    """The causal language model of a configuration; under ``FakeTensorMode`` it takes no memory.

    Raises:
        ModelError: the configuration is that of no causal language model.
    """
    from transformers import AutoModelForCausalLM

    try:
        maker: Any = AutoModelForCausalLM
        return maker.from_config(config, dtype=dtype)
    except ValueError as error:
        raise ModelError(
            f"{config.model_type!r} has no causal language model in transformers; choose a decoder such as "
            f"Llama, Qwen, Mistral, Gemma or GPT-NeoX ({str(error).splitlines()[0]})"
        ) from None


class PlanEncoder(PromptEncoder):
    """A prompt encoder without a tokenizer: texts are numbers in words, prompts have their usual length.

    The tokens of a prompt are counted with the model's tokenizer where it is at hand, else one for each word
    and each punctuation mark, and one for the beginning of the sequence.

    Args:
        settings: template, lengths and base.
    """

    def __init__(self, settings: ModelSettings) -> None:
        template = resolve_template(settings.template)
        tokenizer = _local_tokenizer(settings)
        self.template, self.tokenizer = template, tokenizer
        self.lengths = {"query": settings.query_length, "passage": settings.passage_length}
        # Written out in the recorded order: begin, words of the prompt, slots.
        self.prefix_ids = [BEGIN] * (1 + _tokens(template.prefix, tokenizer))
        self.ebae_slot_ids = [SLOT] * template.slots_per_prompt
        self.ebar_slot_ids = [SLOT] * template.slots_per_prompt
        self.ebae_suffix_ids = _suffix(template.ebae_suffix, template, tokenizer)
        self.ebar_suffix_ids = _suffix(template.ebar_suffix, template, tokenizer)
        self.special_ids = []
        self.pad_id = 0

    def text_ids(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """The numbers that the texts are written in, each text cut to ``max_length``."""
        return [[int(word) for word in text.split()[:max_length]] for text in texts]


def _suffix(words: str, template: Template, tokenizer: Any) -> list[int]:
    return [BEGIN] * _tokens(words, tokenizer) + [SLOT] * template.slots_per_prompt


def _tokens(words: str, tokenizer: Any) -> int:
    if tokenizer is not None:
        return len(tokenizer(words, add_special_tokens=False)["input_ids"]) if words else 0
    return len(re.findall(r"\w+|[^\w\s]", words))


def _local_tokenizer(settings: ModelSettings) -> Any:
    """The tokenizer, if the base is a folder that has one."""
    from transformers import AutoTokenizer

    folder = Path(settings.base or "").expanduser()
    if settings.base is None or not (folder / "tokenizer_config.json").is_file():
        return None
    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
