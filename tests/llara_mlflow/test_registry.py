"""``Retriever.from_registry`` against a real MLflow registry, its files here or in a store far away."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llara_core.errors import ConfigError, MissingDependencyError, ModelError
from llara_core.model import registries
from llara_core.model.bundle import read_bundle
from llara_core.model.retriever import Retriever
from llara_mlflow import cache
from llara_mlflow.versions import ROLLED_BACK, without_secrets
from tests.registered_champion import NAME, Champion, champion

REPOSITORY = Path(__file__).resolve().parents[2]
MLFLOW = EntryPoint("mlflow", "llara_mlflow.registry:fetch", registries.GROUP)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The entry point as an installation makes it, and a cache of the test's own."""
    monkeypatch.setattr(registries, "entry_points", lambda group: EntryPoints([MLFLOW]))
    monkeypatch.setenv("LLARA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registry() -> Champion:
    return champion()


class FarAway:
    """A store on another machine, as far as MLflow can tell; counts what is fetched, and fails when told."""

    fetched: int = 0
    broken: str = ""

    @classmethod
    def reset(cls) -> None:
        cls.fetched, cls.broken = 0, ""


@pytest.fixture
def far(registry: Champion, tmp_path: Path) -> Iterator[Champion]:
    """Version 1 of the model ``far``, whose files lie in a store with the scheme ``faraway``."""
    from mlflow.store.artifact import artifact_repository_registry as known
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    class Repository(ArtifactRepository):
        def log_artifact(self, *_: Any) -> None:
            raise NotImplementedError

        log_artifacts = list_artifacts = _download_file = log_artifact

        def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
            FarAway.fetched += 1
            target = Path(str(dst_path)) / artifact_path / "bundle"
            shutil.copytree(registry.base, target)
            if FarAway.broken == "half":
                (target / "model.safetensors").write_bytes(b"half")
            if FarAway.broken == "away":
                raise OSError("the store is gone")
            return str(target.parent)

    FarAway.reset()
    known._artifact_repository_registry.register("faraway", Repository)
    registry.client.create_registered_model("far")
    tags = {"fingerprint": read_bundle(registry.base).fingerprint}
    registry.client.create_model_version("far", "faraway://store/1", tags=tags)
    registry.client.set_registered_model_alias("far", "champion", "1")
    yield registry
    registry.client.delete_registered_model("far")


def test_the_champion_is_opened_where_it_lies(registry: Champion, tmp_path: Path) -> None:
    opened = Retriever.from_registry(NAME, tracking_uri=registry.uri, device="cpu")
    assert str(opened.source) == f"models:/{NAME}/1 (champion)"
    assert opened.source.registry == registry.uri
    assert opened.source.fingerprint == opened.fingerprint == read_bundle(registry.base).fingerprint
    wanted = Retriever.from_pretrained(registry.base, "cpu")
    assert str(wanted.source) == str(registry.base)
    texts = ["open a file", "return the sum"]
    np.testing.assert_array_equal(opened.encode_queries(texts), wanted.encode_queries(texts))
    assert not (tmp_path / "cache").exists()  # its store is on this machine: nothing to copy
    by_number = Retriever.from_registry(NAME, version=1, tracking_uri=registry.uri, device="cpu")
    assert str(by_number.source) == f"models:/{NAME}/1"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "llara-retreiver"}, ["no model 'llara-retreiver'", "did you mean 'llara-retriever'?"]),
        ({"alias": "champoin"}, ["no such alias", "@champion (version 1)", "did you mean 'champion'?"]),
        ({"version": 7}, ["no such version", "versions: 1"]),
        ({"name": "a/b"}, ["expected models:/NAME@ALIAS or models:/NAME/VERSION"]),
        ({"version": "newest"}, ["expected models:/NAME@ALIAS or models:/NAME/VERSION"]),
    ],
)
def test_what_the_registry_lacks_is_told_with_what_it_has(
    registry: Champion, asked: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        Retriever.from_registry(**{"name": NAME, "tracking_uri": registry.uri, **asked})
    for word in words:
        assert word in str(refused.value)


def test_a_version_from_far_away_is_fetched_once(far: Champion, tmp_path: Path) -> None:
    first = Retriever.from_registry("far", tracking_uri=far.uri, device="cpu")
    again = Retriever.from_registry("far", tracking_uri=far.uri, device="cpu")
    assert FarAway.fetched == 1 and first.source.folder == again.source.folder
    assert (tmp_path / "cache") in first.source.folder.parents
    assert first.fingerprint == read_bundle(far.base).fingerprint
    left = [path.name for path in (tmp_path / "cache").rglob(".*")]
    assert left == []
    # The alias is asked every time.
    far.client.create_model_version("far", "faraway://store/2", tags={})
    far.client.set_registered_model_alias("far", "champion", "2")
    assert Retriever.from_registry("far", tracking_uri=far.uri, device="cpu").source.version == "2"
    assert FarAway.fetched == 2


def test_many_at_once_fetch_once(far: Champion) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(Retriever.from_registry, "far", tracking_uri=far.uri) for _ in range(4)]
        opened = [job.result() for job in jobs]
    assert FarAway.fetched == 1
    vectors = [one.encode_queries(["open a file"]) for one in opened]
    for found in vectors[1:]:
        np.testing.assert_array_equal(found, vectors[0])


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        ("half", ModelError, "has 4 bytes, expected"),
        ("away", ConfigError, "cannot be fetched .the store is gone"),
    ],
)
def test_what_is_not_whole_never_appears(
    far: Champion, tmp_path: Path, broken: str, error: type[Exception], words: str
) -> None:
    FarAway.broken = broken
    with pytest.raises(error, match=words):
        Retriever.from_registry("far", tracking_uri=far.uri)
    assert list((tmp_path / "cache").rglob("llara.json")) == []
    FarAway.broken = ""
    assert Retriever.from_registry("far", tracking_uri=far.uri, device="cpu").source.version == "1"


