"""Folders as artifacts: moved into a local store, streamed into a remote one, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llara_core.errors import DataError
from steps import materializers
from steps.folder_reader import FolderReader
from steps.materializers import MANIFEST, FolderArtifact, FolderMaterializer
from tests.peak_memory import STATUS
from tests.steps.stores import make_store


@pytest.fixture(params=["local", "remote", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return make_store("memory", f"memory:///{tmp_path.name}-{os.getpid()}")
    (tmp_path / "store").mkdir()
    return make_store(request.param, str(tmp_path / "store"))


def made_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)) * 10)
    return folder


def artifact(tmp_path: Path) -> FolderArtifact:
    return FolderArtifact.of(made_folder(tmp_path), facts={"rows": 3})


def materializer_of(store: Any) -> FolderMaterializer:
    uri = f"{store.path}/artifact"
    store.makedirs(uri)
    return FolderMaterializer(uri, store)


def saved(store: Any, tmp_path: Path) -> FolderMaterializer:
    materializer = materializer_of(store)
    materializer.save(artifact(tmp_path))
    return materializer


def overwrite(store: Any, uri: str, text: str) -> None:
    with store.open(uri, "w") as sink:
        sink.write(text)


def test_round_trip(store: Any, tmp_path: Path) -> None:
    loaded = saved(store, tmp_path).load(FolderArtifact)
    assert (loaded.path / "a.txt").read_text() == "alpha"
    assert (loaded.path / "sub" / "b.bin").read_bytes() == bytes(range(256)) * 10
    assert loaded.facts == {"rows": 3}
    in_place = str(loaded.path).startswith(str(store.path))
    assert in_place == store.config.is_local


def test_what_is_stored_is_the_files_as_they_are(store: Any, tmp_path: Path) -> None:
    materializer = saved(store, tmp_path)
    with store.open(f"{materializer.uri}/content/sub/b.bin", "rb") as source:
        assert source.read() == bytes(range(256)) * 10


def test_a_local_store_takes_the_files_over(tmp_path: Path, store: Any) -> None:
    if not store.config.is_local:
        pytest.skip("a remote store gets a copy")
    made = artifact(tmp_path)
    inode = (made.path / "a.txt").stat().st_ino
    materializer = materializer_of(store)
    materializer.save(made)
    assert not made.path.exists()
    assert (materializer.load(FolderArtifact).path / "a.txt").stat().st_ino == inode


@pytest.mark.parametrize("given", [None, "hash-of-the-meaning"])
def test_the_manifest_knows_every_hash_whoever_worked_it_out(
    store: Any, tmp_path: Path, given: str | None
) -> None:
    from hashlib import sha256

    made = FolderArtifact.of(made_folder(tmp_path), given)
    assert all(("sha256" in one) == (given is None) for one in made.files.values())
    materializer = materializer_of(store)
    materializer.save(made)
    with store.open(f"{materializer.uri}/{MANIFEST}", "r") as source:
        manifest = json.loads(source.read())
    assert manifest["files"]["a.txt"] == {"bytes": 5, "sha256": sha256(b"alpha").hexdigest()}
    assert manifest["content_hash"] == made.content_hash == materializer.load(FolderArtifact).content_hash


def test_on_its_way_to_a_remote_store_a_file_is_read_once(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.config.is_local:
        pytest.skip("a local store moves")
    made = FolderArtifact.of(made_folder(tmp_path), "hash-of-the-meaning")
    monkeypatch.setattr(materializers, "_sha256", lambda path: pytest.fail(f"{path} is read once more"))
    materializer = materializer_of(store)
    materializer.save(made)
    materializer.load(FolderArtifact)


def test_a_file_that_changes_on_its_way_is_refused(store: Any, tmp_path: Path) -> None:
    if store.config.is_local:
        pytest.skip("a local store moves")
    made = artifact(tmp_path)
    (made.path / "a.txt").write_text("alphb")
    with pytest.raises(DataError, match="changed while it was stored"):
        materializer_of(store).save(made)


def test_a_cut_off_folder_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    materializer = saved(make_store("remote", str(tmp_path / "store")), tmp_path)
    Path(materializer.uri, MANIFEST).unlink()
    with pytest.raises(DataError, match="no manifest"):
        materializer.load(FolderArtifact)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for kind in ("local", "remote"):
        materializer = saved(make_store(kind, str(tmp_path / "store")), tmp_path)
        Path(materializer.uri, "content", "a.txt").unlink()
        with pytest.raises(DataError, match="stored file is missing"):
            materializer.load(FolderArtifact)


def test_a_shortened_file_is_noticed(store: Any, tmp_path: Path) -> None:
    materializer = saved(store, tmp_path)
    overwrite(store, f"{materializer.uri}/content/a.txt", "al")
    with pytest.raises(DataError, match="has 2 bytes, expected 5"):
        materializer.load(FolderArtifact)


def test_a_changed_byte_is_noticed_after_download(store: Any, tmp_path: Path) -> None:
    if store.config.is_local:
        pytest.skip("in place, sizes alone are checked")
    materializer = saved(store, tmp_path)
    overwrite(store, f"{materializer.uri}/content/a.txt", "alphb")
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


MEMORY = """
import sys
from pathlib import Path
from steps.materializers import FolderArtifact, FolderMaterializer
from tests.peak_memory import peak_kib
from tests.steps.stores import make_store

kind, place, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
(place / "store").mkdir()
(place / "made").mkdir()
with (place / "made" / "big").open("wb") as sink:
    for _ in range(size >> 20):
        sink.write(bytes(1 << 20))
store = make_store(kind, str(place / "store"))
before = peak_kib()
materializer = FolderMaterializer(f"{place}/store/artifact", store)
materializer.save(FolderArtifact.of(place / "made", "meaning"))
loaded = materializer.load(FolderArtifact)
assert (loaded.path / "big").stat().st_size == size
print(peak_kib() - before)
if kind == "remote":
    (loaded.path / "big").unlink()
"""


@pytest.mark.skipif(not STATUS.exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["local", "remote"])
def test_memory_does_not_grow_with_the_folder(kind: str, tmp_path: Path) -> None:
    """A folder of 192 MB, so one beyond any memory: nothing but a block is ever held."""
    size = 192 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, str(tmp_path), str(size)],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    grown = int(done.stdout.split()[-1]) * 1024
    assert grown < 32 << 20


def test_a_reader_needs_no_file_but_those_it_is_asked_for(store: Any, tmp_path: Path) -> None:
    materializer = saved(store, tmp_path)
    whole, reader = materializer.load(FolderArtifact), materializer.load(FolderReader)
    assert reader.content_hash == whole.content_hash and reader.facts == {"rows": 3}
    assert reader.file("a.txt").read_text() == "alpha"
    overwrite(store, f"{materializer.uri}/content/a.txt", "gone")
    again = reader if reader.local else materializer.load(FolderReader)
    with again.open("sub/b.bin") as source:
        source.seek(256)
        assert source.read(4) == b"\x00\x01\x02\x03"
    assert (again.folder("sub") / "b.bin").read_bytes() == bytes(range(256)) * 10
    with pytest.raises(KeyError):
        again.open("c.txt")


def test_a_reader_compares_what_it_fetches_whole(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    materializer = saved(make_store("remote", str(tmp_path / "store")), tmp_path)
    overwrite(materializer.artifact_store, f"{materializer.uri}/content/a.txt", "alphA")
    with pytest.raises(DataError, match="5 bytes"):
        materializer.load(FolderReader).file("a.txt")
