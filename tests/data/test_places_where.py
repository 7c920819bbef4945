"""Names of places, and what stores say when they cannot be read (issue 5, point 1)."""

from __future__ import annotations

import gzip
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from llara_core.data.places import (
    as_text,
    bare_name,
    is_url,
    join,
    list_files,
    name_of,
    open_place,
    packing_of,
    place_fingerprint,
    read_json_lines,
    shown,
)
from llara_core.data.places_where import remote, unreachable
from llara_core.errors import DataError, MissingDependencyError


def test_names_of_places():
    assert as_text(Path("s3://bucket/a/b.jsonl")) == "s3://bucket/a/b.jsonl"  # Path swallowed a slash
    assert as_text(Path("file:///a/b")) == as_text("file:/a/b") == as_text("local:///a/b") == "/a/b"
    assert as_text("S3://Bucket/A") == "s3://Bucket/A"
    assert as_text("a:b/c") == "a:b/c" and as_text("hf:BeIR/scifact") == "hf:BeIR/scifact"
    assert as_text("C:/data/x") == "C:/data/x" and as_text("odd:/x") == "odd:/x"
    assert is_url("memory://x") and not is_url("file:///x") and not is_url(Path("x"))
    assert join("s3://bucket/a/", "b", "c.jsonl") == "s3://bucket/a/b/c.jsonl"
    assert join(Path("s3://bucket/a"), "b") == "s3://bucket/a/b" and join(Path("/a"), "b") == "/a/b"
    assert name_of("https://host/a/b.jsonl.gz?X-Signature=s/ecret") == "b.jsonl.gz"
    assert packing_of("https://host/a/b.JSONL.GZ?sig=1") == ".gz" and packing_of("a.zip") == ""
    assert bare_name("x/corpus.jsonl.zst") == "corpus.jsonl" and bare_name("x/corpus.jsonl") == "corpus.jsonl"
    assert packing_of("/a.gz/b.jsonl") == ""


def test_secrets_in_urls_are_never_shown():
    url = "https://me:pass@127.0.0.1:1/a.jsonl?X-Signature=secret"
    assert shown(url) == "https://127.0.0.1:1/a.jsonl?…"
    for doing in (open_place, list_files, place_fingerprint):
        with pytest.raises(DataError) as caught:
            doing(url)
        assert "pass" not in str(caught.value) and "secret" not in str(caught.value)
        assert "the store cannot be reached" in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense://a/b", "simplecache::s3://a/b", "zip://a.jsonl::memory://a.zip"])
def test_unknown_and_chained_urls_are_refused(url):
    with pytest.raises(DataError, match=r"expected a path or one of memory://, s3://") as caught:
        open_place(url)
    assert caught.value.rule == "known_place"


@pytest.mark.parametrize(
    "url,module,package",
    [
        ("s3://bucket/a.jsonl", "s3fs", r"pip install 'llara\[s3\]'"),
        ("gs://bucket/a.jsonl", "gcsfs", "pip install gcsfs"),
        ("abfs://box/a.jsonl", "adlfs", "pip install adlfs"),
        ("https://127.0.0.1:1/a.jsonl", "aiohttp", "pip install aiohttp"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, url, module, package):
    registry = sys.modules["fsspec.registry"]._registry
    for name in [name for name in registry if name in ("s3", "s3a", "gs", "gcs", "abfs", "http", "https")]:
        monkeypatch.delitem(registry, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    with pytest.raises(MissingDependencyError, match=package):
        open_place(url)


def test_hadoop_without_its_library_is_named(monkeypatch):
    import pyarrow.fs

    def no_library(*_args, **_options):
        raise OSError("Unable to load libjvm: dlopen failed\nand a hundred lines more")

    monkeypatch.setattr(pyarrow.fs, "HadoopFileSystem", no_library)
    with pytest.raises(MissingDependencyError, match=r"libhdfs.*HADOOP_HOME") as caught:
        open_place("hdfs://namenode/a.jsonl")
    assert "hundred" not in str(caught.value)


class NoCredentialsError(Exception):
    """Named as botocore's, which is not imported here."""


class ReadTimeoutError(Exception):
    """Likewise."""


class FileExpired(OSError):
    """Named as s3fs's: the tag changed between two reads."""


@pytest.mark.parametrize(
    "error,said,rule",
    [
        (NoCredentialsError("Unable to locate credentials"), "AWS_PROFILE", "readable"),
        (PermissionError("Forbidden"), "access is denied", "readable"),
        (ReadTimeoutError("too slow"), "did not answer in time", "readable"),
        (TimeoutError(), "did not answer in time", "readable"),
        (ConnectionResetError("reset"), "cannot be reached", "readable"),
        (FileNotFoundError("x"), "no such bucket, folder or file", "file_exists"),
        (FileExpired("etag"), "changed while it was read", "changed_while_read"),
        (ValueError("odd"), r"the store refused.*ValueError: odd", "readable"),
    ],
)
def test_errors_of_stores_say_what_to_do(error, said, rule):
    with pytest.raises(DataError, match=said) as caught:
        raise unreachable("s3://bucket/a.jsonl", error)
    assert (caught.value.rule, caught.value.file) == (rule, "s3://bucket/a.jsonl")


def test_an_error_in_the_middle_of_a_stored_file_is_told(monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    fsspec.filesystem("memory").pipe("/middle/a.jsonl", b'{"a": 1}\n' * 300_000)
    honest = MemoryFile.readinto1

    def readinto1(self, buffer):
        if self.tell() > 1 << 20:
            raise ConnectionResetError("peer went away")
        return honest(self, buffer)

    monkeypatch.setattr(MemoryFile, "readinto1", readinto1, raising=False)
    with pytest.raises(DataError, match=r"cannot be reached.*peer went away"):
        list(read_json_lines("memory://middle/a.jsonl"))


def test_a_stored_file_that_changes_is_found():
    memory = fsspec.filesystem("memory")
    memory.pipe("/change/a.jsonl", b'{"a": 1}\n' * 300_000)
    reading = read_json_lines("memory://change/a.jsonl")
    next(reading)
    memory.pipe("/change/a.jsonl", b'{"a": 2}\n')
    with pytest.raises(DataError) as caught:
        list(reading)
    assert caught.value.rule == "changed_while_read"


@pytest.fixture
def web(tmp_path) -> Iterator[str]:
    """A web server on this machine that serves the folder and knows no ranges."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **options):
            super().__init__(*args, directory=str(tmp_path), **options)

        def log_message(self, *_args):
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_web_server_is_a_store(web, tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1000))
    assert len(list(read_json_lines(f"{web}/a.jsonl.gz?token=x"))) == 1000
    with pytest.raises(DataError) as caught:
        open_place(f"{web}/none.jsonl")
    assert caught.value.rule == "file_exists"
    assert len(place_fingerprint(f"{web}/a.jsonl.gz")) == 64


def test_stores_are_not_asked_before_they_are_read():
    assert remote("memory://a/b").path == "/a/b"
