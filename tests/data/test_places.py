"""Opening places: every packing, and every kind of file not to be trusted (issue 5, points 1 and 8)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import fsspec
import pytest
import zstandard

from llara_core.data.places import Damaged, Limits, open_place, open_seekable, read_lines
from llara_core.data.places_unpack import packing_in
from llara_core.errors import DataError

TEXT = b"".join(b'{"_id": "%d", "text": "row %d"}\n' % (row, row * 7919) for row in range(5000))
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
PACKINGS = [suffix for suffix in PACK if suffix]


def pack(data: bytes, suffix: str) -> bytes:
    return PACK[suffix](data)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(place: str | Path, **options: Limits) -> DataError:
    with pytest.raises(DataError) as caught, open_place(place, **options) as stream:
        while stream.read1(1 << 16):
            pass
    return caught.value


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", ["path", "text", "file", "memory", "zip"])
def test_every_packing_opens_everywhere(tmp_path, suffix, kind):
    name = f"rows.jsonl{suffix}"
    packed = pack(TEXT, suffix)
    file = write(tmp_path / name, packed)
    place: str | Path = file
    if kind == "text":
        place = str(file)
    elif kind == "file":
        place = f"file://{file}"
    elif kind == "memory":
        place = f"memory://{tmp_path.name}/{kind}/{name}"
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{kind}/{name}", packed)
    elif kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"in/{name}", packed)
        place = tmp_path / "a.zip" / "in" / name
    with open_place(place) as stream:
        assert stream.read() == TEXT
    with open_place(place) as stream:
        assert list(stream) == TEXT.splitlines(keepends=True)


@pytest.mark.parametrize("suffix", PACK)
def test_a_zip_in_a_store_is_read_where_it_lies(suffix):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"set/rows.jsonl{suffix}", pack(TEXT, suffix))
    fsspec.filesystem("memory").pipe("/zips/set.zip", buffer.getvalue())
    with open_place(f"memory://zips/set.zip/set/rows.jsonl{suffix}") as stream:
        assert stream.read() == TEXT


def test_an_upper_case_suffix_is_a_suffix(tmp_path):
    assert open_place(write(tmp_path / "A.JSONL.GZ", gzip.compress(TEXT))).read() == TEXT


@pytest.mark.parametrize("suffix", PACKINGS)
def test_several_members_are_one_file(tmp_path, suffix):
    """``cat a.gz b.gz`` and pigz, ``xz -T`` and pzstd make such files; tapes pad them with zeros."""
    data = pack(b"one\n", suffix) + pack(b"", suffix) + pack(b"two\n", suffix) + b"\0" * 512
    assert open_place(write(tmp_path / f"a{suffix}", data)).read() == b"one\ntwo\n"


def test_zstd_frames_that_hold_no_data_are_passed_over(tmp_path):
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    data = skippable + zstandard.compress(b"one\n") + skippable
    assert open_place(write(tmp_path / "a.zst", data)).read() == b"one\n"


@pytest.mark.parametrize("suffix", PACKINGS)
@pytest.mark.parametrize("keep", [0, 7, 0.3, 0.9, -1])
def test_a_cut_is_found_after_everything_before_it(tmp_path, suffix, keep):
    whole = pack(TEXT, suffix)
    length = int(len(whole) * keep) if isinstance(keep, float) else keep if keep >= 0 else len(whole) + keep
    file = write(tmp_path / f"cut.jsonl{suffix}", whole[:length])
    out = b""
    with pytest.raises(Damaged, match=r"data end early") as caught, open_place(file) as stream:
        while block := stream.read1(1000):
            out += block
    assert TEXT.startswith(out)
    assert (caught.value.file, caught.value.rule) == (file, "readable")
    if suffix == ".gz" and keep == 0.9:
        assert len(out) > 0.8 * len(TEXT)  # deflate gives as it takes


@pytest.mark.parametrize("suffix", PACKINGS)
def test_broken_bits_are_found(tmp_path, suffix):
    whole = bytearray(pack(os.urandom(100) + TEXT, suffix))
    middle = len(whole) // 2
    whole[middle : middle + 40] = bytes(byte ^ 0xFF for byte in whole[middle : middle + 40])
    with (
        pytest.raises(Damaged, match="data are damaged"),
        open_place(write(tmp_path / f"a{suffix}", whole)) as f,
    ):
        f.read()


@pytest.mark.parametrize("suffix", PACKINGS)
def test_bytes_after_the_end_are_found(tmp_path, suffix):
    file = write(tmp_path / f"a{suffix}", pack(b"one\n", suffix) + b"and something else")
    assert "bytes after the end" in str(refusal(file))


@pytest.mark.parametrize("suffix", PACKINGS)
def test_a_bomb_stops_soon(tmp_path, suffix):
    """64 MiB of zeros pack to 1:1000 and beyond; they are let go where little comes out, else not."""
    file = write(tmp_path / f"bomb.jsonl{suffix}", pack(bytes(64 << 20), suffix))
    error = refusal(file, limits=Limits(harmless=1 << 20))
    assert error.rule == "expansion" and "unpack it yourself" in str(error)
    with open_place(file) as stream:  # the default lets 64 MiB pass, whatever they were packed to
        assert sum(map(len, iter(lambda: stream.read1(1 << 20), b""))) == 64 << 20


@pytest.mark.parametrize("suffix", PACKINGS)
def test_what_comes_out_is_bounded_even_where_the_ratio_is_honest(tmp_path, suffix):
    noise = os.urandom(3 << 20)
    file = write(tmp_path / f"a{suffix}", pack(noise, suffix))
    assert refusal(file, limits=Limits(total=2 << 20)).rule == "expansion"
    assert open_place(file, limits=Limits(total=3 << 20)).read() == noise


@pytest.mark.parametrize("suffix", PACKINGS)
def test_a_bomb_in_a_zip_is_counted_against_the_zip(tmp_path, suffix):
    """Each layer keeps below its limit and both together do not: 1:150 in 1:150."""
    inner = pack(bytes(150_000) + os.urandom(500), suffix) * 100
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(f"a{suffix}", inner)
    limits = Limits(harmless=1 << 20, ratio=1000)
    with open_place(write(tmp_path / f"a{suffix}", inner), limits=limits) as stream:
        assert len(stream.read()) == 15_050_000
    assert refusal(tmp_path / "a.zip" / f"a{suffix}", limits=limits).rule == "expansion"


@pytest.mark.parametrize("outer", PACKINGS)
@pytest.mark.parametrize("inner", PACKINGS)
def test_packed_twice_is_refused_before_it_unfolds(tmp_path, inner, outer):
    file = write(tmp_path / f"a.jsonl{inner}{outer}", pack(pack(bytes(1 << 20), inner), outer))
    assert f"is packed twice: there is {inner} inside" in str(refusal(file))


def test_windows_and_dictionaries_are_bounded(tmp_path):
    wide = zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()  # the size stays untold
    long_window = write(tmp_path / "a.zst", compressor.compress(TEXT) + compressor.flush())
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20, "preset": 0}]
    big = lzma.compress(TEXT, format=lzma.FORMAT_XZ, filters=filters)
    for file in (long_window, write(tmp_path / "a.xz", big)):
        error = refusal(file)
        assert error.rule == "expansion" and "256 MiB of memory" in str(error)
    assert open_place(long_window, limits=Limits(memory=1 << 30)).read() == TEXT


@pytest.mark.parametrize("suffix", PACKINGS)
def test_a_file_is_what_its_name_says(tmp_path, suffix):
    plain = write(tmp_path / f"plain.jsonl{suffix}", TEXT)
    assert f"is named {suffix}, but its bytes are not" in str(refusal(plain))
    packed = write(tmp_path / f"packed{suffix}.jsonl", pack(TEXT, suffix))
    assert f"is packed as {suffix}; give it that suffix" in str(refusal(packed))


@pytest.mark.parametrize(
    "mode,name", [("w", "a.tar"), ("w:gz", "a.tar.gz"), ("w:xz", "a.tar.xz"), ("w:gz", "a.tgz")]
)
def test_tar_archives_are_refused_under_any_name(tmp_path, mode, name):
    """Nothing of them is unpacked, so that names like ``../../x`` cannot lead anywhere."""
    with tarfile.open(tmp_path / name, mode) as archive:
        for inside in ("../../outside.jsonl", "/etc/outside.jsonl"):
            member = tarfile.TarInfo(inside)
            member.size = len(TEXT)
            archive.addfile(member, io.BytesIO(TEXT))
    for shape in (name, name.replace(".tar", ".jsonl").replace(".tgz", ".jsonl.gz")):
        (tmp_path / name).rename(tmp_path / shape)
        assert "tar archive, which is not read; unpack it with `tar -x`" in str(refusal(tmp_path / shape))
        (tmp_path / shape).rename(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_archives_of_other_kinds_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", TEXT)
    assert "name a file in it" in str(refusal(tmp_path / "a.zip"))
    (tmp_path / "a.zip").rename(tmp_path / "a.jsonl")
    assert "give it the suffix .zip" in str(refusal(tmp_path / "a.jsonl"))
    assert "packed by bzip2" in str(refusal(write(tmp_path / "b.jsonl.bz2", bz2.compress(TEXT))))
    assert packing_in(b"Rar! is a word\n") == "" and packing_in(b"BZh is none\n") == ""


def test_a_damaged_member_of_a_zip_is_found_after_what_came_before(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:  # stored: every byte is in place
        archive.writestr("rows.txt", TEXT)
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[raw.index(b"row 7919") + 2] ^= 1
    (tmp_path / "a.zip").write_bytes(raw)
    with (
        pytest.raises(Damaged, match=r"the zip's data are damaged.*CRC"),
        open_place(tmp_path / "a.zip/rows.txt") as f,
    ):
        while f.read1(1000):
            pass


@pytest.mark.parametrize("suffix", PACK)
def test_damage_at_the_very_beginning_is_a_row_with_the_reason(tmp_path, suffix):
    """Opening looks at the first bytes; what it meets there is told by reading, as any other damage."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"a{suffix}", pack(TEXT, suffix))
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    start = 30 + len(f"a{suffix}")
    raw[start : start + 60] = b"\0" * 60
    (tmp_path / "a.zip").write_bytes(raw)
    (row,) = read_lines(tmp_path / "a.zip" / f"a{suffix}")
    assert row.fault is not None and row.fault.rule == "readable"
    assert row.fault.reason.startswith("cannot be read after row 0: the zip's data are damaged")


