"""EBAE and EBAR against loops, and against what the published code computed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llara_core.config import AdaptSettings, FinetuneSettings
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import joint_hidden_states, joint_layout
from llara_core.training.adaptation_rows import TargetRule, TokenRows, inverse_document_frequency, log_unigram
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.objectives import AdaptationObjective, bag_of_words_loss, reduce_slots
from tests.oracles.bag_of_words import bag_of_words_oracle

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "llara_golden_small"


def test_bag_of_words_equals_loops() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 11)
    rows, ids = torch.tensor([0, 0, 2]), torch.tensor([4, 9, 1])
    weights = torch.tensor([0.25, 0.75, 1.0])
    expected = bag_of_words_oracle(logits, [{4: 1.0, 9: 3.0}, {}, {1: 5.0}])
    assert bag_of_words_loss(logits, rows, ids, weights).item() == pytest.approx(expected, abs=1e-6)


def test_uniform_logits_cost_log_vocabulary() -> None:
    loss = bag_of_words_loss(torch.zeros(1, 8), torch.tensor([0]), torch.tensor([3]), torch.ones(1))
    assert loss.item() == pytest.approx(math.log(8))


def test_no_target_is_no_loss_and_no_nan_gradient() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    bag_of_words_loss(logits, none, none, torch.zeros(0)).backward()
    assert torch.equal(logits.grad, torch.zeros(2, 5))


def test_reduction_over_slots() -> None:
    logits = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]])
    assert reduce_slots(logits, "max").tolist() == [[3.0, 5.0]]
    assert reduce_slots(logits, "mean").tolist() == [[2.0, 3.0]]


def test_targets_unique_and_all_without_special_tokens() -> None:
    excluded = np.zeros(10, dtype=bool)
    excluded[0] = True
    texts = [np.array([3, 3, 0, 4]), np.array([0]), np.array([7])]
    rows, ids, weights = TargetRule(excluded).targets(texts)
    assert (rows.tolist(), ids.tolist(), weights.tolist()) == ([0, 0, 2], [3, 4, 7], [0.5, 0.5, 1.0])
    weights = TargetRule(excluded, all_occurrences=True).targets(texts)[2]
    assert weights.tolist() == pytest.approx([2 / 3, 1 / 3, 1.0])
    idf = np.ones(10, dtype=np.float32)
    idf[3], idf[7] = 3.0, 0.0  # a row whose only word weighs nothing has no target
    rows, _, weights = TargetRule(excluded, token_weights=idf).targets(texts)
    assert (rows.tolist(), weights.tolist()) == ([0, 0], [0.75, 0.25])


def test_prior_and_idf_by_hand() -> None:
    rows = TokenRows.pack([[1, 1, 2], [1]])
    idf = inverse_document_frequency(rows, 4)
    assert idf.tolist() == pytest.approx([math.log(3), 0.0, math.log(1.5), math.log(3)], abs=1e-6)
    occurrences = log_unigram(rows, 4, once_per_row=False).exp().tolist()
    assert occurrences == pytest.approx([1 / 8, 4 / 8, 2 / 8, 1 / 8])
    documents = log_unigram(rows, 4, once_per_row=True).exp().tolist()
    assert documents == pytest.approx([1 / 7, 3 / 7, 2 / 7, 1 / 7])


# ------------------------------------------------------------------ what the published code computes
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden values at {GOLDEN}")


def golden_batch(expected: dict) -> tuple[dict[str, torch.Tensor], list[list[int]]]:
    layout, batch = expected["layout"], expected["batch"]
    ebae, ebar = layout["ebae_suffix_tokens"], layout["ebar_suffix_tokens"]
    real = [
        [index for index, seen in zip(ids, mask, strict=True) if seen]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    texts = [row[: len(row) - ebae - ebar] for row in real]
    tail = real[0][len(texts[0]) :]
    joint = joint_layout(texts, tail[:ebae], tail[ebae:], slots=8, pad_id=0, padding_side="left")
    assert joint.input_ids.tolist() == batch["input_ids"]
    result = {"input_ids": joint.input_ids, "segments": joint.segments, "slots": joint.slots}
    excluded = np.zeros(512, dtype=bool)
    excluded[layout["special_ids_excluded_from_targets"]] = True
    for name, key in (("ebae", "output_summarize_ids"), ("ebar", "output_predict_ids")):
        targets = TargetRule(excluded).targets([np.array(row) for row in batch[key]])
        result |= dict(zip((f"{name}_rows", f"{name}_ids", f"{name}_weights"), targets, strict=True))
    return result, texts


def golden_model(attention: str):
    return AutoModelForCausalLM.from_pretrained(
        GOLDEN / "model", dtype=torch.float32, attn_implementation=attention
    ).train()


def gradient_norm(model: torch.nn.Module) -> float:
    return math.sqrt(
        sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None)
    )


@needs_golden
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_released_adaptation_step(attention: str) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    batch, _ = golden_batch(expected)
    model = golden_model(attention)
    released = AdaptSettings(ebae_weight=0.05, ebar_weight=0.05, language_model_weight=1.0)
    terms = AdaptationObjective(model, released, expected["layout"]["prefix_tokens"])(batch)
    assert terms["ebae"].item() / 10 == pytest.approx(expected["loss_ebae_only"], abs=1e-5)
    assert terms["ebar"].item() / 10 == pytest.approx(expected["loss_ebar_only"], abs=1e-5)
    assert terms["language_model"].item() == pytest.approx(expected["loss_ar_only"], abs=1e-5)
    assert terms["loss"].item() == pytest.approx(expected["loss_total"], abs=1e-5)
    terms["loss"].backward()
    assert gradient_norm(model) == pytest.approx(expected["grad_norm"], rel=1e-4)


@needs_golden
@pytest.mark.parametrize("side", ["left", "right"])
def test_released_slot_embeddings(side: str) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    batch, texts = golden_batch(expected)
    tail = batch["input_ids"][0, -37:].tolist()
    layout = joint_layout(texts, tail[:19], tail[19:], slots=8, pad_id=0, padding_side=side)
    states = joint_hidden_states(decoder_of(golden_model("sdpa")), layout).mean(dim=2)
    for branch, name in enumerate(("ebae", "ebar")):
        wanted = torch.tensor(expected[f"embedding_{name}_slots_mean"])
        torch.testing.assert_close(states[:, branch], wanted, atol=1e-5, rtol=0)


@needs_golden
def test_released_contrastive_step() -> None:
    recorded = json.loads((GOLDEN / "expected.json").read_text())["finetune"]
    model = golden_model("sdpa")
    settings = FinetuneSettings(temperature=recorded["temperature"])
    objective = ContrastiveObjective(model, settings, slots=8)
    batch, orders = {}, {}
    for name in ("query", "passage"):
        ids, mask = (torch.tensor(recorded[name][key]) for key in ("input_ids", "attention_mask"))
        lengths = mask.sum(dim=1)
        order = orders[name] = torch.argsort(-lengths, stable=True)
        rolled = torch.stack(
            [row.roll(int(n)) for row, n in zip(ids, lengths, strict=True)]
        )  # to the right side
        batch |= {f"{name}_ids": rolled[order], f"{name}_lengths": lengths[order]}
    place = torch.argsort(orders["passage"])
    batch["targets"] = place[torch.arange(4) * recorded["train_group_size"]][orders["query"]]
    batch["masked"] = torch.zeros(4, 16, dtype=torch.bool)
    queries = objective.encode(batch["query_ids"], batch["query_lengths"])
    torch.testing.assert_close(queries, torch.tensor(recorded["q_reps"])[orders["query"]], atol=1e-5, rtol=0)
    loss = objective(batch)["loss"]
    assert loss.item() == pytest.approx(recorded["loss"], abs=2e-5)
    loss.backward()
    assert gradient_norm(model) == pytest.approx(recorded["grad_norm"], rel=1e-4)
