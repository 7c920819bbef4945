from __future__ import annotations

import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from zenml.artifact_stores.local_artifact_store import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType

from llara_core.errors import DataError
from steps.materializers import MANIFEST, FolderArtifact, FolderMaterializer


class RemoteConfig(LocalArtifactStoreConfig):
    """Files on this disk that the materializer must not touch by path."""

    @property
    def is_local(self) -> bool:
        return False


@pytest.fixture(params=[LocalArtifactStoreConfig, RemoteConfig], ids=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LocalArtifactStore:
    (tmp_path / "store").mkdir()
    now = datetime.datetime.now()
    return LocalArtifactStore(
        name="test",
        id=uuid4(),
        config=request.param(path=str(tmp_path / "store")),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=uuid4(),
        created=now,
        updated=now,
    )


def artifact(tmp_path: Path) -> FolderArtifact:
    folder = tmp_path / "made"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)) * 10)
    return FolderArtifact.of(folder, facts={"rows": 3})


def saved(store: LocalArtifactStore, tmp_path: Path) -> FolderMaterializer:
    uri = f"{store.path}/artifact"
    store.makedirs(uri)
    materializer = FolderMaterializer(uri, store)
    materializer.save(artifact(tmp_path))
    return materializer


def test_round_trip(store: LocalArtifactStore, tmp_path: Path) -> None:
    loaded = saved(store, tmp_path).load(FolderArtifact)
    assert (loaded.path / "a.txt").read_text() == "alpha"
    assert (loaded.path / "sub" / "b.bin").stat().st_size == 2560
    assert loaded.facts == {"rows": 3}
    in_place = loaded.path.is_relative_to(Path(store.path))
    assert in_place == store.config.is_local


def test_a_local_store_takes_the_files_over(tmp_path: Path, store: LocalArtifactStore) -> None:
    if not store.config.is_local:
        pytest.skip("a remote store gets a copy")
    made = artifact(tmp_path)
    inode = (made.path / "a.txt").stat().st_ino
    uri = f"{store.path}/artifact"
    store.makedirs(uri)
    materializer = FolderMaterializer(uri, store)
    materializer.save(made)
    assert not made.path.exists()
    assert (materializer.load(FolderArtifact).path / "a.txt").stat().st_ino == inode


def test_a_cut_off_folder_is_not_taken_for_whole(store: LocalArtifactStore, tmp_path: Path) -> None:
    materializer = saved(store, tmp_path)
    Path(materializer.uri, MANIFEST).unlink()
    with pytest.raises(DataError, match="no manifest"):
        materializer.load(FolderArtifact)


def test_a_shortened_file_is_noticed(store: LocalArtifactStore, tmp_path: Path) -> None:
    materializer = saved(store, tmp_path)
    Path(materializer.uri, "content", "a.txt").write_text("al")
    with pytest.raises(DataError, match="has 2 bytes, expected 5"):
        materializer.load(FolderArtifact)


def test_a_changed_byte_is_noticed_after_download(store: LocalArtifactStore, tmp_path: Path) -> None:
    if store.config.is_local:
        pytest.skip("in place, sizes alone are checked")
    materializer = saved(store, tmp_path)
    Path(materializer.uri, "content", "a.txt").write_text("alphb")
    with pytest.raises(DataError, match="SHA-256"):
        materializer.load(FolderArtifact)


def test_hash_is_of_names_and_content(tmp_path: Path) -> None:
    def made(name: str, file: str, text: str) -> FolderArtifact:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
        return FolderArtifact.of(tmp_path / name)

    first, same = made("1", "f", "x"), made("2", "f", "x")
    assert first.content_hash == same.content_hash
    assert first.content_hash != made("3", "g", "x").content_hash
    assert first.content_hash != made("4", "f", "y").content_hash


def test_an_empty_folder_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing or empty"):
        FolderArtifact.of(tmp_path)