def test_seekable_files_are_plain_and_local_or_stored(tmp_path):
    file = write(tmp_path / "a.parquet", TEXT)
    fsspec.filesystem("memory").pipe("/seek/a.parquet", TEXT)
    for place in (file, "memory://seek/a.parquet"):
        with open_seekable(place) as stream:
            stream.seek(-5, os.SEEK_END)
            assert stream.read() == TEXT[-5:]
            stream.seek(100)
            assert (stream.read(10), stream.tell()) == (TEXT[100:110], 110)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(file, "a.parquet")
    with pytest.raises(DataError, match="a zip does not allow"):
        open_seekable(tmp_path / "a.zip" / "a.parquet")
    with open_seekable(tmp_path / "a.zip") as stream:
        assert stream.read(2) == b"PK"
        with pytest.raises(OSError):  # which is how zipfile tells a file that is too short
            stream.seek(-(10**9), os.SEEK_END)


def test_an_overlapping_zip_is_a_bomb_although_each_member_looks_honest(tmp_path):
    """One 5 MB member that the directory names 1,000 times."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.jsonl", bytes(500_000) + os.urandom(5000))
        member = archive.infolist()[0]
        for copy in range(1, 1000):
            twin = zipfile.ZipInfo(f"{copy}.jsonl")
            for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                setattr(twin, key, getattr(member, key))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    from llara_core.data.zips import zip_members

    with pytest.raises(DataError, match="claim to become 505,000,000") as caught:
        zip_members(tmp_path / "a.zip")
    assert caught.value.rule == "zip_size"
