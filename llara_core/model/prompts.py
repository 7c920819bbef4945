"""Prompt templates as named, versioned data, and text → token ids.

A prompt is ``[begin-of-sequence] prefix text suffix slots``. Text stands first, so that one forward
pass can hold both prompts of a text (see ``joint_pass``). Every id is asked of the tokenizer.

The parts are tokenised apart and joined as ids, as the released code does it: truncation then cuts the
text only, and no token ever spans two parts. So a SentencePiece tokenizer, which puts a space before
whatever it is given, gives ``▁",`` after a text, and the space that stands before the slots is a token of
its own: exactly what the released checkpoints were trained on (tests/training/test_golden.py compares
whole batches with the released code's). A suffix that itself starts with a space is tokenised behind a
word instead, so that the space is there once, whatever the tokenizer adds.

Source: FlagEmbedding, research/LLARA; LLaRA (arXiv 2312.15503), section 3; issue 3, point 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from llara_core.config import TemplateSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.model.long_text import beginning
from llara_core.model.token_ids import begin_ids, forgeable_names, pad_id, part_ids, special_ids, suffix_ids
from llara_core.settings import nearest

Kind = Literal["query", "passage"]
Ids = list[list[int]]  # a row a text


@dataclass(frozen=True)
class Template:
    """How a text is laid out for the model.

    Args:
        name: what the template is called in settings and bundles.
        version: raised whenever the wording changes; ``content_hash`` tells two wordings apart in any case.
        prefix: words before the text, in both prompts.
        ebae_suffix: words after the text of the auto-encoding prompt (passages).
        ebar_suffix: words after the text of the next-passage prompt (queries).
        slots_per_prompt: number of slot positions that end each prompt, S.
        slot_kind: ``added``: slots are tokens of their own, added to the tokenizer;
            ``eos``: the single slot is the tokenizer's end-of-sequence token.
        pooling: how the S final hidden states become the embedding; ``mean`` is the only way
            (of one slot it is the last token's state).
        slot_name: name of an added slot token, ``{}`` standing for its number from 1 on.
    """

    name: str
    version: int
    prefix: str
    ebae_suffix: str
    ebar_suffix: str
    slots_per_prompt: int
    slot_kind: Literal["added", "eos"] = "added"
    pooling: Literal["mean"] = "mean"
    slot_name: str = "<s{}>"

    @property
    def ebae_slots(self) -> tuple[str, ...]:
        """Names of the added slot tokens of the auto-encoding prompt; empty for ``eos`` slots."""
        return self._slots(1)

    @property
    def ebar_slots(self) -> tuple[str, ...]:
        """Names of the added slot tokens of the next-passage prompt; empty for ``eos`` slots."""
        return self._slots(1 + self.slots_per_prompt)

    def _slots(self, first: int) -> tuple[str, ...]:
        if self.slot_kind == "eos":
            return ()
        numbers = range(first, first + self.slots_per_prompt)
        return tuple(self.slot_name.replace("{}", str(number)) for number in numbers)

    @property
    def content_hash(self) -> str:
        """SHA-256 over all that shapes a prompt, the name and version left out.

        Equal exactly when two templates lay a text out alike.
        """
        content = {key: value for key, value in asdict(self).items() if key not in {"name", "version"}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``llara.json``, ``content_hash`` among them."""
        return {**asdict(self), "content_hash": self.content_hash}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Template:
        """The template that ``to_dict`` described.

        Raises:
            ModelError: the values describe no template of this version of the library, or were changed
                since the model was trained with them.
        """
        plain = {key: value for key, value in values.items() if key != "content_hash"}
        try:
            template = cls(**plain)
        except TypeError as error:
            raise ModelError(
                f"llara.json: template cannot be read ({error}); write the bundle again"
            ) from None
        if values.get("content_hash", template.content_hash) != template.content_hash:
            raise ModelError(
                f"llara.json: template {template.name!r} is not the one that the model was made with (its "
                "content_hash differs): undo the change, or prepare a new bundle with the new wording"
            )
        return template


TEMPLATES = {
    template.name: template
    for template in (
        # The released code of LLaRA / Llama2Vec (FlagEmbedding, research/LLARA): what its checkpoints expect.
        Template(
            name="llama2vec",
            version=1,
            prefix='"',
            ebae_suffix='", summarize the above passage within eight words: ',
            ebar_suffix='", predict the following passage within eight words: ',
            slots_per_prompt=8,
        ),
        # The first paper (arXiv 2312.15503, section 3): the embedding is the state of the closing </s>.
        Template(
            name="llara",
            version=1,
            prefix="",
            ebae_suffix=" The original sentence: ",
            ebar_suffix=" The next sentence: ",
            slots_per_prompt=1,
            slot_kind="eos",
        ),
        # No words at all: a model from scratch knows none, and they would only cost time.
        Template(name="slots", version=1, prefix="", ebae_suffix="", ebar_suffix="", slots_per_prompt=1),
    )
}


def resolve_template(settings: str | TemplateSettings) -> Template:
    """The built-in template of that name, or the user's own.

    Raises:
        ConfigError: no built-in template has the name, or the user's takes the name of one.
    """
    if isinstance(settings, TemplateSettings):
        own = settings
        if own.name in TEMPLATES:
            raise ConfigError(
                f"model.template.name: {own.name!r} is the name of a built-in template; "
                "choose another name for your own"
            )
        return Template(
            name=own.name,
            version=own.version,
            prefix=own.prefix,
            ebae_suffix=own.ebae_suffix,
            ebar_suffix=own.ebar_suffix,
            slots_per_prompt=own.slots,
            slot_kind=own.slot_kind,
            slot_name=own.slot_name,
        )
    if settings not in TEMPLATES:
        raise ConfigError(
            f"model.template: no template is called {settings!r}{nearest(settings, list(TEMPLATES))}"
        )
    return TEMPLATES[settings]


def with_free_slots(template: Template, tokenizer: Any) -> Template:
    """The template, its slots renamed if the tokenizer has ordinary tokens of their names.

    Such a token has a meaning of its own, and any text may contain it. Names that are special added
    tokens already are taken for the slots themselves: a released checkpoint brings its own.

    Args:
        template: any template.
        tokenizer: of the model that the slots are about to be added to.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ordinary = set(tokenizer.get_vocab()) - special
    number = 0
    while ordinary.intersection((*template.ebae_slots, *template.ebar_slots)):
        number += 1
        template = replace(template, slot_name=f"<llara{'_' * number}{{}}>")
    return template


def clean(text: str) -> str:
    """The text with what no tokenizer can take replaced: lone surrogates become U+FFFD, NUL a space."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", " ")


