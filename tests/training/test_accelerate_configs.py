"""Every file of configs/accelerate is one that accelerate's launcher understands, and says how to use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
TYPES = {
    "one_gpu": "NO",
    "two_cpus": "MULTI_GPU",
    "several_gpus_fsdp": "FSDP",
    "several_gpus_zero2": "DEEPSPEED",
    "several_gpus_zero3": "DEEPSPEED",
    "several_nodes": "FSDP",
}


def test_all_are_here() -> None:
    assert {path.stem for path in FILES} == TYPES.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_accepts_it_and_every_key_is_an_option(path: Path) -> None:
    config = load_config_from_file(str(path))  # raises on an unknown key of the file
    assert config.distributed_type.value == TYPES[path.stem]
    assert config.mixed_precision == "no"  # a setting of llara
    options = {action.dest for action in launch_command_parser()._actions}
    nested = {**config.fsdp_config, **config.deepspeed_config}
    assert nested.keys() <= options  # accelerate itself ignores an unknown one in there


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_own_command_is_accepted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    start = text.index("accelerate launch")
    words = text[start : text.index("OUT", start)].replace("\\\n#", " ").split()[2:]
    assert words[:2] == ["--config_file", f"configs/accelerate/{path.name}"]
    words[1] = str(path)
    arguments = launch_command_parser().parse_args([{"RANK": "1"}.get(word, word) for word in words])
    arguments, _, _ = _validate_launch_command(arguments)
    assert arguments.training_script == "llara_core.cli" and arguments.module
    kind = TYPES[path.stem]
    chosen = (arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed)
    assert chosen == (kind == "MULTI_GPU", kind == "FSDP", kind == "DEEPSPEED")
    if kind == "FSDP":
        assert str(arguments.fsdp_version) == "2"


@pytest.mark.slow
def test_accelerate_launch_gives_what_one_process_gives(tmp_path: Path, beir_folder: Path) -> None:
    command = ["-m", "llara_core.cli", "adapt", "--data", str(beir_folder), "-c", "configs/tiny.yaml"]
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch",
              "--config_file", "configs/accelerate/two_cpus.yaml"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
                   "LLARA_TINY": str(beir_folder), "PYTHONPATH": str(ROOT)}  # fmt: skip
    for name, start in {"one": [sys.executable], "two": launch}.items():
        done = subprocess.run(
            [*start, *command, "-o", str(tmp_path / name)],
            cwd=ROOT, env=environment, text=True, capture_output=True, check=False, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("bundle written to") == 1  # only the main process says so
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
