"""What the published code computes: from the copy in the package, and from the larger folders where they lie.

The larger one also holds texts: prompts, truncation and targets are compared from the text on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llara_core.config import AdaptSettings
from llara_core.golden_values import GOLDEN, Golden
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import TEXT, JointLayout, joint_hidden_states, joint_layout, joint_positions
from llara_core.model.prompts import TEMPLATES, PromptEncoder
from llara_core.selftest import self_test
from llara_core.training.adaptation_targets import TargetRule
from llara_core.training.objectives import AdaptationObjective

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LARGE = SHARED / "llara_golden"
QUANTITIES = 11

needs_texts = pytest.mark.skipif(not LARGE.is_dir(), reason=f"no golden values with texts at {LARGE}")


def folders() -> list:
    shared = [SHARED / "llara_golden_small", LARGE]
    return [
        pytest.param(GOLDEN, id="package"),
        *(
            pytest.param(
                folder,
                id=folder.name,
                marks=pytest.mark.skipif(not folder.is_dir(), reason=f"no golden values at {folder}"),
            )
            for folder in shared
        ),
    ]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("folder", folders())
def test_losses_gradients_and_embeddings_are_the_published_ones(folder: Path, kernel: str) -> None:
    outcomes = {outcome.quantity: outcome for outcome in self_test(folder, "cpu", "float32", [kernel])}
    assert len(outcomes) == QUANTITIES
    for name, outcome in outcomes.items():
        # Written out: a tolerance that someone widens in the code must fail here.
        limit = 1e-4 if name.endswith("gradient norm") else 1e-5
        assert outcome.deviation <= limit, outcome
        assert outcome.kernel == kernel and outcome.tolerance == limit
        assert outcome.got != 0


def test_the_losses_are_those_of_a_plain_computation() -> None:
    """Independent of our objectives: the terms as the notes beside the recorded values define them."""
    golden = Golden.read()
    model = golden.model(torch.float32, "eager", "cpu")
    batch = golden.adaptation_batch()
    layout = JointLayout(batch["input_ids"], batch["segments"], batch["slots"])
    with torch.no_grad():
        logits = model.get_output_embeddings()(joint_hidden_states(decoder_of(model), layout))
    recorded = golden.expected
    for branch, key, name in ((0, "output_summarize_ids", "ebae"), (1, "output_predict_ids", "ebar")):
        scores = logits[:, branch].amax(dim=1).log_softmax(dim=-1)
        rows = [sorted({i for i in row if i > 2}) for row in recorded["batch"][key]]
        means = [-scores[number, ids].mean() for number, ids in enumerate(rows)]
        assert float(torch.stack(means).mean()) / 10 == pytest.approx(recorded[f"loss_{name}_only"], abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_changes_nothing(side: str) -> None:
    golden = Golden.read()
    model = golden.model(torch.float32, "sdpa", "cpu")
    released = AdaptSettings(preset="released")
    terms = AdaptationObjective(model, released, 2)(golden.adaptation_batch(side))
    assert terms["loss"].item() == pytest.approx(golden.expected["loss_total"], abs=1e-5)


@needs_texts
def test_prompts_and_targets_from_text_are_the_published_ones() -> None:
    from transformers import AutoTokenizer

    golden = Golden.read(LARGE)
    recorded, texts, cutoff = golden.expected["batch"], golden.expected["texts"], 128
    tokenizer = AutoTokenizer.from_pretrained(LARGE / "model", local_files_only=True)
    encoder = PromptEncoder(TEMPLATES["llama2vec"], tokenizer, query_length=64, passage_length=cutoff)
    named = golden.expected["special_tokens"]
    slots = [*encoder.template.ebae_slots, *encoder.template.ebar_slots]
    assert [named[name] for name in slots] == [*encoder.ebae_slot_ids, *encoder.ebar_slot_ids]

    # The published length holds for the whole row, so the text gets what the prompts leave of it.
    room = cutoff - len(encoder.prefix_ids) - len(encoder.ebae_suffix_ids) - len(encoder.ebar_suffix_ids)
    rows = encoder.text_ids([row["input"] for row in texts], room)
    layout = joint_layout(
        [[*encoder.prefix_ids, *row] for row in rows],
        encoder.ebae_suffix_ids,
        encoder.ebar_suffix_ids,
        slots=8,
        pad_id=encoder.pad_id,
        padding_side="left",
    )
    assert layout.input_ids.tolist() == recorded["input_ids"]
    assert (layout.segments > 0).long().tolist() == recorded["attention_mask"]
    text = (layout.segments == TEXT) & (joint_positions(layout.segments) >= len(encoder.prefix_ids))
    assert torch.where(text, layout.input_ids, -100).tolist() == recorded["labels"]

    # Targets are cut to the same length, a begin-of-sequence token in it.
    excluded = np.zeros(len(tokenizer), dtype=bool)
    excluded[encoder.special_ids] = True
    for source, key in (
        ("output_summarize", "output_summarize_ids"),
        ("output_predict", "output_predict_ids"),
    ):
        own = encoder.text_ids([row[source] for row in texts], cutoff - 1)
        assert [[tokenizer.bos_token_id, *row] for row in own] == recorded[key]
        numbers, ids, weights = TargetRule(excluded).targets([np.array(row) for row in own])
        for number, row in enumerate(recorded[key]):
            wanted = sorted({index for index in row if index > 2})
            assert ids[numbers == number].tolist() == wanted
            assert weights[numbers == number].tolist() == pytest.approx([1 / len(wanted)] * len(wanted))
    batch = golden.adaptation_batch()
    assert batch["input_ids"].tolist() == layout.input_ids.tolist()


@needs_texts
def test_contrastive_prompts_end_as_ours() -> None:
    from transformers import AutoTokenizer

    golden = Golden.read(LARGE)
    tokenizer = AutoTokenizer.from_pretrained(LARGE / "model", local_files_only=True)
    encoder = PromptEncoder(TEMPLATES["llama2vec"], tokenizer, query_length=64, passage_length=160)
    batch, _, _ = golden.contrastive_batch()
    for name, kind in (("query", "query"), ("passage", "passage")):
        suffix = encoder.suffix_ids(kind)
        for ids, length in zip(batch[f"{name}_ids"].tolist(), batch[f"{name}_lengths"].tolist(), strict=True):
            row = ids[:length]
            assert row[-len(suffix) :] == suffix
            assert row[: len(encoder.prefix_ids)] == encoder.prefix_ids
