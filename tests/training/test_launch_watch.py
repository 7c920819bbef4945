"""A launcher that is watched: words passed on, the right error raised, nobody left behind.

The launchers here are small scripts that do what torchrun and its processes do, without torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llara_core.errors import DataError, LlaraError, TrainingError
from llara_core.training.launch_watch import watch
from llara_core.training.launched import _tell

ROOT = Path(__file__).resolve().parents[2]
ROOT_CAUSE = """\
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  host      : here
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4711)
"""


def run(folder: Path, script: str, on_log: object = None) -> None:
    program = "import sys, time\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n" + textwrap.dedent(
        script
    )
    watch([sys.executable, "-c", program, str(folder)], folder, os.environ, on_log, "adapt")  # type: ignore[arg-type]


def test_words_and_curve_come_as_they_are_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    curve: list[tuple[int, dict[str, float]]] = []
    run(
        tmp_path,
        """
        (folder / "process-0.log").write_text("adapt: 1/2 steps\\nhalf a li")
        (folder / "curve.jsonl").write_text('[1, {"loss": 2.5}]\\n')
        time.sleep(0.8)
        (folder / "process-0.log").open("a").write("ne\\n")
        (folder / "curve.jsonl").open("a").write('[2, {"loss": 1.5}]\\n')
        """,
        lambda step, values: curve.append((step, values)),
    )
    assert capfd.readouterr().err == "adapt: 1/2 steps\nhalf a line\n"
    assert curve == [(1, {"loss": 2.5}), (2, {"loss": 1.5})]


def test_a_childs_own_error_is_raised_by_its_name_not_the_first_that_was_told(tmp_path: Path) -> None:
    _tell(tmp_path, 0, RuntimeError("[pair.cc:1] Connection closed by peer [127.0.0.1]:4711"))
    _tell(tmp_path, 1, DataError("the split 'train' does not exist", file="c", rule="known"))
    _tell(tmp_path, 2, TrainingError("the main process failed: the split"))
    with pytest.raises(DataError, match=r"^c: the split 'train' does not exist \[known\]$"):
        run(tmp_path, "sys.exit(1)")


def test_an_error_of_another_kind_is_told_in_one_line_with_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "process-1.log").write_text("Traceback\nRuntimeError: CUDA out of memory\n")
    _tell(tmp_path, 1, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"))
    with pytest.raises(TrainingError) as caught:
        run(tmp_path, "sys.exit(1)")
    assert str(caught.value).splitlines() == [
        "adapt: process 1 failed with RuntimeError: CUDA out of memory. Tried to allocate 2 GiB; "
        "the last it said:", "  Traceback", "  RuntimeError: CUDA out of memory",
    ]  # fmt: skip


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    _tell(tmp_path, 0, RuntimeError("Connection reset by peer"))
    with pytest.raises(TrainingError, match=r"process 1 was killed \(SIGKILL\).*goes on from it"):
        run(tmp_path, f"print({ROOT_CAUSE!r}); sys.exit(1)")


def test_a_lost_machine_is_told_from_an_error_here(tmp_path: Path) -> None:
    _tell(tmp_path, 0, RuntimeError("Connection closed by peer"))
    with pytest.raises(TrainingError, match=r"process 0 lost another one.*its machine may have gone"):
        run(tmp_path, "sys.exit(1)")


def test_processes_that_do_not_find_each_other(tmp_path: Path) -> None:
    said = (
        "torch.distributed.DistStoreError: Timed out after 5 seconds waiting for clients. 1/2 clients joined."
    )
    with pytest.raises(TrainingError, match=r"did not all come together in time[\s\S]*1/2 clients joined"):
        run(tmp_path, f"print({said!r}); sys.exit(1)")


def test_a_launcher_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"exit code 3; the last it said:\n  ValueError: no such option"):
        run(tmp_path, "print('ValueError: no such option'); sys.exit(3)")


STUBBORN = """
import subprocess, sys, time
from pathlib import Path
from llara_core.training.launch_watch import watch
folder = Path(sys.argv[1])
child = '''
import os, signal, sys, time
from pathlib import Path
from llara_core.training.launched import _end_with_launcher
_end_with_launcher(Path(sys.argv[1]) / "alive.lock")
Path(sys.argv[1], "pid").write_text(str(os.getpid()))
time.sleep(60)
'''
launcher = f'''
import subprocess, sys
subprocess.run([sys.executable, "-c", {child!r}, sys.argv[1]], start_new_session=True)
'''
import os
watch([sys.executable, "-c", launcher, str(folder)], folder, os.environ)
"""


def gone(pid: int, within: float = 60.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True  # dead, and nobody has asked how
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_launched_it(tmp_path: Path, how: signal.Signals) -> None:
    """However it ends: the child is in a session of its own, as torchrun's are, so no signal reaches it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until and parent.poll() is None
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
        assert not gone(child, within=1.5)  # while the parent lives, so does the child
        parent.send_signal(how)
        parent.wait(60)
        assert gone(child)
    finally:
        parent.kill()
        parent.wait()


def test_every_error_survives_the_way_as_json(tmp_path: Path) -> None:
    _tell(tmp_path, 0, LlaraError("é — «ü»"))
    assert json.loads((tmp_path / "failure-0.json").read_text())["message"] == "é — «ü»"
    with pytest.raises(LlaraError, match="é — «ü»"):
        run(tmp_path, "sys.exit(1)")
