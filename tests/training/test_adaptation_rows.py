"""Spans and targets of adaptation batches, by hand on numbered tokens."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from llara_core.config import AdaptSettings
from llara_core.errors import ConfigError, TrainingError
from llara_core.training import adaptation_targets
from llara_core.training.adaptation_rows import AdaptationBatches
from llara_core.training.adaptation_targets import TargetRule, TokenRows

# Token 100 + i stands at place i of the text, 200 + i at place i of the passage that follows it.
TEXT, FOLLOWING = list(range(100, 140)), list(range(200, 230))
ENCODER = SimpleNamespace(
    prefix_ids=[], ebae_suffix_ids=[1], ebar_suffix_ids=[2], pad_id=0,
    template=SimpleNamespace(slots_per_prompt=1),
)  # fmt: skip


def batches(texts=(TEXT,), following=(FOLLOWING,), **changed) -> AdaptationBatches:
    settings = AdaptSettings(**{"steps": 20, "batch_size": 1, "text_length": 8, **changed})
    rule = TargetRule(np.arange(300) < 3)
    return AdaptationBatches(
        TokenRows.pack(texts), TokenRows.pack(following), ENCODER, rule, settings, seed=0
    )


def parts(micro_batches) -> tuple[list[int], list[int], list[int]]:
    """Tokens of the text in the input, EBAE targets, EBAR targets."""
    (batch,) = micro_batches
    ids = batch["input_ids"][0].tolist()
    return [one for one in ids if one >= 100], batch["ebae_ids"].tolist(), batch["ebar_ids"].tolist()


def test_without_spans_the_start_of_the_text_foretells_the_next_passage() -> None:
    assert parts(batches().part(0)) == (TEXT[:8], TEXT[:8], FOLLOWING[:8])


def test_targets_may_reach_further_than_what_is_read() -> None:
    assert parts(batches(target_length=12).part(0)) == (TEXT[:8], TEXT[:12], FOLLOWING[:12])
    with pytest.raises(ConfigError, match="leave out minimum_span"):
        AdaptSettings.parse({"target_length": 12, "minimum_span": 4}, "adapt")


def test_a_span_foretells_as_much_as_it_holds() -> None:
    seen = set()
    for step in range(20):
        span, own, after = parts(batches(minimum_span=4).part(step))
        start, size = span[0] - 100, len(span)
        assert 4 <= size <= 8 and span == own == TEXT[start : start + size]
        assert after == (TEXT + FOLLOWING)[start + size : start + 2 * size]
        seen.add((start, size))
    assert len(seen) > 5


def test_around_a_span_is_what_stands_on_both_sides() -> None:
    for step in range(20):
        span, own, around = parts(batches(minimum_span=4, ebar_target="around").part(step))
        start, size = span[0] - 100, len(span)
        assert own == span
        assert around == TEXT[max(0, start - 8) : start + size + 8]


def test_around_a_whole_text_is_the_next_passage() -> None:
    one = batches(texts=(TEXT[:6],), minimum_span=6, ebar_target="around")
    assert parts(one.part(0)) == (TEXT[:6], TEXT[:6], FOLLOWING[:6])


def test_around_without_spans_is_refused() -> None:
    with pytest.raises(ConfigError, match="set minimum_span"):
        AdaptSettings.parse({"ebar_target": "around"}, "adapt")


def test_no_text_at_all() -> None:
    with pytest.raises(TrainingError, match="every row is empty"):
        batches(texts=([],), following=([],))


def test_tokenising_piece_by_piece_is_tokenising_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation_targets, "TEXTS_AT_ONCE", 3)
    texts = ["", "ab", "c", "", "def", "g", ""]
    sizes = []

    def tokenise(some):
        sizes.append(len(some))
        return [[ord(letter) for letter in text] for text in some]

    rows = TokenRows.tokenised(texts, tokenise)
    assert sizes == [3, 3, 1]
    assert [bytes(rows.row(index).tolist()).decode() for index in range(len(rows))] == texts
    assert len(TokenRows.tokenised([], tokenise)) == 0
    whole = TokenRows.pack([[ord(letter) for letter in text] for text in [*texts, "gab"]])
    assert adaptation_targets.document_frequency(whole, 110)[[97, 98, 99, 103]].tolist() == [2, 2, 1, 2]


def test_rows_with_targets_are_counted_without_making_them() -> None:
    weights = np.ones(10, dtype=np.float32)
    weights[7] = 0.0
    rows = [np.array(row, dtype=np.int64) for row in ([3, 3, 0], [0], [7], [], [7, 4])]
    for rule in (TargetRule(np.arange(10) < 3), TargetRule(np.arange(10) < 3, token_weights=weights)):
        assert rule.count(rows) == len(np.unique(rule.targets(rows)[0]))
