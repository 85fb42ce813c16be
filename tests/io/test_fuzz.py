"""Thousands of damaged files: each is a volume or a named problem, soon, and in little memory.

Valid files of every format are damaged in their header fields, their text, their compressed stream
and their length. The damaged ones are read by processes of their own, whose memory the system
bounds: a crash, a hang or a large allocation would end one of them. What is promised:

* every file ends as a volume or as a `FileFormatError` with a known check id;
* no file takes longer than `MAX_SECONDS`;
* no file takes more memory than 1032 times its own size (DEFLATE's limit) and a little: here
  `MAX_BYTES`, for bombs of 66 kB. What a header promises is never allocated on its word.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from format_builders import meta_bytes, nrrd_bytes

from pipeline.core.errors import FileFormatError
from pipeline.io.load import load_volume

KNOWN_IDS = {"F01", "F02", "F03", "F04", "F05", "F06", "G07", "E10"}
ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS = 5.0
# 1032 x 66 kB, and an eighth by which buffers grow ahead.
MAX_BYTES = 80 << 20
N_DEFAULT, N_SLOW, N_PROCESSES = 400, 10_000, 2
_WORDS = (
    *("0", "-1", "-4", "1", "3", "4", "65536", "2147483648", "99999999999999999999", "1e400"),
    *("nan", "inf", "-inf", "(nan,nan,nan)", "none", "", "raw", "gzip", "ascii", "bz2", "True"),
    *("../x", "/etc/passwd", "/dev/zero", "LIST", "a%05d.raw 1 100000000 1", "LOCAL", "block"),
    *("4 5 6 7", "40000 40000 40000", "1 1 1", "MET_DOUBLE", "uint64", "domain list", "Segment0"),
)


def seeds() -> dict[str, bytes]:
    """One valid file of each kind, by name."""
    voxels = np.random.default_rng(0).integers(-50, 50, (4, 5, 6)).astype(np.int16)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    one = nib.Nifti1Image(voxels, affine).to_bytes()
    two = nib.Nifti2Image(voxels, affine).to_bytes()
    data = voxels.tobytes(order="F")
    packed = zlib.compress(data)
    zipped = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    segments = "Segment0_Name:=a\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
    label = np.clip(voxels, 0, 1).astype("<i2").tobytes(order="F")
    return {
        "a.nii": one,
        "b.nii": two,
        "c.nii": nib.Nifti1Image(voxels, affine, nib.Nifti1Header(endianness=">")).to_bytes(),
        "a.nii.gz": gzip.compress(one),
        "b.nii.gz": gzip.compress(one[:300]) + gzip.compress(one[300:]),
        "a.mha": meta_bytes(data=data),
        "b.mha": meta_bytes(zipped, packed),
        "a.mhd": meta_bytes({"ElementDataFile": "a.raw"}, b""),
        "a.nrrd": nrrd_bytes(data=data),
        "b.nrrd": nrrd_bytes({"encoding": "gzip"}, gzip.compress(data)),
        "a.nhdr": nrrd_bytes({"data file": "a.raw"}, b""),
        "a.seg.nrrd": nrrd_bytes(data=label, extra=segments),
        "a.img": data,
    }


def damaged(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    """Change a file in one to three ways that the random numbers pick."""
    ways = (
        _cut,
        _with_bomb,
        _repacked,
        _with_gap,
        _with_other_field,
        _with_other_field,
        _scrambled,
    )
    for _ in range(rng.integers(1, 4)):
        content = ways[rng.integers(len(ways))](content, name, rng)
    return content


def _cut(content: bytes, _name: str, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def _with_bomb(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    """Zeros without end where the voxels were."""
    bomb = _bombs()[rng.integers(2)]
    bomb = bomb if rng.integers(2) else bomb[: rng.integers(1, len(bomb) + 1)]
    if name.endswith(".gz"):
        return gzip.compress(_unzipped(content)[:352], 1) + bomb
    mark = b"LOCAL\n" if b"LOCAL\n" in content else b"\n\n"
    return content[: content.find(mark) + len(mark)] + bomb


def _repacked(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    """The stream is sound, what is inside is not."""
    if not name.endswith(".gz"):
        return _scrambled(content, name, rng)
    return gzip.compress(_with_other_field(_unzipped(content), name[:-3], rng))


def _with_gap(content: bytes, _name: str, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(content) + 1))
    return content[:start] + content[start + int(rng.integers(1, 40)) :]


def _with_other_field(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    if name.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        return _with_other_word(content, rng)
    if name.endswith(".nii"):
        return _with_other_number(content, rng)
    return _scrambled(content, name, rng)


def _scrambled(content: bytes, _name: str, rng: np.random.Generator) -> bytes:
    raw = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if raw:
            raw[rng.integers(len(raw))] = rng.integers(256)
    return bytes(raw)


@cache
def _bombs() -> tuple[bytes, bytes]:
    zeros = bytes(64 << 20)
    return zlib.compress(zeros), gzip.compress(zeros)


def _unzipped(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return content


def _with_other_word(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    number = int(rng.integers(min(len(lines), 14)))
    for sign in (b" = ", b": ", b":="):
        key, found, _ = lines[number].partition(sign)
        if found:
            lines[number] = key + sign + _WORDS[rng.integers(len(_WORDS))].encode()
            break
    else:
        lines.insert(number, lines[rng.integers(len(lines))])
    return b"\n".join(lines)


def _with_other_number(content: bytes, rng: np.random.Generator) -> bytes:
    """Write an extreme number over a field of a NIfTI header."""
    raw = bytearray(content)
    position = int(rng.integers(max(1, min(len(raw), 352) - 8)))
    number = (
        np.array([np.nan, np.inf, -1e38, 1e38, 0], "<f4"),
        np.array([-1, 32767, -32768, 0, 7], "<i2"),
        np.array([2**62, -(2**62), 2**40, 1, -1], "<i8"),
    )[rng.integers(3)][rng.integers(5)]
    raw[position : position + number.nbytes] = number.tobytes()
    return bytes(raw)


def read_damaged(folder: Path, first: int, n_files: int) -> dict[str, object]:
    """Read damaged files one after the other; runs in a process with little memory."""
    sound = seeds()
    (folder / "a.raw").write_bytes(sound["a.img"])
    outcomes: Counter[str] = Counter()
    slowest_s, peak_bytes, worst = 0.0, 0, ""
    tracemalloc.start()
    for number in range(first, first + n_files):
        rng = np.random.default_rng(number)
        name = sorted(sound)[number % len(sound)]
        file = folder / name
        content = damaged(sound[name], name, rng)
        file.write_bytes(content)
        if name == "a.img":
            (folder / "a.hdr").write_bytes(_pair_header(sound["a.nii"], rng))
        tracemalloc.reset_peak()
        before, started_s = tracemalloc.get_traced_memory()[0], time.perf_counter()
        outcomes[_outcome(file, role="label" if number % 3 else "image")] += 1
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
        grown = tracemalloc.get_traced_memory()[1] - before
        if grown > peak_bytes:
            peak_bytes, worst = grown, f"{number} {name}"
    return {
        "outcomes": outcomes,
        "slowest_s": slowest_s,
        "peak_bytes": peak_bytes,
        "worst": worst,
    }


def _pair_header(content: bytes, rng: np.random.Generator) -> bytes:
    header = bytearray(content[:348])
    header[344:348] = b"ni1\0"
    header[108:112] = bytes(4)  # the voxels begin at the beginning of their own file
    return _with_other_number(bytes(header), rng)


def _outcome(file: Path, role) -> str:
    try:
        _, volume = load_volume(file, root=file.parent, role=role)
    except FileFormatError as error:
        return error.check_id if error.where and error.fix else "no reason"
    return "volume" if np.all(np.isfinite(volume.affine)) else "no place"


def fuzz(folder: Path, n_files: int) -> list[dict]:
    """Read damaged files in several bounded processes."""
    share = n_files // N_PROCESSES
    commands = [
        [sys.executable, __file__, str(folder / str(part)), str(part * share), str(share)]
        for part in range(N_PROCESSES)
    ]
    paths = os.pathsep.join(str(ROOT / name) for name in (".", "tests"))
    environment = {**os.environ, "PYTHONPATH": paths}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for command in commands]
    found = []
    for process in running:
        out, err = process.communicate(timeout=60 + n_files * MAX_SECONDS / 10)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    return found


def check(found: list[dict]) -> None:
    outcomes: Counter[str] = Counter()
    for part in found:
        outcomes.update(part["outcomes"])
        assert part["slowest_s"] < MAX_SECONDS, part
        assert part["peak_bytes"] < MAX_BYTES, part
    assert set(outcomes) <= KNOWN_IDS | {"volume"}, outcomes
    # Damage that nothing notices would prove nothing, and neither would files refused at once.
    assert {"volume", "F03", "F04", "F05", "F06", "G07"} <= set(outcomes), outcomes
    print(outcomes, [(part["slowest_s"], part["peak_bytes"], part["worst"]) for part in found])


def test_damaged_files_end_as_volumes_or_named_problems(tmp_path):
    check(fuzz(tmp_path, N_DEFAULT))


@pytest.mark.slow
def test_ten_thousand_damaged_files_end_as_volumes_or_named_problems(tmp_path):
    check(fuzz(tmp_path, N_SLOW))


def main() -> None:
    """What a bounded process does: 1 GiB of addresses beyond those it has, no core file."""
    folder, first, n_files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True)
    n_used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (n_used + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(read_damaged(folder, first, n_files)))


if __name__ == "__main__":
    main()