class PromptEncoder:
    """Turns texts into the token ids of a prompt.

    Args:
        template: the layout.
        tokenizer: a Hugging Face tokenizer that knows the template's slot tokens.
        query_length: most tokens of text in a query; prompt and slots come on top.
        passage_length: most tokens of text in a passage.

    Raises:
        ModelError: the tokenizer lacks a slot token, or its end-of-sequence token where that is the slot.
    """

    def __init__(self, template: Template, tokenizer: Any, query_length: int, passage_length: int) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.lengths = {"query": query_length, "passage": passage_length}
        self.prefix_ids = begin_ids(tokenizer) + part_ids(tokenizer, template.prefix)
        self.ebae_slot_ids = _slot_ids(tokenizer, template, template.ebae_slots)
        self.ebar_slot_ids = _slot_ids(tokenizer, template, template.ebar_slots)
        self.ebae_suffix_ids = suffix_ids(tokenizer, template.ebae_suffix) + self.ebae_slot_ids
        self.ebar_suffix_ids = suffix_ids(tokenizer, template.ebar_suffix) + self.ebar_slot_ids
        self.special_ids = special_ids(tokenizer)
        self.pad_id = pad_id(tokenizer)
        self.forgeable = forgeable_names(tokenizer)

    def suffix_ids(self, kind: Kind) -> list[int]:
        """Suffix and slots that follow the text: EBAR for a query, EBAE for a passage."""
        return self.ebar_suffix_ids if kind == "query" else self.ebae_suffix_ids

    def text_ids(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids of the texts alone, each cut to ``max_length`` tokens.

        Names of special tokens inside a text are ordinary characters: text must not forge a slot.
        """
        if not texts:
            return []
        # Some tokenizers cut at the left; a text always keeps its beginning here.
        truncate = max_length is not None and getattr(self.tokenizer, "truncation_side", "right") == "right"
        if max_length is not None:
            texts = [beginning(text, max_length, self._ids) for text in texts]
        ids = self._ids(texts, max_length if truncate else None)
        return ids if truncate else [row[:max_length] for row in ids]

    def _ids(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(
            [self._harmless(text) for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            truncation=max_length is not None,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return ids

    def _harmless(self, text: str) -> str:
        text = clean(text)
        for name in self.forgeable:
            text = text.replace(name, f"{name[0]} {name[1:]}")
        return text

    def encode_batch(self, texts: Sequence[str], kind: Kind, max_length: int | None = None) -> Ids:
        """Token ids of whole prompts, without padding; the last S ids are the slots.

        Args:
            texts: N texts; an empty one gives the bare prompt.
            kind: ``query`` or ``passage``.
            max_length: most tokens of text; None: the encoder's own for the kind.
        """
        return self.encode_counted(texts, kind, max_length)[0]

    def encode_counted(self, texts: Sequence[str], kind: Kind, most: int | None = None) -> tuple[Ids, int]:
        """``encode_batch``'s rows, and how many of the texts were cut."""
        rows, cut = self.encode_marked(texts, kind, most)
        return rows, sum(cut)

    def encode_marked(
        self, texts: Sequence[str], kind: Kind, most: int | None = None
    ) -> tuple[Ids, list[bool]]:
        """``encode_batch``'s rows, and of each text whether it was cut."""
        suffix, most = self.suffix_ids(kind), most or self.lengths[kind]
        rows = self.text_ids(texts, most + 1)  # one more token than is kept tells whether there was one
        cut = [len(row) > most for row in rows]
        return [[*self.prefix_ids, *row[:most], *suffix] for row in rows], cut


def _slot_ids(tokenizer: Any, template: Template, names: Sequence[str]) -> list[int]:
    if template.slot_kind == "eos":
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"template {template.name!r} reads the end-of-sequence token, and the tokenizer has none; "
                "choose a template with slots of its own, e.g. llama2vec"
            )
        return [int(tokenizer.eos_token_id)]
    vocabulary = tokenizer.get_added_vocab()
    missing = [name for name in names if name not in vocabulary]
    if missing:
        raise ModelError(
            f"the tokenizer lacks the slot tokens {', '.join(missing)} of template {template.name!r}; "
            "prepare the model first (llara_core.model.prepare.prepare_base adds them)"
        )
    return [int(vocabulary[name]) for name in names]
