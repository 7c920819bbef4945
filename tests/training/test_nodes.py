"""Several machines: a request on a volume, pods that find each other, and a result that is sealed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.torch import load_file

from llara_core.config import AdaptSettings
from llara_core.errors import ConfigError, DataError, TrainingError
from llara_core.launch_settings import LaunchSettings
from llara_core.model.bundle import read_bundle
from llara_core.training import nodes
from llara_core.training.launch import Place
from llara_core.training.node_request import NodeRequest, folder_of
from llara_core.training.nodes import place_of
from llara_core.training.stage_request import StageRequest
from tests.training.pods import ended, start_pods, workers_of
from tests.training.two_processes import ADAPT, SEED, make_base, toy_collection

TWO = LaunchSettings(nodes=2, patience_minutes=10)
GIVEN = {"ZENML_KUBERNETES_POD_COUNT": "2", "ZENML_KUBERNETES_MAIN_ADDRESS": "job-0.job.zenml.svc",
         "ZENML_KUBERNETES_MAIN_PORT": "29500", "JOB_COMPLETION_INDEX": "1"}  # fmt: skip


def rows_file(folder: Path) -> Path:
    texts = list(toy_collection().passages)
    table = pa.table({"text": texts, "next_text": [*texts[1:], ""]})
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return folder / "rows.arrow"


def asked(folder: Path, base: Path, **settings: object) -> StageRequest:
    chosen = AdaptSettings.parse({**ADAPT, **settings}, "adapt")
    return StageRequest(
        "adapt", chosen.model_dump(mode="json"), SEED, base, {"rows": rows_file(folder)}, folder / "out",
        folder / "adapt",
    )  # fmt: skip


@pytest.fixture
def request_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeRequest:
    """A request whose base is no model: it is laid down, checked, never trained."""
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(tmp_path / "volume"))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "llara.json").write_text("{}")
    hashes = {"start": "s", "rows": "r"}
    return NodeRequest.write(folder_of("adapt-1"), asked(tmp_path, tmp_path / "base"), TWO, hashes)


def test_the_place_is_what_zenml_and_kubernetes_say() -> None:
    assert place_of(GIVEN) == Place(1, 2, "job-0.job.zenml.svc", 29500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX not set"),
        ({"ZENML_KUBERNETES_POD_COUNT": "two"}, "expected a number, got 'two'"),
        ({"JOB_COMPLETION_INDEX": "2"}, "2 of 2 pods; they count from 0"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place_of({**GIVEN, **change})


def test_without_a_volume_nothing_is_laid_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLARA_CHECKPOINTS", raising=False)
    with pytest.raises(ConfigError, match=r"LLARA_CHECKPOINTS is not set.*ReadWriteMany"):
        folder_of("adapt-1")


def test_a_request_is_read_as_it_was_written(request_of_two: NodeRequest) -> None:
    read = NodeRequest.read(request_of_two.folder)
    assert read.facts == request_of_two.facts and read.settings == TWO
    assert not read.is_done()
    with pytest.raises(DataError, match="no result of this request"):
        read.result()


def test_whatever_the_result_depends_on_changes_the_hash(tmp_path: Path, request_of_two: NodeRequest) -> None:
    def hash_of(settings: LaunchSettings = TWO, rows: str = "r", **stage: object) -> str:
        hashes = {"start": "s", "rows": rows}
        again = asked(tmp_path, tmp_path / "base", **stage)
        return NodeRequest.write(folder_of("other"), again, settings, hashes).hash

    assert hash_of() == request_of_two.hash
    others = [hash_of(rows="x"), hash_of(steps=5), hash_of(TWO.model_copy(update={"nodes": 3}))]
    assert len({request_of_two.hash, *others}) == 4


def test_a_spoilt_input_is_found_before_training(request_of_two: NodeRequest) -> None:
    file = request_of_two.folder / "inputs" / "start" / "llara.json"
    file.unlink()
    file.write_text("{ }")  # a copy, so that the source of a hard link stays as it was
    with pytest.raises(DataError, match=r"inputs of the request cannot be used.*llara\.json"):
        request_of_two.train(lambda *_: Path(), Place(0, 2))


def test_another_number_of_pods_is_refused(request_of_two: NodeRequest) -> None:
    with pytest.raises(ConfigError, match="3 machines were started and the request is for 2"):
        request_of_two.train(lambda *_: Path(), Place(0, 3))


def test_a_first_pod_that_never_comes(request_of_two: NodeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(nodes.socket, "getaddrinfo", unknown)
    facts = {**request_of_two.facts, "launch": {**TWO.model_dump(), "patience_minutes": 0.002}}
    (request_of_two.folder / "request.json").write_text(json.dumps(facts))
    with pytest.raises(TrainingError, match=r"pod 1 waited .*job-0\.job\.zenml\.svc does not resolve"):
        nodes.train("adapt-1", place_of(GIVEN))


def test_a_pod_without_a_request_says_which_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(tmp_path))
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    assert nodes.main(["adapt-1"]) == 2
    assert "do both mount the same one?" in capsys.readouterr().err


# What follows starts real pods; importing torch alone takes many seconds in each of their six processes.


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pods")
    make_base(folder / "base")
    return folder


def lay_down(place: Path, volume: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> NodeRequest:
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(volume))
    request = asked(place, place / "base", **settings)
    return NodeRequest.write(folder_of("adapt-1"), request, TWO, {"start": "s", "rows": "r"})


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine takes ten times as long as an idle one
def test_two_pods_give_what_one_process_gives(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llara_core.training.adapt import adapt
    from llara_core.training.stage_request import open_table

    request = lay_down(place, tmp_path / "volume", monkeypatch)
    ends = ended(start_pods(tmp_path / "volume", "adapt-1"))
    assert [code for code, _ in ends] == [0, 0], ends
    assert "process 0 of 2 on cpu" in ends[0][1]
    settings = AdaptSettings.parse(request.facts["settings"], "adapt")
    adapt(place / "base", open_table(rows_file(place)), settings, tmp_path / "one", SEED)
    one, two = (load_file(folder / "model.safetensors") for folder in (tmp_path / "one", request.result()))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    again = ended(start_pods(tmp_path / "volume", "adapt-1"))  # what a repeated run does: nothing
    assert [code for code, _ in again] == [0, 0] and "nothing to do" in again[0][1]


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine takes ten times as long as an idle one
def test_a_killed_pod_ends_the_other_and_the_job_goes_on_exactly(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"steps": 400, "checkpoint_every": 5, "learning_rate": 1e-4}
    results = {}
    for name in ("whole", "killed"):
        volume = tmp_path / name
        request = lay_down(place, volume, monkeypatch, **long)
        pods = start_pods(volume, "adapt-1")
        if name == "killed":
            until = time.monotonic() + 600
            while not list(volume.glob("adapt/run-*/step-*/manifest.json")):
                assert time.monotonic() < until and all(pod.poll() is None for pod in pods)
                time.sleep(0.02)
            workers = workers_of(pods[1])
            pods[1].kill()  # as a node that is taken away: nothing in the pod can say anything
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            ends = ended(pods)
            assert ends[0][0] == 1 and "lost another one" in ends[0][1], ends
            assert not request.is_done()
            pods = start_pods(volume, "adapt-1")
        ends = ended(pods)
        assert [code for code, _ in ends] == [0, 0], ends
        assert ("resuming at step" in ends[0][1]) == (name == "killed")
        results[name] = request.result()
    assert read_bundle(results["killed"]).fingerprint == read_bundle(results["whole"]).fingerprint
    weights = [(folder / "model.safetensors").read_bytes() for folder in results.values()]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine takes ten times as long as an idle one
def test_a_pod_whose_partner_never_comes_ends_with_a_message(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = lay_down(place, tmp_path, monkeypatch)
    facts = {**request.facts, "launch": {**TWO.model_dump(), "patience_minutes": 0.1}}
    (request.folder / "request.json").write_text(json.dumps(facts))
    for lone in (0, 1):
        [(code, said)] = ended(start_pods(tmp_path, "adapt-1", only=(lone,)), within=600)
        assert code == 1 and "did not all come together in time" in said, said
