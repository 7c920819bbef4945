"""``llara selftest``: right on this machine, and able to say that something is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from llara_core.cli.app import run
from llara_core.errors import ConfigError, DataError
from llara_core.golden_values import GOLDEN, Golden
from llara_core.selftest import TOLERANCES, Outcome, self_test


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the golden values, to spoil."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def change(folder: Path, key: str, value: object) -> None:
    file = folder / "expected.json"
    expected = json.loads(file.read_text())
    *path, last = key.split(".")
    place = expected
    for part in path:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    file.write_text(json.dumps(expected))


def lines_of(text: str, mark: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(mark) or f"{mark} (rel)" in line]


def test_this_machine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert len(lines_of(shown, "ok")) == 22 and "MISS" not in shown
    assert "adaptation gradient norm" in shown and "passage embeddings" in shown


def test_bfloat16_passes_with_tolerances_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--device", "cpu", "--dtype", "bfloat16", "--attention", "sdpa"]) == 0
    assert len(lines_of(capsys.readouterr().out, "ok")) == 11
    # The arithmetic really is another one: float32's tolerances would not do.
    outcomes = list(self_test(device="cpu", dtype="bfloat16", kernels=["sdpa"]))
    assert max(one.deviation for one in outcomes if "embeddings" in one.quantity) > 1e-3


@pytest.mark.parametrize(
    ("key", "value", "missed"),
    [
        ("loss_total", 7.0904, "adaptation loss"),
        ("grad_norm", 1.8970, "adaptation gradient norm"),
        ("finetune.loss", 9.97, "contrastive loss"),
        ("finetune.temperature", 0.02, "contrastive loss"),
    ],
)
def test_a_wrong_value_is_a_miss(
    copy: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, missed: str
) -> None:
    change(copy, key, value)
    assert run(["selftest", "--golden", str(copy), "--device", "cpu", "--attention", "sdpa"]) == 1
    out = capsys.readouterr()
    assert any(missed in line for line in lines_of(out.out, "MISS"))
    assert "missed" in out.err


def test_other_weights_are_missed_in_bfloat16_too(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = copy / "model" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.0.self_attn.v_proj.weight"
    weights[name] = weights[name].flip(0)
    save_file(weights, file, metadata={"format": "pt"})
    for dtype in TOLERANCES:
        outcomes = list(self_test(copy, "cpu", dtype, ["sdpa"]))
        missed = {one.quantity for one in outcomes if not one.ok}
        assert {"EBAE embeddings", "query embeddings", "contrastive loss"} <= missed


@pytest.mark.parametrize("key", ["layout", "batch.input_ids", "loss_ar_only", "finetune.q_reps", "finetune"])
def test_what_is_missing_is_named(copy: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    change(copy, key, None)
    assert run(["selftest", "--golden", str(copy), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "expected.json" in error and key.rpartition(".")[2] in error


def test_a_folder_of_another_kind(tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--golden", str(tmp_path / "none")]) == 2
    assert "expected.json" in capsys.readouterr().err
    (copy / "expected.json").write_text("{broken")
    with pytest.raises(DataError, match="not of the form"):
        Golden.read(copy)
    (copy / "expected.json").write_text((GOLDEN / "expected.json").read_text())
    change(copy, "batch.attention_mask", [[1] * 3] * 4)
    with pytest.raises(DataError, match="not of the form"):
        Golden.read(copy)


def test_a_model_that_is_broken(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "model" / "model.safetensors").write_bytes(b"nothing")
    assert run(["selftest", "--golden", str(copy), "--device", "cpu"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--device", "cuda:99"]) == 2
    error = capsys.readouterr().err
    assert "'cuda:99' cannot be used" in error and "this machine has: cpu" in error
    with pytest.raises(ConfigError, match="nonsense"):
        list(self_test(device="nonsense"))


def test_flex_attention_on_a_processor_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--device", "cpu", "--attention", "flex_attention"]) == 2
    assert "no backward pass on the CPU" in capsys.readouterr().err
    assert run(["selftest", "--attention", "flash"]) == 2


def test_not_a_number_is_a_miss() -> None:
    assert not Outcome("sdpa", "adaptation loss", 1.0, float("nan"), float("nan"), 1e-5).ok
    assert Outcome("sdpa", "adaptation loss", 1.0, 1.0, 0.0, 1e-5).ok


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_the_graphics_card_passes(dtype: str) -> None:
    assert all(outcome.ok for outcome in self_test(device="cuda", dtype=dtype))


def test_the_package_brings_the_values() -> None:
    import tomllib

    root = GOLDEN.parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("an installed package: it has the values, or nothing above would have passed")
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {path for pattern in patterns["llara_core"] for path in GOLDEN.parent.glob(pattern)}
    assert {path for path in GOLDEN.rglob("*") if path.is_file()} <= found
