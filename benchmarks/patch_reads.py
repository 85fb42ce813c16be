"""Random patches from the case store, from blosc2 as nnU-Net writes it, and from zarr, in one run.

Runs in the peers' Python, which has blosc2 (with nnU-Net) and zarr; the case store is read there as
what it is, a plain .npy opened as a memory map:

    PEERS/bin/pip install zarr
    OMP_NUM_THREADS=1 PEERS/bin/python benchmarks/patch_reads.py [--size 512 512 300]

The volume is a smooth body with noise, like a CT: int16 as ingest keeps it, float16 as training
keeps prepared images. Every reader returns the same patches; files are in the page cache (a cold
disk is for `--drop`, which needs root).
"""

import argparse
import importlib
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reader = Callable[[tuple[slice, slice, slice]], Array]
PATCH = 128


def main() -> None:
    """Print milliseconds per patch and megabytes per store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(320, 320, 256))
    parser.add_argument("--patches", type=int, default=60)
    parser.add_argument("--drop", action="store_true", help="empty the page cache before each")
    given = parser.parse_args()
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, one thread")
    volume = _volume(tuple(given.size))
    places = _places(volume.shape, given.patches)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for dtype in (np.int16, np.float16):
            array = volume.astype(dtype) if dtype == np.int16 else (volume / 500).astype(dtype)
            print(f"{array.shape} {array.dtype}, {given.patches} random patches of {PATCH}^3")
            _compare(array, places, Path(folder), drop=given.drop)


def _volume(shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.8
    waves = 300 * np.sin(7 * grid[0]) * np.cos(5 * grid[1]) * np.sin(6 * grid[2])
    noise = rng.normal(0, 20, shape).astype(np.float32)
    return np.where(inside, waves + noise, np.float32(-1000)).astype(np.float32)


def _places(shape: tuple[int, ...], n: int) -> list[tuple[slice, slice, slice]]:
    rng = np.random.default_rng(1)
    starts = [[int(rng.integers(0, max(1, size - PATCH + 1))) for size in shape] for _ in range(n)]
    return [(slice(i, i + PATCH), slice(j, j + PATCH), slice(k, k + PATCH)) for i, j, k in starts]


def _compare(
    array: Array, places: list[tuple[slice, slice, slice]], folder: Path, *, drop: bool
) -> None:
    stores: dict[str, Callable[[Array, Path], Reader]] = {
        "case store (.npy memory map)": _npy,
        "blosc2 as nnU-Net": _blosc2,
        "zarr, 64^3 chunks, LZ4": _zarr,
    }
    expected, own_s = None, 0.0
    for name, make in stores.items():
        path = folder / f"{array.dtype}-{len(name)}"
        path.mkdir()
        read = make(array, path)
        n_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if drop:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        else:
            for place in places:
                read(place)
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        sums = [read(place).sum(dtype=np.float64) for place in places]
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
        expected = expected or sums
        own_s = own_s or cpu_s
        print(
            f"  {name}: {wall_s / len(places) * 1e3:.2f} ms per patch "
            f"({cpu_s / len(places) * 1e3:.2f} CPU), {n_bytes / 1e6:.0f} MB, "
            f"CPU ratio {cpu_s / own_s:.1f}, same voxels: {sums == expected}"
        )


def _npy(array: Array, folder: Path) -> Reader:
    np.save(folder / "case.image.npy", array)
    opened = np.load(folder / "case.image.npy", mmap_mode="r")
    return lambda place: np.array(opened[place])


def _blosc2(array: Array, folder: Path) -> Reader:
    blosc2: Any = importlib.import_module("blosc2")
    module: Any = importlib.import_module("nnunetv2.training.dataloading.nnunet_dataset")
    blosc2.set_nthreads(1)
    blocks, chunks = module.comp_blosc2_params(
        (1, *array.shape), (PATCH, PATCH, PATCH), array.itemsize
    )
    file = folder / "case.b2nd"
    blosc2.asarray(
        array[np.newaxis],
        chunks=chunks,
        blocks=blocks,
        # The codec that nnU-Net 2.8 chooses; its arrays are float32, ours stay half as large.
        cparams={"codec": blosc2.Codec.LZ4HC, "clevel": 5},
        urlpath=str(file),
    )
    opened = blosc2.open(urlpath=str(file), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
    return lambda place: np.asarray(opened[(slice(0, 1), *place)])[0]


def _zarr(array: Array, folder: Path) -> Reader:
    zarr: Any = importlib.import_module("zarr")
    codec = zarr.codecs.BloscCodec(cname="lz4", clevel=5)
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    stored = zarr.create_array(
        store=str(folder / "case.zarr"),
        shape=array.shape,
        chunks=(64, 64, 64),
        dtype=array.dtype,
        compressors=codec,
    )
    stored[...] = array
    opened = zarr.open_array(str(folder / "case.zarr"), mode="r")
    return lambda place: np.asarray(opened[place])


if __name__ == "__main__":
    main()
