"""Tokenizers of several kinds, trained on a few words: what a model may bring, without a download."""

from __future__ import annotations

from typing import Any

WORDS = [
    "the harbour opens at dawn and closes when the last ship is in",
    "return the sum of two numbers, or 0 where there are none",
    "summarize the above passage within eight words",
    "predict the following passage within eight words: The original sentence: The next sentence:",
    "Zusammenfassung: große Wörter übersetzen",
    "要約 文章 次の文",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def byte_level(**changes: Any) -> Any:
    """Byte-level BPE as GPT-2 and its heirs have it: no word is unknown, no token before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(WORDS, trainer)
    return wrapped(tokenizer, **changes)


def with_begin(**changes: Any) -> Any:
    """Byte-level BPE that puts a begin-of-sequence token before every text, as Llama 3 does."""
    from tokenizers import processors

    tokenizer = byte_level(**changes)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def unigram(**changes: Any) -> Any:
    """Unigram with SentencePiece's spaces (T5, XGLM): a space is put before whatever is tokenised."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return wrapped(tokenizer, **changes)


def word_piece(**changes: Any) -> Any:
    """WordPiece that lower-cases and drops white space."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    return wrapped(tokenizer, **changes)


def wrapped(tokenizer: Any, **changes: Any) -> Any:
    """As transformers hands it over; a special token set to None is left out."""
    from transformers import PreTrainedTokenizerFast

    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **changes}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{key: value for key, value in named.items() if value is not None},
    )


KINDS = {"byte-level": byte_level, "with begin": with_begin, "unigram": unigram, "word piece": word_piece}
