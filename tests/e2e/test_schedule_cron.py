"""Debian's own cron starts a training run: in a mount namespace, so that nothing of the machine's changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SETTINGS, write_tiny_beir

ROOT = Path(__file__).resolve().parents[2]
SPOOL = "/var/spool/cron/crontabs"
NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# The machine's own jobs are hidden too: only ours shall run.
SCRIPT = f"""
set -e
mount -t tmpfs -o mode=1730 tmpfs {SPOOL}
chgrp crontab {SPOOL}
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
[ ! -d /etc/cron.d ] || mount -t tmpfs tmpfs /etc/cron.d
[ ! -f /etc/crontab ] || mount --bind /dev/null /etc/crontab
printf 'A_LINE=of the user\\n' | crontab -
"$0" -m llara_core.cli schedule apply --folder "$1"
crontab -l > "$2"
"$0" -m llara_core.cli schedule apply --folder "$1"
crontab -l > "$3"
exec cron -f
"""


def unusable() -> str | None:
    """Why this machine cannot show it; None: it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "a mount namespace needs Linux and root"
    for command in ("cron", "crontab", "unshare"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if not Path(SPOOL).is_dir():
        return "not Debian's cron"
    probe = subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", SPOOL], capture_output=True, check=False
    )
    return "no mount namespaces here" if probe.returncode else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_cron_starts_what_is_due(tmp_path: Path) -> None:
    if reason := unusable():
        pytest.skip(reason)
    write_tiny_beir(tmp_path / "tiny")
    config = tmp_path / "run.yaml"
    config.write_text(SETTINGS + f"  collection: {{source: {tmp_path / 'tiny'}}}\n")
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "often.yaml").write_text(
        f"pipeline: training\nconfig: {config}\ncron: '* * * * *'\ntimezone: Asia/Kathmandu\n"
    )
    local = tmp_path / "local"
    dropped = ("LLARA_", "ZENML_", "MLFLOW_", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"LLARA_LOCAL": str(local), "LLARA_PROJECT": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = own_crontab()
    output = (tmp_path / "daemon.txt").open("wb")
    command = [
        *NAMESPACE,
        "sh",
        "-c",
        SCRIPT,
        sys.executable,
        tmp_path / "schedules",
        tmp_path / "1",
        tmp_path / "2",
    ]
    daemon = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
    try:
        state = wait_for_end(daemon, local / "schedules" / "often.state.json")
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        output.close()
    log = (local / "logs" / "schedule-often.log").read_text()
    assert state["code"] == 0, log
    assert "+0545" in log
    assert "Starting: " in log
    assert (local / "mlflow" / "mlflow.db").exists()
    first = (tmp_path / "1").read_bytes()
    assert b"A_LINE=of the user\n# BEGIN llara" in first
    assert (tmp_path / "2").read_bytes() == first
    assert own_crontab() == before


def wait_for_end(daemon: subprocess.Popen[bytes], file: Path) -> dict[str, object]:
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        assert daemon.poll() is None, "cron has ended"
        if file.exists():
            state: dict[str, object] = json.loads(file.read_text())
            if state["ended"]:
                return state
        time.sleep(1)
    raise AssertionError("cron has not run the schedule")


def own_crontab() -> bytes:
    return subprocess.run(["crontab", "-l"], capture_output=True, check=False).stdout
