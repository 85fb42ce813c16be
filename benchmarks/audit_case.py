"""Time and memory of the audit of one CT-like case of 16.4 million voxels, part by part.

OMP_NUM_THREADS=1 python benchmarks/audit_case.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int16, UInt8

from pipeline.artifacts import CaseRecord, Channel, LabelClass, StoredArray, Task
from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.alignment import measure_alignment
from pipeline.audit.measure.classes import measure_classes
from pipeline.audit.measure.components import find_holes, find_pieces
from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measure.surfaces import find_surfaces
from pipeline.audit.rows import make_row, open_view
from pipeline.audit.view import index_map
from pipeline.io.store import write_array

T = TypeVar("T")
SHAPE = (256, 256, 250)
AFFINE = np.diag([1.5, 1.5, 1.5, 1.0])


def main() -> None:
    """Print a table for 41 and for 104 classes; each case is measured in a process of its own."""
    if len(sys.argv) > 1:
        _measure(Path(sys.argv[1]), int(sys.argv[2]))
        return
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}, one thread")
    for n_classes in (41, 104):
        with tempfile.TemporaryDirectory() as folder:
            record = _write_case(Path(folder), n_classes)
            (Path(folder) / "record.json").write_text(record.model_dump_json())
            subprocess.run([sys.executable, __file__, folder, str(n_classes)], check=True)


def _measure(root: Path, n_classes: int) -> None:
    record = CaseRecord.model_validate_json((root / "record.json").read_text())
    classes = tuple(
        LabelClass(name=f"organ {n}", index=n, source_values=(n,)) for n in range(1, n_classes + 1)
    )
    task = Task(channels=(Channel(name="CT", modality="ct"),), classes=classes)
    config = AuditConfig()
    print(f"\n{n_classes} classes, {np.prod(SHAPE) / 1e6:.1f} M voxels, CPU seconds")
    before_mib = _peak_mib()
    view, open_s = _timed(lambda: open_view(record, task, root))
    label, map_s = _timed(lambda: index_map(view))
    if label is None or view.image is None:
        raise SystemExit("the case was not read")
    image = view.image[0]
    classes_s = _timed(lambda: _classes(label, n_classes, image))[1]
    label_mib = np.prod(SHAPE) / 2**20
    print(
        f"  peak memory of opening, index map and class measures: {_peak_mib() - before_mib:.0f} "
        f"MiB, of which {label_mib:.0f} MiB label file and {image.nbytes / 2**20:.0f} MiB image"
    )
    row, row_s = _timed(lambda: make_row(view, config))
    print(f"  and of the whole row: {_peak_mib() - before_mib:.0f} MiB")
    parts: list[tuple[str, Callable[[], object]]] = [
        ("pieces", lambda: find_pieces(label)),
        ("holes", lambda: find_holes(label)),
        ("faces, borders, slices", lambda: find_surfaces(label, n_classes)),
        ("image measures", lambda: measure_channel(image)),
        ("alignment", lambda: measure_alignment(image, label, config.grids)),
    ]
    print(f"  {'open and count label values':30s} {open_s:6.2f}")
    print(f"  {'class index map':30s} {map_s:6.2f}")
    print(f"  {'all class measures':30s} {classes_s:6.2f}")
    for name, function in parts:
        print(f"  {name + ' (whole grid)':30s} {_timed(function)[1]:6.2f}")
    print(f"  {'whole row with checks':30s} {row_s:6.2f}   ({len(row.findings)} findings)")


def _classes(label: Int16[np.ndarray, "i j k"], n_classes: int, image: np.ndarray) -> object:
    return measure_classes(label, n_classes, AFFINE, image=image, body_threshold=-400.0, is_ct=True)


def _write_case(root: Path, n_classes: int) -> CaseRecord:
    image, label = phantom(n_classes, seed=n_classes)
    stored_image = _store(root, "image", image[np.newaxis])
    stored_label = _store(root, "label", label)
    return CaseRecord(
        case_id="ct", status="ready", image_files=(), image=stored_image, label=stored_label
    )


def phantom(n_classes: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoids of many sizes in a body of soft tissue in air: int16 image, uint8 label."""
    rng = np.random.default_rng(seed)
    label: UInt8[np.ndarray, "i j k"] = np.zeros(SHAPE, np.uint8)
    size = np.array(SHAPE)
    for value in range(1, n_classes + 1):
        radii = rng.uniform(0.03, 0.12, 3) * size
        center = rng.uniform(0.2, 0.8, 3) * size
        start = np.maximum(center - radii, 0).astype(int)
        stop = np.minimum(center + radii + 1, size).astype(int)
        grid = np.stack(
            np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij")
        )
        inside = (((grid.T - center) / radii) ** 2).sum(axis=-1).T <= 1
        region = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        label[region][inside] = value
    image = rng.normal(0, 20, SHAPE).astype(np.float32).astype(np.int16)
    image += 40 + 2 * label.astype(np.int16)
    for axis in range(2):
        edge = [slice(None)] * 3
        for part in (slice(0, 40), slice(-40, None)):
            edge[axis] = part
            image[tuple(edge)] = -1000
    return image, label


def _store(root: Path, key: str, array: np.ndarray) -> StoredArray:
    return write_array(root / "store", key, array, AFFINE, "RAS", root)


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    start_s = time.process_time()
    result = function()
    return result, time.process_time() - start_s


def _peak_mib() -> float:
    """Largest resident memory of this process so far; Linux only."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
