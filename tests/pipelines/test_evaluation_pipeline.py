"""How the pipelines are wired, without running a step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError, DataError, ModelError
from llara_core.evaluation_settings import EvaluationSettings
from pipelines import preflight
from pipelines.judged import judged_collections
from tests.conftest import write_tiny_beir

Steps = dict[str, tuple[Any, set[str]]]  # invocation → its configuration, and the steps that it follows


@pytest.fixture(scope="module")
def compiled() -> Iterator[Any]:
    """Compiles a pipeline for the test's own ZenML state and gives its steps."""
    from zenml.client import Client
    from zenml.config.compiler import Compiler
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    def compiled_steps(pipeline: Any, parameters: dict[str, Any]) -> Steps:
        pipeline = pipeline.copy()
        pipeline.prepare(**parameters)
        snapshot = Compiler().compile(
            pipeline=pipeline, stack=Client().active_stack, run_configuration=PipelineRunConfiguration()
        )
        return {
            name: (step.config, set(step.spec.upstream_steps))
            for name, step in snapshot.step_configurations.items()
        }

    yield compiled_steps


@pytest.fixture(scope="module")
def one(compiled: Any) -> Steps:
    from pipelines.training import training_pipeline

    steps: Steps = compiled(training_pipeline, {})
    return steps


@pytest.fixture(scope="module")
def three(compiled: Any) -> Steps:
    from pipelines.training import training_pipeline

    steps: Steps = compiled(training_pipeline, {"mine": {"rounds": 3}})
    return steps


def test_one_round_is_the_pipeline_as_it_was(one: Steps) -> None:
    from pipelines.training import STEPS

    steps = one
    assert set(steps) == set(STEPS) - {"resolve"}
    assert steps["mine"][1] == {"accept", "adapt"}
    assert steps["finetune"][1] == {"adapt", "accept", "mine", "validate_mine"}


def test_nothing_is_computed_on_data_that_no_gate_has_passed(one: Steps) -> None:
    assert one["ingest"][1] == {"identify"}
    assert one["recall"][1] == {"ingest"}
    assert one["validate"][1] == {"ingest", "recall"}
    for name in ("duplicates", "leaks"):
        assert one[name][1] == {"ingest", "validate"}
    assert one["data_report"][1] == {"ingest", "duplicates", "leaks", "recall"}
    assert one["accept"][1] == {"ingest", "duplicates", "leaks", "data_report"}
    readers = ("segment", "prepare", "mine", "finetune", "finetune_without_adaptation", "evaluate", "gauge")
    assert all("accept" in one[name][1] and "ingest" not in one[name][1] for name in readers)
    assert {"leaks"} <= one["evaluate"][1] & one["segment"][1]
    assert one["validate_mine"][1] == {"accept", "mine"}


def test_what_is_done_about_repeats_and_leaks_reads_nothing_again(compiled: Any, one: Steps) -> None:
    from pipelines.training import training_pipeline

    told = {"duplicates": {"policy": "keep_first"}, "leaks": {"action": "drop"}}
    other = compiled(training_pipeline, {"collection": told})
    changed = {name for name, (config, _) in other.items() if config.parameters != one[name][0].parameters}
    # The first logs all settings, the others show them; of those that compute, only the two concerned.
    assert changed == {"identify", "duplicates", "leaks", "report", "register"}


def test_each_round_mines_with_the_model_before_and_starts_from_the_adapted_one(three: Steps) -> None:
    from pipelines.training import step_names

    steps = three
    assert set(steps) == set(step_names(TrainingSettings.parse({"mine": {"rounds": 3}}, ""))) - {"resolve"}
    assert steps["mine_round_2"][1] == {"accept", "finetune"}
    assert steps["mine_round_3"][1] == {"accept", "finetune_round_2"}
    assert steps["finetune_round_3"][1] == {"adapt", "accept", "mine_round_3", "validate_mine_round_3"}
    assert steps["finetune_without_adaptation"][1] == {"prepare", "accept", "mine", "validate_mine"}
    assert "finetune_round_3" in steps["register"][1] and "finetune" not in steps["register"][1]
    assert {"finetune_round_3", "mine_round_3"} <= steps["evaluate"][1]
    assert steps["audit_round_2"][1] == {"mine_round_2"}


def test_more_rounds_leave_what_the_first_is_cached_on(one: Steps, three: Steps) -> None:
    for name in ("adapt", "mine", "finetune", "finetune_without_adaptation"):
        assert one[name][0].parameters == three[name][0].parameters
        assert one[name][1] == three[name][1]
    assert three["mine"][0].parameters == three["mine_round_3"][0].parameters


def test_the_round_that_fine_tuned_last_is_found() -> None:
    from pipelines.outcome import last_round

    names = ["finetune", "finetune_without_adaptation", *(f"finetune_round_{n}" for n in range(2, 12))]
    assert last_round(names) == "finetune_round_11"
    assert last_round(["mine", "finetune_without_adaptation", "finetune"]) == "finetune"


def evaluation(tmp_path: Path, **more: Any) -> dict[str, Any]:
    places = [str(write_tiny_beir(tmp_path / name)) for name in ("one", "two")]
    return {"models": ["bm25", "models:/llara-retriever@champion"], "collections": places, **more}


