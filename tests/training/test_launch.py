"""How a stage is launched: what accelerate is told, how many processes there are, and what they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from llara_core.errors import ConfigError, DataError
from llara_core.launch_settings import LaunchSettings
from llara_core.training import distributed, launch
from llara_core.training.launch import Place, accelerate_config, processes_of
from llara_core.training.stage_request import StageRequest
from tests.training.pods import workers_of
from tests.training.test_nodes import asked
from tests.training.two_processes import make_base

ROOT = Path(__file__).resolve().parents[2]


def told(folder: Path, settings: LaunchSettings, processes: int, place: Place) -> object:
    """What accelerate's own launcher makes of our file."""
    file = folder / "accelerate.yaml"
    file.write_text(yaml.safe_dump(accelerate_config(settings, processes, place)))
    words = ["--config_file", str(file), "-m", "llara_core.training.launched", "FOLDER"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def test_accelerate_is_told_which_machine_this_is(tmp_path: Path) -> None:
    found = told(tmp_path, LaunchSettings(), 8, Place(1, 2, "job-0.job.zenml.svc", 29500))
    assert (found.num_machines, found.num_processes, found.machine_rank) == (2, 16, 1)
    assert (found.main_process_ip, found.main_process_port) == ("job-0.job.zenml.svc", 29500)
    assert found.multi_gpu and not found.use_fsdp and found.module
    assert found.mixed_precision == "no"  # a setting of llara


@pytest.mark.parametrize("file", ["several_gpus_fsdp", "several_nodes", "several_gpus_zero3"])
def test_a_file_says_how_the_model_is_shared_not_how_many_there_are(tmp_path: Path, file: str) -> None:
    settings = LaunchSettings(accelerate=str(ROOT / "configs" / "accelerate" / f"{file}.yaml"))
    found = told(tmp_path, settings, 3, Place())
    assert (found.num_machines, found.num_processes, found.main_process_ip) == (1, 3, "127.0.0.1")
    assert found.use_fsdp == ("zero" not in file) and found.use_deepspeed == ("zero" in file)


def test_one_process_is_no_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "watch", lambda *_: pytest.fail("nothing is to be launched"))
    request = asked(tmp_path, tmp_path)
    ran = launch.launch(
        request, lambda got, on_log: got.output if got is request else Path(), LaunchSettings()
    )
    assert ran == request.output


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "use_cpu", lambda: True)
    assert processes_of(LaunchSettings(processes="auto")) == 1
    assert processes_of(LaunchSettings(processes=3)) == 3
    monkeypatch.setattr(distributed, "use_cpu", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_of(LaunchSettings(processes="auto")) == 4
    assert processes_of(LaunchSettings(processes=2)) == 2
    with pytest.raises(ConfigError, match=r"got 8, and this machine shows 4 GPUs"):
        processes_of(LaunchSettings(processes=8))


def test_a_request_survives_the_way_to_a_child(tmp_path: Path) -> None:
    request = asked(tmp_path, tmp_path / "base", preset="from_scratch", learning_rate=1 / 3)
    request.write(tmp_path / "request.json")
    assert StageRequest.read(tmp_path / "request.json") == request
    (tmp_path / "request.json").write_text("{")
    with pytest.raises(DataError, match="not a request for training"):
        StageRequest.read(tmp_path / "request.json")


def test_a_child_leaves_word_of_what_went_wrong(tmp_path: Path) -> None:
    """Its output goes to its own file, so that the launcher's trace is no part of it."""
    (tmp_path / "alive.lock").touch()
    holder = (tmp_path / "alive.lock").open("wb")
    import fcntl

    fcntl.flock(holder, fcntl.LOCK_EX)
    command = [sys.executable, "-m", "llara_core.training.launched", str(tmp_path)]
    environment = {**os.environ, "RANK": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
    holder.close()
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    failure = json.loads((tmp_path / "failure-1.json").read_text())
    assert (failure["process"], failure["type"], failure["consequence"]) == (1, "DataError", False)
    assert (tmp_path / "process-1.log").is_file()


RUN = """
import json, logging, sys
from pathlib import Path
from llara_core.launch_settings import LaunchSettings
from llara_core.training.launch import launch
from llara_core.training import stage_adapt
from llara_core.training.stage_request import StageRequest
try:
    request, two = StageRequest.read(Path(sys.argv[1])), LaunchSettings(processes=2, patience_minutes=10)
    launch(request, stage_adapt.run, two, lambda step, values: print(step, flush=True))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine takes ten times as long as an idle one
def test_a_killed_child_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    request = asked(
        tmp_path, tmp_path / "base", steps=300, checkpoint_every=5, log_every=1, learning_rate=1e-4
    )
    request.write(tmp_path / "request.json")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
    }

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "request.json")], env=environment, text=True, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    first = start()
    assert first.stdout is not None
    while int(first.stdout.readline()) < 12:
        pass
    workers = workers_of(first)
    assert len(workers) == 2
    os.kill(max(workers), signal.SIGKILL)
    said = first.communicate(timeout=900)[1]
    assert first.returncode == 1 and "was killed (SIGKILL)" in said and "Traceback" not in said, said
    second = start()
    out, said = second.communicate(timeout=900)
    assert second.returncode == 0 and "resuming at step" in said, said
    assert out.split() == [str(step) for step in range(1, 301)]  # the curve is whole
