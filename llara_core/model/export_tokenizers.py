"""Prompts as data: a tokenizer file that lays a text out as ``prompts.PromptEncoder`` does.

What other libraries load is a ``tokenizer.json``, and it can say all that a prompt is:

1. normalizers replace NUL, and the names of special tokens that a text could forge;
2. a post-processor puts prefix, suffix and slots around the text, by id, so that nothing is tokenised again;
3. truncation counts what the post-processor adds, so it cuts the text alone and never a slot.

One file is one kind of text, because queries and passages end in different words and slots. What no file
can say is lone surrogates, which no tokenizer takes, and that special tokens in a text are ordinary words:
loaders must be told (``split_special_tokens``, ``encode_special_tokens``). Source: issue 7, point 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llara_core.errors import ModelError
from llara_core.model.prompts import Kind, PromptEncoder

KINDS: tuple[Kind, ...] = ("query", "passage")
_PREFIX, _SUFFIX = "prefix", "suffix"

Ids = Sequence[Sequence[int]]


def prompt_length(encoder: PromptEncoder, kind: Kind) -> int:
    """Most tokens of a whole prompt: text, prefix, suffix and slots."""
    return len(encoder.prefix_ids) + encoder.lengths[kind] + len(encoder.suffix_ids(kind))


def prompt_facts(encoder: PromptEncoder) -> dict[str, Any]:
    """Ids that stand around a text: ``prefix``, ``query_suffix``, ``passage_suffix``; slots end a suffix."""
    return {
        "prefix": list(encoder.prefix_ids),
        "query_suffix": list(encoder.suffix_ids("query")),
        "passage_suffix": list(encoder.suffix_ids("passage")),
    }


def prompt_tokenizer(encoder: PromptEncoder, kind: Kind) -> Any:
    """A ``tokenizers.Tokenizer`` whose encoding of a text is the whole prompt; neither cuts nor pads yet.

    Args:
        encoder: of the bundle.
        kind: ``query`` or ``passage``.

    Raises:
        ModelError: the tokenizer is written in Python, so there is no file that says what it does.
    """
    from tokenizers import Tokenizer, normalizers, processors

    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer ({type(encoder.tokenizer).__name__}) has no tokenizer.json, which this target "
            "needs; convert it with transformers and write the bundle again, or use --to merged"
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    harmless = [("\0", " "), *((name, f"{name[0]} {name[1:]}") for name in encoder.forgeable)]
    steps: list[Any] = [normalizers.Replace(old, new) for old, new in harmless]
    if tokenizer.normalizer is not None:
        steps.append(tokenizer.normalizer)
    tokenizer.normalizer = normalizers.Sequence(steps)
    around = {_PREFIX: encoder.prefix_ids, _SUFFIX: encoder.suffix_ids(kind)}
    around = {name: ids for name, ids in around.items() if ids}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*([_PREFIX] if _PREFIX in around else []), "$A", _SUFFIX],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": encoder.tokenizer.convert_ids_to_tokens(ids)}
            for name, ids in around.items()
        ],
    )
    return tokenizer


def probes(encoder: PromptEncoder, kind: Kind) -> list[str]:
    """Texts in which a wrong layout shows: empty, cut, odd characters, forged slots, white space."""
    template = encoder.template
    names = [*template.ebae_slots, *template.ebar_slots, *encoder.forgeable]
    special = [token.content for token in encoder.tokenizer.added_tokens_decoder.values() if token.special]
    words = "The quick brown fox, def parse_json(path): 12,345 naïve Größe 東京 👩‍🚀 "
    return [
        "",
        " ",
        "a",
        " leading and trailing ",
        "line\nbreak\ttab\r\n\n  two  spaces",
        "e\u0301 \u00e9 \ufb01 \u0000 nul \u200b zero width \u202e turned",
        " ".join(names),
        "".join(special),
        words,
        words * (1 + encoder.lengths[kind] // 8),
        "x" * (4 * encoder.lengths[kind]),
    ]


def check_prompts(encoder: PromptEncoder, kind: Kind, encode: Callable[[list[str]], Ids], what: str) -> None:
    """Compare what was written with what the bundle computes, id by id.

    Args:
        encoder: of the bundle.
        kind: ``query`` or ``passage``.
        encode: texts → ids of whole prompts, without padding, by the tokenizer that was written.
        what: to call it in the message.

    Raises:
        ModelError: a text got other ids; shows the first.
    """
    texts = probes(encoder, kind)
    expected = encoder.encode_batch(texts, kind)
    for text, ids, wanted in zip(texts, encode(texts), expected, strict=True):
        if list(ids) != wanted:
            raise ModelError(
                f"{what}: the {kind} {text[:40]!r} gets the ids {list(ids)[:12]}… ({len(ids)} of them), "
                f"expected {wanted[:12]}… ({len(wanted)}): this kind of tokenizer cannot be exported so; "
                "use --to merged and encode with llara_core"
            )
