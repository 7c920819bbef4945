"""Who uses what: processes, locks, and what configurations name."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llara_core.operations.retention import Item, Use, remove
from llara_core.operations.retention_files import still_used
from llara_core.operations.retention_use import open_files, references, yaml_files_named
from tests.retention_folders import aged, folder, reasons, vectors

linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc on this system")


@linux
@pytest.mark.parametrize("way", ["open", "cwd", "mapped", "mapped by numpy"])
def test_what_another_process_uses_stays(tmp_path: Path, way: str) -> None:
    made = vectors(tmp_path)
    np.save(made / "vectors.npy", np.zeros((4, 4), np.float32))
    aged(made, 100)
    program = {
        "open": "f = open('file.bin')",
        "cwd": "pass",
        "mapped": "import mmap; f = open('file.bin', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close()",
        "mapped by numpy": "import numpy; m = numpy.load('vectors.npy', mmap_mode='r')",
    }[way]
    away = "" if way == "cwd" else "; import os; os.chdir('/')"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}{away}; print('ready', flush=True); input()"],
        cwd=made, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            words = f"open by process {process.pid}"
            aged(made, 100)
            assert list(reasons(tmp_path, Use(paths=open_files(tmp_path))).values()) == [words]
            item = Item("vectors", made.name, 1, 0.0, path=made)
            assert remove(item, lambda one: still_used(one, Use(paths=open_files(tmp_path)))) == words
            assert (made / "file.bin").exists()
        finally:
            process.communicate("")
    aged(made, 100)
    assert list(reasons(tmp_path, Use(paths=open_files(tmp_path))).values()) == [None]


def test_vectors_that_another_process_writes_stay(tmp_path: Path) -> None:
    made = folder(tmp_path / "vectors" / f".{'a' * 20}-{'c' * 20}-float16.partial")
    with (tmp_path / "vectors" / f".{'a' * 20}-{'c' * 20}-float16.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert list(reasons(tmp_path).values()) == ["another process writes it"]
        assert made.exists()
    assert list(reasons(tmp_path).values()) == [None]


def test_configurations_name_versions_aliases_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data" / "mine")
    (tmp_path / "configs" / "schedules").mkdir(parents=True)
    schedule = tmp_path / "configs" / "schedules" / "nightly.yaml"
    schedule.write_text("nightly: {cron: '0 3 * * *', run: [training, -c, configs/train.yaml]}\n")
    (tmp_path / "configs" / "train.yaml").write_text(
        "parameters:\n  model: {base: 'models:/llara-adapted/4'}\n  data: $PLACE\n"
        "  others: [models:/llara-retriever@champion, {models:/x/1: 2}]\n"
    )
    monkeypatch.setenv("PLACE", str(data))
    found = references([schedule, tmp_path / "gone.yaml"])
    assert found.versions == {"llara-adapted/4", "x/1"}
    assert found.aliases == {"llara-retriever@champion"}
    assert data in found.paths
    assert len(found.files) == 2
    crontab = f"0 3 * * * cd / && python -m pipelines training --config={schedule} >log\n# {schedule}x\n"
    assert set(yaml_files_named(crontab, tmp_path)) == {schedule}


def test_broken_configurations_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    assert references([broken]).versions == set()
    assert "cannot be read" in caplog.text
