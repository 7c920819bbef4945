"""Bundles: fingerprints, and cards that survive a copy."""

from __future__ import annotations

from pathlib import Path

from llara_core.model.bundle import read_bundle, save_bundle, write_scores
from llara_core.model.prepare import prepare_base
from tests.model.conftest import collection, settings


def test_same_seed_same_fingerprint_and_card_survives(base: Path, tmp_path: Path) -> None:
    again = read_bundle(prepare_base(settings(), collection(), tmp_path / "again", seed=0))
    first = read_bundle(base)
    assert again.fingerprint == first.fingerprint and len(first.fingerprint) == 64
    other = read_bundle(prepare_base(settings(), collection(), tmp_path / "other", seed=1))
    assert other.fingerprint != first.fingerprint
    model, tokenizer = first.load()
    copy = save_bundle(tmp_path / "copy", model, tokenizer, first)
    assert copy.fingerprint == first.fingerprint
    assert read_bundle(tmp_path / "copy").to_dict() == first.to_dict()
    assert write_scores(tmp_path / "copy", {"tiny/base/ndcg_at_10": 0.5}).fingerprint == first.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again",
        "copy",
        "other",
    ]  # nothing half-written
