"""Gzip is decoded completely and checked; bombs are refused before memory is taken."""

import gzip
import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import FileFormatError
from pipeline.io import files
from pipeline.io.files import (
    MAX_TRAILING_BYTES,
    beside,
    gunzip,
    gunzip_file,
    gunzip_head,
    hash_bytes,
    hash_file,
    inflate,
    read_bytes,
)

FILE = Path("volume.nii.gz")
CONTENT = np.random.default_rng(0).bytes(300_000)


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
def test_gunzip_returns_every_member(parts):
    content = b"".join(parts)
    raw = b"".join(gzip.compress(part) for part in parts)
    assert gunzip(raw, len(content), FILE) == content


@given(st.binary(max_size=2000), st.integers(0, 4000))
def test_gunzip_returns_the_content_whatever_the_header_promises(content, n_promised):
    assert gunzip(gzip.compress(content), n_promised, FILE) == content


def test_gunzip_accepts_zero_padding_and_an_empty_last_member():
    raw = gzip.compress(CONTENT)
    assert gunzip(raw + bytes(512), len(CONTENT), FILE) == CONTENT
    assert gunzip(raw + gzip.compress(b""), len(CONTENT), FILE) == CONTENT


@pytest.mark.parametrize("n_kept_fraction", [0.3, 0.9, 0.9999])
def test_truncated_gzip_is_named(n_kept_fraction):
    raw = gzip.compress(CONTENT)
    with pytest.raises(FileFormatError, match="truncated") as caught:
        gunzip(raw[: int(len(raw) * n_kept_fraction)], len(CONTENT), FILE)
    assert caught.value.check_id == "F03"


@pytest.mark.parametrize("position", [-8, -1, 5000])
def test_a_flipped_bit_is_found(position):
    raw = bytearray(gzip.compress(CONTENT))
    raw[position] ^= 1
    with pytest.raises(FileFormatError) as caught:
        gunzip(bytes(raw), len(CONTENT), FILE)
    assert caught.value.check_id == "F03"


def test_garbage_after_the_last_member_is_refused():
    with pytest.raises(FileFormatError) as caught:
        gunzip(gzip.compress(CONTENT) + b"garbage", len(CONTENT), FILE)
    assert caught.value.check_id == "F03"


def test_a_bomb_stops_at_the_promised_size():
    raw = gzip.compress(bytes(4 * MAX_TRAILING_BYTES))
    with pytest.raises(FileFormatError, match="far more data") as caught:
        gunzip(raw, 1000, FILE)
    assert caught.value.check_id == "F04"


def test_an_absurd_promise_allocates_nothing():
    # One exabyte: a buffer of that size cannot be had, so returning proves that none was asked for.
    assert gunzip(gzip.compress(CONTENT), 1 << 60, FILE) == CONTENT


def test_what_does_not_fit_into_memory_is_refused_beforehand(tmp_path, monkeypatch):
    file = tmp_path / "large.nii"
    with file.open("wb") as stream:
        stream.truncate(20 << 20)
    monkeypatch.setattr(files.psutil, "virtual_memory", lambda: type("M", (), {"available": 999}))
    with pytest.raises(FileFormatError, match="GiB") as caught:
        read_bytes(file)
    assert caught.value.check_id == "F06"


def test_head_is_decoded_without_the_rest():
    raw = gzip.compress(CONTENT)
    assert gunzip_head(raw[:5000], 352, FILE) == CONTENT[:352]
    with pytest.raises(FileFormatError):
        gunzip_head(b"\x1f\x8b\xff" + raw[3:], 352, FILE)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        read_bytes(tmp_path / "absent.nii")


def test_hash_depends_on_content_only(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(CONTENT)
    assert hash_file(tmp_path / "a") == hash_file(tmp_path / "b") == hash_bytes(CONTENT)
    assert hash_bytes(CONTENT[:10], CONTENT[10:]) == hash_bytes(CONTENT)
    assert hash_bytes(CONTENT[1:]) != hash_bytes(CONTENT)


@given(st.binary(max_size=2000), st.integers(0, 4000))
def test_inflate_takes_zlib_and_gzip(content, n_promised):
    assert inflate(zlib.compress(content), n_promised, FILE) == content
    assert inflate(gzip.compress(content), n_promised, FILE) == content


@pytest.mark.parametrize("position", [-2, 5000])
def test_inflate_finds_a_flipped_bit_and_a_missing_end(position):
    raw = bytearray(zlib.compress(CONTENT))
    raw[position] ^= 1
    for damaged in (bytes(raw), zlib.compress(CONTENT)[:-5]):
        with pytest.raises(FileFormatError) as caught:
            inflate(damaged, len(CONTENT), FILE)
        assert caught.value.check_id == "F03"


def test_many_small_members_do_not_take_quadratic_time():
    """Bgzip writes a member per 64 KiB; each used to copy all that was left of the file."""
    member = gzip.compress(np.random.default_rng(0).bytes(1000), 1)
    raw = member * 20_000
    started = time.perf_counter()
    assert len(gunzip(raw, 20_000_000, FILE)) == 20_000_000
    assert time.perf_counter() - started < 5  # 30 s and more before


@pytest.mark.parametrize(
    "name", ["../a.raw", "/etc/passwd", "a/b.raw", "..", "a\\b.raw", "a\0b", ""]
)
def test_a_data_file_lies_beside_its_header(tmp_path, name):
    assert beside(tmp_path / "a.mhd", "a.raw") == tmp_path / "a.raw"
    with pytest.raises(FileFormatError) as caught:
        beside(tmp_path / "a.mhd", name)
    assert caught.value.check_id == "F05"
    assert not name or name not in str(caught.value)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")  # reading it would never end
    for path in (tmp_path, tmp_path / "pipe.nii"):
        with pytest.raises(FileFormatError, match="not a file") as caught:
            read_bytes(path)
        assert caught.value.check_id == "F01"


@pytest.mark.parametrize("n_promised", [0, 100_000, 2_000_000])
def test_a_file_is_decoded_without_holding_its_bytes(tmp_path, n_promised):
    content = np.random.default_rng(0).bytes(1_000_000)
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(content[:400_000]) + gzip.compress(content[400_000:]) + bytes(9))
    assert gunzip_file(file, n_promised) == content
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(FileFormatError, match="truncated") as caught:
        gunzip_file(file, len(content))
    assert caught.value.check_id == "F03"