def test_every_pair_is_a_step_of_its_own(compiled: Any, tmp_path: Path) -> None:
    from pipelines.evaluation import evaluation_pipeline, step_names

    parameters = evaluation(tmp_path, bm25={"k1": 1.2})
    steps = compiled(evaluation_pipeline, parameters)
    assert set(steps) == set(step_names(EvaluationSettings.parse(parameters, "")))
    pair = "judge_llara_retriever_champion_on_two"
    assert steps[pair][1] == {"admit_two", "identify_llara_retriever_champion"}
    assert steps[pair][0].parameters["bm25"] is None  # it is not judged again when BM25's weights change
    assert steps["judge_bm25_on_two"][0].parameters["bm25"]["k1"] == 1.2
    assert steps["side_by_side"][1] >= {pair, "judge_bm25_on_one", "admit_one"}
    assert steps["all_judged"][1] == {"side_by_side", "publish_evaluation"}


def test_what_is_identified_comes_before_what_costs(compiled: Any, tmp_path: Path) -> None:
    from pipelines.evaluation import evaluation_pipeline

    order = list(compiled(evaluation_pipeline, evaluation(tmp_path)))
    last = max(order.index(name) for name in order if name.startswith("identify_"))
    assert last < min(order.index(name) for name in order if name.startswith(("admit_", "judge_")))


def test_names_that_look_alike_give_different_steps(tmp_path: Path) -> None:
    from pipelines.evaluation import step_names

    folders = [str(write_tiny_beir(tmp_path / name)) for name in ("a-b", "a.b")]
    names = step_names(EvaluationSettings.parse({"models": ["bm25"], "collections": folders}, ""))
    assert {"judge_bm25_on_a_b", "judge_bm25_on_a_b_2"} <= set(names)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"models": []}, "parameters.models: got []"),
        ({"models": ["bm25", "bm25"]}, "two models are called 'bm25'; give each a name of its own"),
        ({"models": [{"model": "bm25", "name": "a b"}]}, "the name 'a b' cannot stand in a metric key"),
        ({"models": [{"model": "bm25", "name": "../up"}]}, "cannot stand in a metric key"),
        ({"models": [{"modle": "bm25"}]}, "modle: unknown setting; did you mean 'model'?"),
        ({"collections": [{"source": "pycode", "splt": "dev"}]}, "did you mean 'split'?"),
        ({"collections": "pycode"}, "collections: got 'pycode'"),
        ({"depth": 50}, "parameters.depth: got 50"),
    ],
)
def test_bad_settings_are_explained(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        EvaluationSettings.parse({"models": ["bm25"], "collections": ["pycode"], **values}, "parameters")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def settings(*collections: Any, models: tuple[str, ...] = ("bm25",)) -> EvaluationSettings:
    return EvaluationSettings.parse({"models": list(models), "collections": list(collections)}, "")


def test_a_collection_has_its_own_split_name_and_weights(tmp_path: Path) -> None:
    folder = str(write_tiny_beir(tmp_path / "tiny"))
    own = {"source": folder, "name": "mine", "split": "train", "bm25": {"k1": 0.9}}
    plain, named = judged_collections(settings(folder, own))
    assert (plain.place.name, plain.place.split, plain.bm25.k1) == ("tiny", "test", 1.5)
    assert (named.place.name, named.place.split, named.bm25.k1) == ("mine", "train", 0.9)
    assert named.settings.name == "mine" and named.settings.source == folder


def test_a_public_set_is_judged_on_the_split_that_papers_report(tmp_path: Path) -> None:
    [one] = judged_collections(settings(str(write_tiny_beir(tmp_path / "msmarco"))))
    assert one.place.split == "dev"


def test_cqadupstack_is_its_twelve_forums(tmp_path: Path) -> None:
    from pipelines.evaluation import step_names

    forums = "android english gaming gis mathematica physics programmers stats tex unix webmasters wordpress"
    for forum in forums.split():
        write_tiny_beir(tmp_path / "cqadupstack" / forum)
    listed = settings(str(tmp_path / "cqadupstack"))
    found = judged_collections(listed)
    assert [one.place.name for one in found] == [f"cqadupstack-{forum}" for forum in forums.split()]
    assert {one.place.group for one in found} == {"cqadupstack"}
    assert "judge_bm25_on_cqadupstack_gis" in step_names(listed)
    named = {"source": str(tmp_path / "cqadupstack"), "name": "forums"}
    with pytest.raises(ConfigError, match=r"stands for 12 collections .* cannot all be called 'forums'"):
        judged_collections(settings(named))


def test_two_collections_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [str(write_tiny_beir(tmp_path / place / "tiny")) for place in ("a", "b")]
    with pytest.raises(ConfigError, match="two collections are called 'tiny'"):
        judged_collections(settings(*folders))


def test_preflight_tells_what_is_missing_in_the_first_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(write_tiny_beir(tmp_path / "tiny"))
    preflight.check(settings(folder, "pycode"), tmp_path / "local")
    with pytest.raises(
        DataError, match="nowhere: no such folder; collections names a place in one of the formats"
    ):
        preflight.check(settings(folder, str(tmp_path / "nowhere")), tmp_path / "local")
    with pytest.raises(ConfigError, match="LLARA_NOT_SET"):
        preflight.check(settings("${LLARA_NOT_SET}/data"), tmp_path / "local")
    with pytest.raises(ModelError, match=r"models: .*tiny"):
        preflight.check(settings(folder, models=("bm25", folder)), tmp_path / "local")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'missing.db'}")
    with pytest.raises(ConfigError, match=r"models: .*nothing is registered yet .*make run"):
        preflight.check_registry(settings(folder, models=("models:/llara-retriever@champion",)))
    preflight.check_registry(settings(folder))
    assert not (tmp_path / "missing.db").exists()
