"""Real S3 requests to a loopback server (moto): reading, listing, and what goes wrong (issue 5, point 1)."""

from __future__ import annotations

import gzip
import io
import lzma
import socket
import threading
import zipfile
from collections.abc import Iterator

import pytest
import zstandard

from llara_core.data.places import (
    exists,
    is_folder,
    list_files,
    open_place,
    open_seekable,
    place_fingerprint,
    plain_or_packed,
    read_json_lines,
)
from llara_core.errors import DataError

moto = pytest.importorskip("moto.server", reason="needs moto[s3]")
s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")

ROWS = b"".join(b'{"_id": "%d", "text": "row %d"}\n' % (row, row) for row in range(2000))
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(address, monkeypatch, tmp_path) -> Iterator[s3fs.S3FileSystem]:
    """A file system on the server; whoever opens ``s3://`` gets there by the environment, as users do."""
    settings = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
        "AWS_EC2_METADATA_DISABLED": "true",  # else drivers look for credentials on the network
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    if not files.exists("texts"):
        files.mkdir("texts")
    yield files
    files.rm("texts", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("suffix", PACK)
def test_every_packing_is_read(store, suffix):
    store.pipe(f"texts/a/rows.jsonl{suffix}", PACK[suffix](ROWS))
    found = list(read_json_lines(f"s3://texts/a/rows.jsonl{suffix}"))
    assert [row.record["text"] for row in found if row.record] == [f"row {row}" for row in range(2000)]
    assert b"".join(row.raw + b"\n" for row in found) == ROWS


def test_long_files_are_read_in_parts(store):
    data = ROWS * 300  # 20 MB: three requests
    store.pipe("texts/long.jsonl", data)
    with open_place("s3://texts/long.jsonl") as stream:
        assert stream.read() == data


def test_a_zip_is_read_where_it_lies(store):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/corpus.jsonl", ROWS)
        archive.writestr("../../out.jsonl", ROWS)
    store.pipe("texts/set.zip", buffer.getvalue())
    assert len(list(read_json_lines("s3://texts/set.zip/set/corpus.jsonl"))) == 2000
    assert list_files("s3://texts/set.zip") == ["s3://texts/set.zip/set/corpus.jsonl"]


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK" * 5000])
def test_what_is_called_a_zip_and_is_none_is_named(store, data):
    store.pipe("texts/text.zip", data)
    for doing in (list_files, open_place):
        with pytest.raises(DataError, match="cannot be read as a zip") as caught:
            doing("s3://texts/text.zip/a.jsonl")
        assert caught.value.rule == "readable_zip"


def test_files_are_listed_and_asked_for(store):
    for name in ("b/qrels/test.tsv", "b/corpus.jsonl.gz", "b/.hidden", "c/other.jsonl", "bb/no.jsonl"):
        store.pipe(f"texts/{name}", b"x")
    assert list_files("s3://texts/b") == ["s3://texts/b/corpus.jsonl.gz", "s3://texts/b/qrels/test.tsv"]
    assert list_files("s3://texts", ["*.jsonl"]) == [
        "s3://texts/b/corpus.jsonl.gz",
        "s3://texts/bb/no.jsonl",
        "s3://texts/c/other.jsonl",
    ]
    assert (
        is_folder("s3://texts/b") and exists("s3://texts/b/qrels/test.tsv") and not exists("s3://texts/none")
    )
    assert plain_or_packed("s3://texts/b", "corpus.jsonl") == "s3://texts/b/corpus.jsonl.gz"


def test_what_was_stored_since_is_seen(store):
    """Listings are cached by the driver; a file put there meanwhile must be found."""
    store.pipe("texts/d/one.jsonl", b"x")
    assert len(list_files("s3://texts/d")) == 1
    s3fs.S3FileSystem(skip_instance_cache=True).pipe("texts/d/two.jsonl", b"x")
    assert len(list_files("s3://texts/d")) == 2


def test_the_fingerprint_is_the_tag_and_costs_no_reading(store, monkeypatch):
    store.pipe("texts/e/a.jsonl", ROWS)
    store.pipe("texts/e/same.jsonl", ROWS)
    with monkeypatch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_open", lambda *_args, **_options: pytest.fail("it was read"))
        first = place_fingerprint("s3://texts/e/a.jsonl")
        assert first == place_fingerprint("s3://texts/e/same.jsonl") and len(first) == 64
        folder = place_fingerprint("s3://texts/e")
    s3fs.S3FileSystem(skip_instance_cache=True).pipe("texts/e/a.jsonl", ROWS.replace(b"row 7", b"row 8"))
    assert place_fingerprint("s3://texts/e/a.jsonl") != first
    assert place_fingerprint("s3://texts/e") != folder


@pytest.mark.parametrize("size", [100, 300])  # one request, and several, of which later ones are refused
def test_a_file_that_changes_while_it_is_read_is_found(store, size):
    store.pipe("texts/f.jsonl", ROWS * size)
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    with pytest.raises(DataError) as caught, open_place("s3://texts/f.jsonl") as stream:
        stream.read1(10)
        other.pipe("texts/f.jsonl", ROWS[::-1] * size)
        while stream.read1(1 << 20):
            pass
    assert caught.value.rule == "changed_while_read"


def test_parquet_is_read_here_and_there(store, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"row {row}" for row in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    store.pipe("texts/a.parquet", (tmp_path / "a.parquet").read_bytes())
    with open_seekable("s3://texts/a.parquet") as stream:
        assert pq.ParquetFile(stream).read_row_group(3).to_pydict()["text"][0] == "row 300"


@pytest.mark.parametrize("place", ["s3://texts/none.jsonl", "s3://no-such-bucket/a.jsonl"])
def test_what_is_not_there_is_said_to_be_missing(store, place):
    for doing in (open_place, list_files, place_fingerprint):
        with pytest.raises(DataError, match="no such bucket, folder or file") as caught:
            doing(place)
        assert (caught.value.rule, caught.value.file) == ("file_exists", place)


def test_a_folder_is_no_file(store):
    store.pipe("texts/g/a.jsonl", b"x")
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        open_place("s3://texts/g")


def test_missing_credentials_are_said_and_how_to_get_them(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"no credentials: .*AWS_PROFILE"):
        open_place("s3://texts/a.jsonl")


def quickly(monkeypatch) -> None:
    """Fail at once where the driver would try again for a while."""
    from fsspec.config import conf

    options = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 0}}}
    monkeypatch.setitem(conf, "s3", options)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_server_that_is_not_there_is_said(store, monkeypatch):
    quickly(monkeypatch)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(DataError, match="cannot be reached: is there a network") as caught:
            open_place("s3://texts/a.jsonl")
    assert caught.value.rule == "readable"


def test_a_server_that_never_answers_is_not_waited_for_forever(store, monkeypatch):
    quickly(monkeypatch)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DataError, match="did not answer in time"):
            open_place("s3://texts/a.jsonl")


def test_two_threads_read_at_once(store):
    for name in ("x", "y"):
        store.pipe(f"texts/h/{name}.jsonl", ROWS.replace(b"row", name.encode()) * 20)
    counts = {}

    def read(name: str) -> None:
        rows = read_json_lines(f"s3://texts/h/{name}.jsonl")
        counts[name] = sum(row.record is not None and row.record["text"].startswith(name) for row in rows)

    threads = [threading.Thread(target=read, args=(name,)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert counts == {"x": 40_000, "y": 40_000}
