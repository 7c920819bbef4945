"""What the canary sees of real pairs: a tiny model, and indexes that are right, stale or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.intake import take_in
from llara_core.errors import ModelError
from llara_core.indexing_settings import CanarySettings
from llara_core.model.retriever import Retriever
from llara_core.operations.canary import judge
from llara_core.retrieval.index import Index
from steps.canary_evidence import gather, sample

RULES = CanarySettings(split="test", rounds=1, latency_floor=60.0)  # no assertion on time


@dataclass(frozen=True)
class Made:
    """A pair as the store would hand it out."""

    model: Path
    index: Path


@pytest.fixture(scope="module")
def data(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    settings = CollectionSettings(source=str(work / "tiny"), name="tiny")
    return take_in(settings, tmp_path_factory.mktemp("taken") / "tiny").collection


def made(work: Path, folder: Path, ids: list[str], passages: list[str], model: str = "finetuned") -> Made:
    bundle = work / model
    Index.build(folder / "index", Retriever.from_pretrained(bundle), ids, passages)
    return Made(bundle, folder / "index")


@pytest.fixture(scope="module")
def right(work: Path, data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(work, tmp_path_factory.mktemp("right"), list(data.corpus_ids), list(data.passages))


def test_the_same_pair_twice_is_accepted(right: Made, data: Collection) -> None:
    seen = gather(right, right, data, RULES)
    assert (seen.documents, seen.indexed, seen.missing, seen.unknown, seen.infinite) == (24, 24, 0, 0, 0)
    assert seen.queries == 8
    assert seen.itself == seen.overlap == 1.0
    assert seen.live is not None
    assert seen.new.ndcg == seen.live.ndcg
    assert seen.new.recall == 1.0  # all 24 documents are among the first hundred
    assert judge(seen, RULES).action == "cutover"
    assert judge(gather(right, None, data, RULES), RULES).action == "cutover"


def test_an_index_of_fewer_documents_is_refused(
    work: Path, right: Made, data: Collection, tmp_path: Path
) -> None:
    stale = made(work, tmp_path, [*data.corpus_ids][:20], [*data.passages][:20])
    verdict = judge(gather(stale, right, data, RULES), RULES)
    assert verdict.action == "refuse"
    assert verdict.reason.startswith("corpus: ")


def test_ids_that_the_corpus_lacks_are_seen(work: Path, data: Collection, tmp_path: Path) -> None:
    renamed = ["nobody", *[*data.corpus_ids][1:]]
    seen = gather(made(work, tmp_path, renamed, list(data.passages)), None, data, RULES)
    assert (seen.missing, seen.unknown) == (2, 1)


def test_texts_that_are_not_the_documents_do_not_find_themselves(
    work: Path, data: Collection, tmp_path: Path
) -> None:
    other = [f"{number} entirely different words" for number in range(24)]
    seen = gather(made(work, tmp_path, list(data.corpus_ids), other), None, data, RULES)
    assert seen.itself == 0.0
    assert judge(seen, RULES).reason.startswith("self: ")


def test_changed_documents_do_not_count_against_the_overlap(
    work: Path, right: Made, data: Collection, tmp_path: Path
) -> None:
    passages = [*data.passages]
    passages[:10] = [f"{text} Revised." for text in passages[:10]]
    seen = gather(made(work, tmp_path, list(data.corpus_ids), passages), right, data, RULES)
    assert seen.overlap == 1.0


def test_another_model_has_no_overlap_to_keep(
    work: Path, right: Made, data: Collection, tmp_path: Path
) -> None:
    other = made(work, tmp_path, list(data.corpus_ids), list(data.passages), "adapted")
    seen = gather(other, right, data, RULES)
    assert seen.overlap is None
    assert seen.live is not None


def test_a_model_with_another_models_index_is_an_error(work: Path, right: Made, data: Collection) -> None:
    with pytest.raises(ModelError, match="do not mix"):
        gather(Made(work / "adapted", right.index), None, data, RULES)


def test_without_judgements_documents_are_asked(data: Collection, right: Made) -> None:
    rules = CanarySettings(split="dev", queries=5, seed=2, rounds=1, latency_floor=60.0)
    asked = sample(data, rules)
    assert asked == sample(data, rules)
    assert len(asked.texts) == 5
    assert asked.judgements == {}
    seen = gather(right, right, data, rules)
    assert seen.new.ndcg is None
    assert judge(seen, rules).action == "cutover"
