"""Settings of ingestion, duplicates and leaks: what is done with a row that breaks a rule.

They stand apart from ``config``, which takes them in, so that the data room can be used alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from llara_core.settings import Settings

STOP_SHARE = 0.01  # of the rows of a file may break a rule before the collection is refused


class RulePolicy(Settings):
    """What happens to rows that break one rule.

    Args:
        action: ``quarantine`` puts the row aside, ``flag`` takes it and writes it down.
        stop_above: below 1 a share of the rows that a file has, from 1 on a number of rows; more than
            that and the collection is refused. 0 refuses at the first row, None never refuses.
    """

    action: Literal["quarantine", "flag"] = "quarantine"
    stop_above: float | None = Field(STOP_SHARE, ge=0.0)


_ASIDE = RulePolicy()
_WARNED = RulePolicy(action="flag", stop_above=None)

# Flagged is what published collections hold: SciFact has U+FFFD in 6 documents and two stray C1 bytes,
# Cranfield has two empty documents. These must come in whole, or their scores are no longer comparable.
POLICIES: Mapping[str, RulePolicy] = {
    # of reading: the row could not be taken apart
    "valid_utf8": _ASIDE,
    "valid_json": _ASIDE,
    "json_object": _ASIDE,
    "row_length": _ASIDE,
    "readable": RulePolicy(stop_above=0),  # a file that breaks off holds rows that nobody has seen
    "has_id": _ASIDE,
    "has_text": _ASIDE,
    "columns": _ASIDE,
    "qrels_columns": _ASIDE,
    "grades_in_range": _ASIDE,
    # of ids
    "non_empty_ids": _ASIDE,
    "unique_ids": _ASIDE,
    "known_query": _ASIDE,
    "known_document": _ASIDE,
    "unique_judgements": _WARNED,
    # of texts
    "query_text": _ASIDE,
    "passage_text": RulePolicy(action="flag"),
    "text_length": _ASIDE,
    "control_characters": _ASIDE,
    "bidi_controls": _ASIDE,
    "html_debris": _ASIDE,
    "base64_debris": _ASIDE,
    "replacement_characters": _WARNED,
    "mojibake": _WARNED,
    "duplicate_text": _WARNED,
}


class IngestSettings(Settings):
    """How rows are judged on their way in (issue 5, point 3).

    Args:
        rules: policies of single rules, over ``POLICIES``; a rule of a reader that stands nowhere is put
            aside and stops above one row in a hundred.
        stop_above: share of a file's rows, or from 1 on number of rows, that may be put aside in all.
        longest_text: characters of a passage; a longer one is a file read wrongly, not a text.
        longest_query: the same of a query.
        mojibake: ``flag`` writes rows of wrongly decoded text down, ``repair`` mends them by ``ftfy``.
        html_share: from this share of a text's characters in HTML tags and entities on it is debris.
        base64_share: the same of characters in long runs of base64.
        duplicate_texts: look for documents that have the same title and text; 16 bytes a document.
        repaired: edited file of ``llara data repair``; its rows stand for those of the source.
    """

    rules: Mapping[str, RulePolicy] = Field(default_factory=dict)
    stop_above: float | None = Field(STOP_SHARE, ge=0.0)
    longest_text: PositiveInt = 1_000_000
    longest_query: PositiveInt = 100_000
    mojibake: Literal["flag", "repair"] = "flag"
    html_share: float = Field(0.4, gt=0.0, le=1.0)
    base64_share: float = Field(0.5, gt=0.0, le=1.0)
    duplicate_texts: bool = True
    repaired: str | None = None

    @field_validator("rules")
    @classmethod
    def _known_rules(cls, rules: Mapping[str, RulePolicy]) -> Mapping[str, RulePolicy]:
        for name in rules:
            if name not in POLICIES:
                close = difflib.get_close_matches(name, POLICIES, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(POLICIES))}"
                raise ValueError(f"unknown rule {name!r}; {hint}")
        return rules

    def policy(self, rule: str) -> RulePolicy:
        """What happens to a row that breaks ``rule``."""
        return self.rules.get(rule) or POLICIES.get(rule) or _ASIDE


class DuplicateSettings(Settings):
    """Which documents count as the same, and what happens to the repeats (issue 5, point 5).

    Args:
        policy: ``mark`` only reports; ``keep_first`` leaves the first document of a cluster,
            ``keep_longest`` the longest; judgements of the others then name the one that is left.
        near: look for near-duplicates too; false leaves it at texts that are equal but for case,
            punctuation, white space and Unicode form.
        threshold: Jaccard similarity of word n-grams from which on two texts are near-duplicates.
        ngram: words of an n-gram; Chinese, Japanese and Thai count by character.
    """

    policy: Literal["mark", "keep_first", "keep_longest"] = "mark"
    near: bool = True
    threshold: float = Field(0.8, ge=0.4, le=1.0)  # below 0.4 banding would compare nearly all with all
    ngram: PositiveInt = 3


class LeakSettings(Settings):
    """What training must not show of the evaluation, and what happens where it does (issue 5, point 5).

    Args:
        action: ``mark`` reports and leaves all as it is; ``drop`` takes what leaks out of training, never
            out of the evaluation; ``stop`` refuses the collection.
        stop_above: share of the evaluation queries that may leak before ``stop`` stops.
        ngram: as many words in a row, shared with an evaluation query, are a leak by themselves.
        coverage: a shorter query leaks where this share of its words is found in place and in order.
        minimum_words: a query needs as many words to be looked for inside other text, and as many of them
            must be found; whole texts are compared at any length.
        near_query: word-set Jaccard similarity above which two queries say much the same.
        queries: look for evaluation queries among training queries and inside the training passages.
        documents: look for relevant passages of evaluation queries among the training passages.
        adaptation: look for evaluation queries inside the text of adaptation.
    """

    action: Literal["mark", "drop", "stop"] = "mark"
    stop_above: float = Field(0.0, ge=0.0, le=1.0)
    ngram: int = Field(13, ge=3)  # Brown et al., arXiv 2005.14165, appendix C
    coverage: float = Field(0.65, gt=0.0, le=1.0)
    minimum_words: int = Field(5, ge=3)
    near_query: float = Field(0.7, ge=0.0, lt=1.0)
    queries: bool = True
    documents: bool = True
    adaptation: bool = True


class PassageSettings(Settings):
    """How long documents are cut into passages (issue 5, point 6); see ``data.passages``.

    Args:
        tokens: tokens of a passage at most, its title and a repeated table header counted; words where
            there is no tokenizer. Special tokens and the prompt's are not counted: leave room for them.
        overlap: tokens at most, in whole sentences, that a passage repeats of the one before it.
        repeat_headers: put a table's header row before its rows in every later passage.
        tokenizer: Hugging Face folder or id of the tokenizer that counts, best the model's; None: words.
    """

    tokens: int = Field(256, ge=8)  # a character may be 4 tokens, and a passage must move on
    overlap: int = Field(0, ge=0)
    repeat_headers: bool = True
    tokenizer: str | None = None

    @field_validator("overlap")
    @classmethod
    def _moves_on(cls, overlap: int, info: ValidationInfo) -> int:
        tokens = info.data.get("tokens")
        if tokens is not None and overlap > tokens // 2:
            raise ValueError(f"at most half of tokens ({tokens}) may be repeated")
        return overlap