def test_another_model_under_the_same_number_is_refused(far: Champion) -> None:
    far.client.set_model_version_tag("far", "1", "fingerprint", "f" * 64)
    with pytest.raises(ModelError, match="fingerprint ffffffffffffffffffff, its files"):
        Retriever.from_registry("far", tracking_uri=far.uri)


def test_a_damaged_copy_is_fetched_anew(far: Champion, caplog: pytest.LogCaptureFixture) -> None:
    folder = Retriever.from_registry("far", tracking_uri=far.uri, device="cpu").source.folder
    assert folder is not None
    (folder / "config.json").write_text("{}")
    again = Retriever.from_registry("far", tracking_uri=far.uri, device="cpu")
    assert FarAway.fetched == 2 and "it is fetched anew" in caplog.text
    assert again.encode_queries(["a"]).shape == (1, 32)


def test_without_the_registry_a_version_of_the_cache_serves(
    far: Champion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that went away: its address answers nothing, and MLflow's client would try for minutes."""
    away = "http://user:secret@127.0.0.1:9"
    with pytest.raises(ConfigError, match=r"nothing answers at http://127.0.0.1:9; .*holds no version of it"):
        Retriever.from_registry("far", tracking_uri=away)
    kept = Retriever.from_registry("far", tracking_uri=far.uri, device="cpu").source.folder
    assert kept is not None
    theirs, ours = (cache.place_of(one, "far") for one in (without_secrets(away), far.uri))
    shutil.copytree(ours, theirs)  # as if that server had been asked when it was there
    with pytest.raises(ConfigError, match="cache holds version 1: take one with version='1'") as refused:
        Retriever.from_registry("far", tracking_uri=away)
    assert "secret" not in str(refused.value)
    opened = Retriever.from_registry("far", version=1, tracking_uri=away, device="cpu")
    assert opened.source.folder == theirs / kept.relative_to(ours)
    assert "taking the copy of" in caplog.text and "secret" not in caplog.text
    nowhere = tmp_path / "none.db"
    with pytest.raises(ConfigError, match=r"there is no database .*none.db; say where"):
        Retriever.from_registry("far", tracking_uri=f"sqlite:///{nowhere}")
    assert not nowhere.exists()


def test_a_version_that_was_taken_back_is_opened_with_a_warning(
    registry: Champion, caplog: pytest.LogCaptureFixture
) -> None:
    registry.client.set_model_version_tag(NAME, "1", ROLLED_BACK, "2026-11-30: slow answers")
    try:
        with caplog.at_level(logging.WARNING):
            Retriever.from_registry(NAME, tracking_uri=registry.uri, device="cpu")
    finally:
        registry.client.delete_model_version_tag(NAME, "1", ROLLED_BACK)
    assert "it was rolled back (2026-11-30: slow answers)" in caplog.text


def test_a_version_of_somebody_else_is_no_bundle(registry: Champion, tmp_path: Path) -> None:
    registry.client.create_registered_model("foreign")
    registry.client.create_model_version("foreign", tmp_path.as_uri())
    with pytest.raises(ModelError, match="holds no bundle of ours"):
        Retriever.from_registry("foreign", version=1, tracking_uri=registry.uri)


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no kind of registry is called 'mlfow'; did you mean 'mlflow'?"):
        registries.fetch("a", alias="b", version=None, tracking_uri=None, registry="mlfow")
    monkeypatch.setattr(
        registries, "entry_points", lambda group: EntryPoints([EntryPoint("hub", "llara_hub:fetch", group)])
    )
    with pytest.raises(MissingDependencyError, match=r"llara_hub.*pip install 'llara\[hub\]'"):
        registries.fetch("a", alias="b", version=None, tracking_uri=None, registry="hub")
    monkeypatch.setattr(registries, "entry_points", lambda group: EntryPoints())
    with pytest.raises(MissingDependencyError, match=r"no entry point in the group llara.registries"):
        Retriever.from_registry(NAME)


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """As pip leaves it: a dist-info with the entry points of pyproject.toml; in a process of its own."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"][registries.GROUP]
    info = tmp_path / "site" / "somebody-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in {**points, "planted": "planted:fetch"}.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registries.GROUP}]", *lines]) + "\n")
    planted = """
        from pathlib import Path
        from llara_core.model.registries import Source
        def fetch(name, alias, version, tracking_uri):
            return Source(Path("/somewhere"), name, "7", alias, tracking_uri)
    """
    (tmp_path / "site" / "planted.py").write_text(textwrap.dedent(planted))
    script = """
        import sys
        from llara_core.model import registries
        from importlib.metadata import entry_points
        print(registries.fetch("m", alias="best", version=None, tracking_uri="x", registry="planted"))
        print({one.name: one.value for one in entry_points(group=registries.GROUP)}["mlflow"])
        assert "mlflow" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120,
        env={"PYTHONPATH": f"{REPOSITORY}:{tmp_path / 'site'}", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["models:/m/7 (best)", points["mlflow"]]
