"""A tokenizer trained on the texts at hand, for models from scratch.

Byte-level byte-pair encoding: no word is ever unknown. For code, identifiers are split at ``_`` and at
camelCase first, so that ``getHTTPServer`` and ``get_http_server`` share their words with plain English.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from llara_core.config import FromScratchSettings
from llara_core.model.prompts import clean

PAD, BEGIN, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
# A boundary before the capital of "fooBar" and before the last capital of "HTTPServer".
_CAMEL_CASE = r"(?<=[\p{Ll}\p{N}])(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})"
# Words, numbers of up to three digits and runs of other characters; white space separates and is dropped.
_WORDS, _WORDS_WITH_UNDERSCORE = r"[\p{L}\p{M}]+|\p{N}{1,3}", r"[\p{L}\p{M}_]+|\p{N}{1,3}"
_PUNCTUATION = r"|[^\s\p{L}\p{M}\p{N}_]+"


def train_tokenizer(settings: FromScratchSettings, texts: Iterable[str]) -> Any:
    """A fast tokenizer with at most ``settings.vocabulary_size`` tokens, deterministic in the texts.

    Args:
        settings: vocabulary size, lower-casing and identifier splitting.
        texts: what it learns its words from.

    Returns:
        ``PreTrainedTokenizerFast`` with pad, begin, end and unknown tokens; it adds none by itself.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    steps: list[Any] = [normalizers.NFC()]
    if settings.split_identifiers:
        # Normalizers run before pre-tokenizers, so camelCase must be split here, before it is lower-cased.
        steps.append(normalizers.Replace(Regex(_CAMEL_CASE), " "))
    if settings.lowercase:
        steps.append(normalizers.Lowercase())
    words = _WORDS if settings.split_identifiers else _WORDS_WITH_UNDERSCORE
    words += _PUNCTUATION if settings.keep_punctuation else ""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary_size,
        special_tokens=[PAD, BEGIN, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # every byte, so that nothing is unknown
        show_progress=False,
    )
    tokenizer.train_from_iterator((clean(text) for text in texts), trainer)
    return cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
