"""``llara gc --volume`` as a pod runs it: alone, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llara_core.errors import ConfigError
from llara_core.operations.retention import DAY
from llara_core.operations_settings import RetentionSettings
from pipelines.gc_volume import VolumePlan
from tests.retention_folders import folder

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = RetentionSettings(volume_days=1)
# Whatever a pod without rights cannot have. Named so that importing them would be told.
ALONE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("zenml", "mlflow", "torch", "transformers"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refused())
from pipelines import gc
sys.argv = ["gc", *sys.argv[1:]]
gc.app()
"""


def old(place: Path) -> Path:
    made = folder(place)
    moment = time.time() - 100 * DAY
    for one in (*made.rglob("*"), made):
        os.utime(one, (moment, moment))
    return made


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    old(tmp_path / "volume" / "adapt" / "run-0123456789ab")
    old(tmp_path / "volume" / "requests" / "adapt-0123456789abcdef")
    (tmp_path / "volume" / "finetune" / "run-0123456789ab").mkdir(parents=True)
    return tmp_path / "volume"


def gc(*arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        cwd=REPOSITORY, env=kept, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_dry_run_tells_and_apply_deletes(volume: Path) -> None:
    told = gc("--volume", str(volume), "--all")
    assert told.returncode == 0, told.stderr
    assert "would delete  checkpoints" in told.stdout and "adapt/run-0123456789ab" in told.stdout
    assert "finetune/run-0123456789ab: younger than 7 days" in told.stdout
    assert told.stdout.endswith("Nothing was deleted; the same with --apply does it.\n")
    assert (volume / "adapt" / "run-0123456789ab").is_dir()
    done = gc("--volume", str(volume), "--apply", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row["deleted"] for row in json.loads(done.stdout)["items"]}
    assert rows == {
        "adapt/run-0123456789ab": True,
        "finetune/run-0123456789ab": False,
        "requests/adapt-0123456789abcdef": True,
    }
    assert sorted(path.name for path in volume.rglob("*")) == [
        "adapt", "finetune", "requests", "run-0123456789ab",
    ]  # fmt: skip


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = gc("--volume", "/nowhere/mounted")
    assert done.returncode == 2
    assert done.stderr.startswith("llara: --volume /nowhere/mounted: no such folder")
    with pytest.raises(ConfigError, match="no such folder"):
        VolumePlan(SETTINGS, [tmp_path, Path("/nowhere")], time.time())


def test_several_volumes_are_told_apart(volume: Path, tmp_path: Path) -> None:
    """Things of one name on both: what is in use on one goes from the other."""
    other = tmp_path / "other"
    old(other / "adapt" / "run-0123456789ab")
    with (volume / "adapt" / "run-0123456789ab" / "file.bin").open("rb"):
        done = gc("--volume", str(volume), "--volume", str(other), "--apply", "--json")
    rows = [row for row in json.loads(done.stdout)["items"] if row["name"] == "adapt/run-0123456789ab"]
    assert [row["deleted"] for row in rows] == [False, True]
    assert (volume / "adapt" / "run-0123456789ab").is_dir()
    assert not (other / "adapt" / "run-0123456789ab").exists()


def test_what_another_node_has_begun_to_use_since_the_list_was_made_stays(volume: Path) -> None:
    plan = VolumePlan(SETTINGS, [volume], time.time())
    going = {item.kind: item for item in plan.items if item.keep is None}
    request, training = going["request"], going["checkpoints"]
    assert request.path is not None and training.path is not None
    (training.path / "step-9").mkdir()
    (request.path / "request.json").write_text("{}")  # the same is asked for again
    assert plan.delete(training) == "younger than 1 days"
    assert plan.delete(request) == "younger than 1 days"
    assert training.path.is_dir() and request.path.is_dir()
