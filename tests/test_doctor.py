"""Every check of the doctor, made to fail: it must say what to do."""

from __future__ import annotations

import collections
import socket

import pytest

from llara_core import doctor

Usage = collections.namedtuple("Usage", "total used free")


def by_name(checks):
    return {check.name: check for check in checks}


@pytest.fixture
def versions(monkeypatch):
    """Installed versions, to change at will."""
    real, changed = doctor.version, {}
    monkeypatch.setattr(doctor, "version", lambda name: changed.get(name, real(name)))
    return changed


def test_checks_cover_what_can_be_wrong(tmp_path):
    names = [check.name for check in doctor.examine(tmp_path)]
    assert names == [
        "python", "packages", "threads", "memory", "gpu", "faiss", "pipeline", "stack", "tracking", "disk",
    ]  # fmt: skip


def test_missing_package(tmp_path, versions):
    versions["peft"] = None
    check = by_name(doctor.examine(tmp_path))["packages"]
    assert not check.ok and check.found == "missing: peft" and "pip install" in check.advice


def test_both_builds_of_faiss(tmp_path, versions):
    versions.update({"faiss-cpu": "1", "faiss-gpu": "2"})
    check = by_name(doctor.examine(tmp_path))["faiss"]
    assert not check.ok and "pip uninstall" in check.advice


@pytest.mark.parametrize("cpu", ["1.15", None])
def test_one_or_no_faiss_is_fine(tmp_path, versions, cpu):
    versions.update({"faiss-cpu": cpu, "faiss-gpu": None})
    assert by_name(doctor.examine(tmp_path))["faiss"].ok


def test_half_a_pipeline(tmp_path, versions):
    versions["mlflow"] = None
    check = by_name(doctor.examine(tmp_path))["pipeline"]
    assert not check.ok and "llara[pipeline]" in check.advice


def test_too_many_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    check = by_name(doctor.examine(tmp_path))["threads"]
    assert not check.ok and "export OMP_NUM_THREADS=" in check.advice


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _folder: Usage(10, 9, 10**9))
    check = by_name(doctor.examine(tmp_path))["disk"]
    assert not check.ok and check.advice.startswith("free 2.0 GB")


def test_unreachable_server_is_named_without_its_password(tmp_path, monkeypatch):
    with socket.socket() as taken:  # bound, but nobody listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}")
        check = by_name(doctor.examine(tmp_path))["tracking"]
    assert not check.ok and "cannot be reached" in check.found and "MLFLOW_TRACKING_URI" in check.advice
    assert "secret" not in check.found + check.advice


def test_reachable_server(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert by_name(doctor.examine(tmp_path))["tracking"].ok


def test_the_stack_is_looked_for_where_zenml_keeps_it(monkeypatch, tmp_path):
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    stack = lambda: next(one for one in doctor.examine() if one.name == "stack")  # noqa: E731
    assert "not set up yet" in stack().found and "make run" in stack().found
    (tmp_path / "zenml").mkdir()
    assert stack().found == f"state in {tmp_path / 'zenml'}"
    monkeypatch.setattr(doctor, "version", lambda name: None)
    assert "without the extra `pipeline`" in stack().found
