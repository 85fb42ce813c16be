"""Reading a 512 x 512 x 300 CT from .nii.gz, ours against nibabel; and storing it.

OMP_NUM_THREADS=1 python benchmarks/read_ct.py

The CT is made up: a noisy body in noisy air, which gzip shrinks about as far as a real one. Every
reading is a process of its own; its memory is the peak beyond what imports took.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from jaxtyping import Int16

SHAPE = (512, 512, 300)
AFFINE = np.diag([-0.8, -0.8, 2.0, 1.0])
N_ROUNDS = 5
WAYS = ("voxline", "nibabel get_fdata", "nibabel dataobj", "SimpleITK")


def main() -> None:
    """Write the CT, read it every way in turn, print times, memory and ratios."""
    if len(sys.argv) > 1:
        print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ct.nii.gz"
        _write(file)
        n_voxel_bytes = int(np.prod(SHAPE)) * 2
        print(
            f"{SHAPE} int16: {n_voxel_bytes / 2**20:.0f} MiB of voxels, "
            f"{file.stat().st_size / 2**20:.0f} MiB on disk; best of {N_ROUNDS}, one thread"
        )
        # In turn, so that a busy moment of the machine hits every way alike.
        runs = [{way: _run(way, file) for way in WAYS} for _ in range(N_ROUNDS)]
        best = {way: min((run[way] for run in runs), key=lambda r: r["seconds"]) for way in WAYS}
        if len({round(result["mean"], 6) for result in best.values()}) != 1:
            raise SystemExit(f"the readers do not agree: {best}")
        ours = best["voxline"]
        print(f"{'':20s} {'seconds':>8s} {'ratio':>6s} {'MiB':>7s} {'ratio':>6s}")
        for way, result in best.items():
            print(
                f"{way:20s} {result['seconds']:8.2f} {result['seconds'] / ours['seconds']:6.2f} "
                f"{result['peak_mib']:7.0f} {result['peak_mib'] / ours['peak_mib']:6.2f}"
            )
        stored = _run("conform", file)
        limit_mib = 2 * n_voxel_bytes / 2**20
        print(
            f"to the store, image and label: {stored['seconds']:.2f} s, {stored['peak_mib']:.0f} "
            f"MiB (voxels as read and as stored: {limit_mib:.0f} MiB)"
        )


def _run(way: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, way, str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _measure(way: str, file: Path) -> dict[str, float]:
    import nibabel as nib
    import SimpleITK

    from pipeline.ingest.conform import conform_case
    from pipeline.io.load import load_volume
    from pipeline.io.pairing import CaseFiles

    before_kib = _peak_kib(is_reset=True)
    started_s = time.perf_counter()
    array = np.zeros(1)
    if way == "voxline":
        array = load_volume(file, root=file.parent, role="image")[1].array
    elif way == "nibabel get_fdata":
        array = nib.load(file).get_fdata()
    elif way == "nibabel dataobj":
        array = np.asanyarray(nib.load(file).dataobj)
    elif way == "SimpleITK":
        image = SimpleITK.ReadImage(str(file))
        array = SimpleITK.GetArrayViewFromImage(image)
    else:
        label = file.with_name("label.nii.gz")
        files = CaseFiles("ct", (file,), label)
        work = file.parent / "work"
        conform_case(files, root=file.parent, store_dir=work / "store", work_root=work)
    elapsed_s = time.perf_counter() - started_s
    peak_kib = _peak_kib() - before_kib
    mean = float(np.mean(array, dtype=np.float64))
    return {"seconds": elapsed_s, "peak_mib": peak_kib / 1024, "mean": mean}


def _peak_kib(*, is_reset: bool = False) -> int:
    """Peak resident memory; `ru_maxrss` would begin with that of the parent process."""
    if is_reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _write(file: Path) -> None:
    from nibabel.nifti1 import Nifti1Image

    rng = np.random.default_rng(0)
    i, j = np.indices(SHAPE[:2], dtype=np.float32)
    body = ((i - 255) / 200) ** 2 + ((j - 255) / 150) ** 2 < 1
    voxels: Int16[np.ndarray, "i j k"] = np.empty(SHAPE, np.int16, order="F")
    for k in range(SHAPE[2]):
        noise = rng.normal(0, np.where(body, 15, 4)).astype(np.float32)
        voxels[:, :, k] = np.where(body, 40 + noise, np.maximum(-1024, -1020 + noise))
    Nifti1Image(voxels, AFFINE).to_filename(file)
    label = (body[:, :, np.newaxis] & np.ones(SHAPE[2], bool)).astype(np.uint8)
    Nifti1Image(label, AFFINE).to_filename(file.with_name("label.nii.gz"))


if __name__ == "__main__":
    main()
