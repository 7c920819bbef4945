"""Names of places, lists of files, and fingerprints: local, in zips and in stores (issue 5, points 1, 8)."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from llara_core.data.places import (
    Limits,
    exists,
    is_file,
    is_folder,
    join,
    list_files,
    open_place,
    place_fingerprint,
    plain_or_packed,
)
from llara_core.errors import DataError

FILES = {
    "corpus.jsonl.gz": b"c",
    "qrels/test.tsv": b"t",
    "qrels/train.tsv.zst": b"tr",
    "deep/er/wiki_00": b"w",
    "README.md": b"r",
    ".hidden.jsonl": b"h",
    ".git/x.jsonl": b"g",
}
SEEN = ["README.md", "corpus.jsonl.gz", "deep/er/wiki_00", "qrels/test.tsv", "qrels/train.tsv.zst"]


def lay(root: Path) -> Path:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(params=["folder", "zip", "in a zip", "memory", "zip in memory"])
def place(request, tmp_path) -> str:
    """The same files in five kinds of places."""
    root = lay(tmp_path / "root")
    prefix = "set/" if request.param == "in a zip" else ""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in FILES:
            archive.write(root / name, prefix + name)
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe(f"/{tmp_path.name}/{name}", data)
    memory.pipe(f"/{tmp_path.name}-zips/a.zip", (tmp_path / "a.zip").read_bytes())
    return {
        "folder": str(root),
        "zip": str(tmp_path / "a.zip"),
        "in a zip": str(tmp_path / "a.zip" / "set"),
        "memory": f"memory://{tmp_path.name}",
        "zip in memory": f"memory://{tmp_path.name}-zips/a.zip",
    }[request.param]


def test_files_are_listed_in_order_wherever_they_lie(place):
    assert list_files(place) == [join(place, name) for name in SEEN]
    assert list_files(Path(place), ["*.tsv", "wiki_*"]) == [join(place, name) for name in SEEN[2:]]
    assert list_files(place, ["qrels/*.tsv"]) == [join(place, name) for name in SEEN[3:]]
    assert list_files(place, ["*.jsonl"]) == [join(place, "corpus.jsonl.gz")]
    assert list_files(place, ["*.csv"]) == []
    assert list_files(join(place, "README.md")) == [join(place, "README.md")]
    with open_place(list_files(place, ["*.md"])[0]) as stream:
        assert stream.read() == b"r"


def test_what_there_is_can_be_asked(place):
    assert is_folder(place) and is_folder(join(place, "deep")) and is_file(join(place, "README.md"))
    assert exists(join(place, "qrels")) and not is_file(join(place, "qrels"))
    assert not is_folder(join(place, "README.md")) and not exists(join(place, "READ"))
    assert plain_or_packed(place, "corpus.jsonl") == join(place, "corpus.jsonl.gz")
    assert plain_or_packed(place, "queries.jsonl") is None


def test_what_is_not_there_is_said_to_be_missing(place):
    with pytest.raises(DataError) as caught:
        list_files(join(place, "nowhere"))
    assert caught.value.rule == "file_exists"
    with pytest.raises(DataError):
        place_fingerprint(join(place, "nowhere.jsonl"))


def test_the_number_of_files_is_bounded(place):
    with pytest.raises(DataError, match="more than 3 files; name a folder below") as caught:
        list_files(place, limits=Limits(files=3))
    assert caught.value.rule == "file_count"


def test_the_fingerprint_follows_content_and_names_not_the_place(tmp_path):
    one, two = lay(tmp_path / "one"), lay(tmp_path / "two" / "deeper")
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe(f"/prints/{name}", data)
    same = {place_fingerprint(one), place_fingerprint(two), place_fingerprint(f"file://{one}")}
    assert same == {place_fingerprint("memory://prints")} and len(same.pop()) == 64
    before = place_fingerprint(one)
    (one / ".hidden.jsonl").write_bytes(b"other")
    os.utime(one / "README.md", ns=(1, 1))
    assert place_fingerprint(one) == before
    for name, data in (("README.md", b"R"), ("corpus.jsonl.gz", b""), ("new", b"")):
        (one / name).write_bytes(data)
        assert place_fingerprint(one) != before
        before = place_fingerprint(one)
    (one / "new").rename(one / "newer")
    assert place_fingerprint(one) != before
    assert place_fingerprint(one / "README.md") == place_fingerprint(str(one / "README.md"))


def test_a_zips_fingerprint_is_of_the_whole_zip(tmp_path):
    prints = set()
    for content in ("x", "y"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("in/a.jsonl", content)
        prints |= {place_fingerprint(tmp_path / "a.zip"), place_fingerprint(tmp_path / "a.zip" / "in")}
    assert len(prints) == 4


def test_links_in_circles_end(tmp_path):
    root = lay(tmp_path / "root")
    (root / "deep" / "up").symlink_to(root)
    (root / "deep" / "self").symlink_to(root / "deep")
    (root / "qrels" / "a").symlink_to(root / "deep")
    found = [Path(file).relative_to(root).as_posix() for file in list_files(root, ["wiki_*"])]
    assert "deep/er/wiki_00" in found and "qrels/a/er/wiki_00" in found
    assert len(found) == len(set(found)) < 10


def test_links_outside_are_followed_once_each(tmp_path):
    root, outside = lay(tmp_path / "root"), lay(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    assert str(root / "linked" / "deep" / "er" / "wiki_00") in list_files(root)


def test_what_cannot_be_opened_is_listed_so_that_somebody_says_so(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / "pipe.jsonl")
    (root / "gone.jsonl").symlink_to("nowhere")
    (root / "a.jsonl").symlink_to("b.jsonl")
    (root / "b.jsonl").symlink_to("a.jsonl")
    rules = {}
    for file in list_files(root):
        with pytest.raises(DataError) as caught:
            open_place(file)
        rules[Path(file).name] = caught.value.rule
    assert rules == {
        "a.jsonl": "readable",
        "b.jsonl": "readable",
        "gone.jsonl": "file_exists",
        "pipe.jsonl": "regular_file",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    (tmp_path / "root" / "closed").mkdir(parents=True)
    (tmp_path / "root" / "closed").chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        list_files(tmp_path / "root")


def test_a_stores_folder_that_cannot_be_listed_is_named(monkeypatch):
    """fsspec's walk passes over such folders in silence; then rows would be missing."""
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.spec import AbstractFileSystem

    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(MemoryFileSystem, "find", AbstractFileSystem.find)
    memory.pipe("/shut/a/x.jsonl", b"{}")
    memory.pipe("/shut/b/y.jsonl", b"{}")
    honest = MemoryFileSystem.ls

    def ls(self, path, *args, **options):
        if path.rstrip("/").endswith("/b"):
            raise PermissionError("not yours")
        return honest(self, path, *args, **options)

    assert list_files("memory://shut") == ["memory://shut/a/x.jsonl", "memory://shut/b/y.jsonl"]
    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    with pytest.raises(DataError, match="access is denied"):
        list_files("memory://shut")
