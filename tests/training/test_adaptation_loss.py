"""Held-out losses against the objective on one hand-made batch, and the cosine against all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.config import AdaptSettings, FromScratchSettings, ModelSettings
from llara_core.errors import TrainingError
from llara_core.files import new_folder
from llara_core.model.bundle import CARD_NAME, read_bundle
from llara_core.model.prepare import prepare_base
from llara_core.training.adapt import adapt
from llara_core.training.adaptation_loss import held_out_losses, mean_cosine
from tests.oracles.tiny_collection import collection

TEXTS = [
    f"the {noun} stands on the {place}" for noun in ("lamp", "cup", "tree") for place in ("hill", "table")
]
ROWS = pa.table({"text": TEXTS, "next_text": [*TEXTS[1:], TEXTS[-2]]})
SETTINGS = AdaptSettings(steps=20, batch_size=4, text_length=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = FromScratchSettings(vocabulary_size=80, hidden_size=16, intermediate_size=32, layers=1, heads=2)
    settings = ModelSettings(from_scratch=model, template="slots", query_length=8, passage_length=8)
    data = collection({str(row): text for row, text in enumerate(TEXTS)}, {}, {})
    return prepare_base(settings, data, tmp_path_factory.mktemp("loss") / "base", 0)


def test_an_untrained_model_guesses_among_all_words(base: Path) -> None:
    found = held_out_losses(base, ROWS, SETTINGS, 0)
    vocabulary = read_bundle(base).load()[0].get_output_embeddings().weight.shape[0]
    # Weights near zero: every word is about as likely as any other.
    assert found["ebae"] == pytest.approx(np.log(vocabulary), abs=0.1)
    assert found["loss"] == pytest.approx(0.5 * found["ebae"] + 0.5 * found["ebar"], rel=1e-6)


def test_micro_batches_change_nothing(base: Path) -> None:
    whole = held_out_losses(base, ROWS, SETTINGS, 0)
    parts = held_out_losses(base, ROWS, SETTINGS.model_copy(update={"micro_batch_tokens": 16}), 0)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_adaptation_lowers_the_loss_on_its_own_text(base: Path, tmp_path: Path) -> None:
    adapted = adapt(base, ROWS, SETTINGS, tmp_path / "adapted", 0)
    before, after = (held_out_losses(one, ROWS, SETTINGS, 0) for one in (base, adapted))
    assert after["loss"] < before["loss"] - 0.3


def test_terms_without_weight_are_left_out(base: Path) -> None:
    only = SETTINGS.model_copy(update={"ebae_weight": 1.0, "ebar_weight": 0.0})
    assert set(held_out_losses(base, ROWS, only, 0)) == {"loss", "ebae", "cosine"}


def test_rows_without_text_are_refused(base: Path) -> None:
    with pytest.raises(TrainingError, match="no text"):
        held_out_losses(base, pa.table({"text": [""], "next_text": ["a"]}), SETTINGS, 0)


def test_mean_cosine_is_that_of_all_pairs() -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [float(vectors[i] @ vectors[j]) for i in range(7) for j in range(i)]
    assert mean_cosine(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert mean_cosine(np.ones((3, 1), np.float32)) == pytest.approx(1.0)
    assert mean_cosine(vectors[:1]) == 0.0


def test_no_steps_pass_the_base_on_as_it_is(base: Path, tmp_path: Path) -> None:
    none = SETTINGS.model_copy(update={"steps": 0})
    output = adapt(base, ROWS, none, tmp_path / "adapted", 0)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {
        path.name: path.read_bytes() for path in base.iterdir()
    }
    with new_folder(output, replace=(CARD_NAME,)) as again:  # it is an output like any other
        (again / CARD_NAME).write_text("{}")
