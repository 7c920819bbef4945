"""Prompt templates as named, versioned data, and text → token ids.

A prompt is ``[begin-of-sequence] prefix text suffix slots``. Text stands first, so that one forward
pass can hold both prompts of a text (see ``joint_pass``). The parts are tokenised apart and joined as
ids: truncation then cuts the text only, and no token ever spans two parts. Every id is asked of the
tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llara_core.config import TemplateSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.settings import nearest

Kind = Literal["query", "passage"]


@dataclass(frozen=True)
class Template:
    """How a text is laid out for the model.

    Args:
        name: what the template is called in settings and bundles.
        version: raised whenever the wording changes: vectors of two versions do not mix.
        prefix: words before the text, in both prompts.
        ebae_suffix: words after the text of the auto-encoding prompt (passages).
        ebar_suffix: words after the text of the next-passage prompt (queries).
        slots_per_prompt: number of slot positions that end each prompt, S.
        slot_kind: ``added``: slots are tokens of their own, added to the tokenizer;
            ``eos``: the single slot is the tokenizer's end-of-sequence token.
        pooling: how the S final hidden states become the embedding; ``mean`` is the only way
            (of one slot it is the last token's state).
    """

    name: str
    version: int
    prefix: str
    ebae_suffix: str
    ebar_suffix: str
    slots_per_prompt: int
    slot_kind: Literal["added", "eos"] = "added"
    pooling: Literal["mean"] = "mean"

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
        return tuple(f"<s{number}>" for number in range(first, first + self.slots_per_prompt))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``llara.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Template:
        """The template that ``to_dict`` described.

        Raises:
            ModelError: the values describe no template of this version of the library.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(
                f"llara.json: template cannot be read ({error}); write the bundle again"
            ) from None


TEMPLATES = {
    template.name: template
    for template in (
        # The released code of LLaRA / Llama2Vec (FlagEmbedding, research/LLARA): what its checkpoints expect.
        Template(
            name="llama2vec",
            version=1,
            prefix='"',
            ebae_suffix='", summarize the above passage within eight words:',
            ebar_suffix='", predict the following passage within eight words:',
            slots_per_prompt=8,
        ),
        # The first paper (arXiv 2312.15503, section 3): the embedding is the state of the closing </s>.
        Template(
            name="llara",
            version=1,
            prefix="",
            ebae_suffix=" The original sentence:",
            ebar_suffix=" The next sentence:",
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
        if settings.name in TEMPLATES and settings.name != "slots":
            raise ConfigError(
                f"model.template.name: {settings.name!r} is the name of a built-in template; "
                "choose another name for your own"
            )
        return Template(
            settings.name, 1, settings.prefix, settings.ebae_suffix, settings.ebar_suffix, settings.slots
        )
    if settings not in TEMPLATES:
        raise ConfigError(
            f"model.template: no template is called {settings!r}{nearest(settings, list(TEMPLATES))}"
        )
    return TEMPLATES[settings]


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
        self.prefix_ids = _begin_ids(tokenizer) + _part_ids(tokenizer, template.prefix)
        self.ebae_slot_ids = _slot_ids(tokenizer, template, template.ebae_slots)
        self.ebar_slot_ids = _slot_ids(tokenizer, template, template.ebar_slots)
        self.ebae_suffix_ids = _part_ids(tokenizer, template.ebae_suffix) + self.ebae_slot_ids
        self.ebar_suffix_ids = _part_ids(tokenizer, template.ebar_suffix) + self.ebar_slot_ids
        self.special_ids = special_ids(tokenizer)
        self.pad_id = pad_id(tokenizer)

    def suffix_ids(self, kind: Kind) -> list[int]:
        """Suffix and slots that follow the text: EBAR for a query, EBAE for a passage."""
        return self.ebar_suffix_ids if kind == "query" else self.ebae_suffix_ids

    def text_ids(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids of the texts alone, each cut to ``max_length`` tokens.

        Names of special tokens inside a text are ordinary characters: text must not forge a slot.
        """
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            [clean(text) for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            truncation=max_length is not None,
            max_length=max_length,
            verbose=False,
        )["input_ids"]
        return ids

    def encode_batch(
        self, texts: Sequence[str], kind: Kind, max_length: int | None = None
    ) -> list[list[int]]:
        """Token ids of whole prompts, without padding; the last S ids are the slots.

        Args:
            texts: N texts; an empty one gives the bare prompt.
            kind: ``query`` or ``passage``.
            max_length: most tokens of text; None: the encoder's own for the kind.
        """
        suffix = self.suffix_ids(kind)
        rows = self.text_ids(texts, max_length or self.lengths[kind])
        return [[*self.prefix_ids, *row, *suffix] for row in rows]


def special_ids(tokenizer: Any) -> list[int]:
    """Ids that are no words: the tokenizer's special tokens and every added token marked special."""
    added = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    return sorted({*tokenizer.all_special_ids, *added})


def pad_id(tokenizer: Any) -> int:
    """An id to fill padding with; masks hide it, so any id will do where the tokenizer names none."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def _begin_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text (a begin-of-sequence token, or nothing)."""
    whole: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def _part_ids(tokenizer: Any, words: str) -> list[int]:
    ids: list[int] = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    return ids


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
