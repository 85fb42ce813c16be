"""Reading and preprocessing a folder of small volumes, beside nnU-Net and MONAI in one run.

    OMP_NUM_THREADS=1 python benchmarks/ingest.py DATASET --peers-python PEERS/bin/python

PEERS is an environment of its own:

    python3 -m venv PEERS
    PEERS/bin/pip install torch==2.13.0 nnunetv2==2.8.1 monai==1.6.1

Two pairs, both image and label, one process and one thread each, CPU seconds per case, without the
time to start programs:

- from files to stored network input: nnU-Net's fingerprint, plan and 3d_fullres preprocessing;
  ours from discovery to the prepared cases of a training, fingerprint and plan included;
- from files to arrays in memory: MONAI's LoadImaged, Orientationd, Spacingd, NormalizeIntensityd
  (to 1 mm); ours the same without storing anything.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.artifacts import CaseRecord, DatasetManifest, Normalization, Preprocessing
from pipeline.audit.fingerprint import fingerprint_case
from pipeline.audit.rows import open_view
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.volume import Volume, to_ras
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest
from pipeline.io.load import load_volume
from pipeline.train.config import TrainConfig
from pipeline.train.plan import make_plan
from pipeline.train.prepare import PreparedCase, prepare_cases
from pipeline.transforms.preprocess import preprocess_image, preprocess_label

T = TypeVar("T")

ONE_MM = Preprocessing(spacing_mm=(1.0, 1.0, 1.0), normalizations=(Normalization(kind="zscore"),))


def main() -> None:
    """Print seconds per case, ratios and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder in Decathlon layout, one channel, MR")
    parser.add_argument("--peers-python", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=3, help="of our side; the best counts")
    given = parser.parse_args()
    dataset = given.dataset.resolve()
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, one thread")
    with tempfile.TemporaryDirectory() as folder:
        runs = [_stored(dataset, Path(folder) / f"work_{n}") for n in range(given.repeats)]
        manifest, cases = runs[-1][1:]
        seconds = {name: min(run[0][name] for run in runs) for name in runs[0][0]}
        n_cases = len(cases)
        print(f"{dataset.name}: {n_cases} cases")
        _report("voxline, stored", seconds, n_cases)
        memory_s = min(_timed(lambda: _in_memory(dataset, manifest))[1] for _ in runs)
        _report("voxline, in memory", {"chain": memory_s}, n_cases)
        if given.peers_python is None:
            return
        out = Path(folder)
        nnunet = _peer(given.peers_python, "nnunet", dataset, out / "nnunet")
        _report("nnU-Net", nnunet, n_cases)
        monai = _peer(given.peers_python, "monai", dataset, out / "monai")
        _report("MONAI", monai, n_cases)
        print(f"ratio to nnU-Net {sum(nnunet.values()) / sum(seconds.values()):.1f}")
        only = seconds["ingest"] + seconds["prepare"]
        print(f"  without fingerprint and plan on both sides {nnunet['preprocess'] / only:.1f}")
        stored_s = sum(seconds.values())
        print(f"ratio to MONAI {monai['chain'] / memory_s:.1f}")
        print(f"  though ours also fingerprints and stores {monai['chain'] / stored_s:.1f}")
        _compare(
            "nnU-Net",
            [_as_nnunet(c, r) for c, r in zip(cases, manifest.cases, strict=True)],
            _read_arrays(out / "nnunet" / "arrays"),
        )
        _compare("MONAI", _in_memory(dataset, manifest), _read_arrays(out / "monai" / "arrays"))


def _stored(
    dataset: Path, work: Path
) -> tuple[dict[str, float], DatasetManifest, list[PreparedCase]]:
    workspace = Workspace(work)
    manifest, ingest_s = _timed(
        lambda: ingest(IngestConfig(n_jobs=1), TaskConfig(), dataset, workspace, NullTracker())
    )
    rows, fingerprint_s = _timed(
        lambda: [
            fingerprint_case(open_view(record, manifest.task, work)) for record in manifest.cases
        ]
    )
    plan, plan_s = _timed(lambda: make_plan(rows, manifest.task, TrainConfig(), "cpu"))
    cases, prepare_s = _timed(
        lambda: prepare_cases(manifest.cases, plan.preprocessing, manifest.task, workspace)
    )
    seconds = {
        "ingest": ingest_s,
        "fingerprint": fingerprint_s,
        "plan": plan_s,
        "prepare": prepare_s,
    }
    return seconds, manifest, cases


def _in_memory(dataset: Path, manifest: DatasetManifest) -> list[tuple[str, Any, Any, None]]:
    return [_load(dataset, record) for record in manifest.cases]


def _load(dataset: Path, record: CaseRecord) -> tuple[str, Any, Any, None]:
    image_file, label_file = (dataset / source.file for source in record.sources)
    _, image = load_volume(image_file, root=dataset, role="image")
    _, label = load_volume(label_file, root=dataset, role="label")
    ras = to_ras(label)
    indices = Volume(ras.array.astype(np.uint8), ras.affine)
    return (
        record.case_id,
        preprocess_image(to_ras(image), ONE_MM).array[0],
        preprocess_label(indices, ONE_MM).array,
        None,
    )


def _peer(python: Path, tool: str, dataset: Path, out: Path) -> dict[str, float]:
    script = Path(__file__).with_name("ingest_peers.py")
    done = subprocess.run(
        [str(python), str(script), tool, str(dataset), str(out)],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return result


def _as_nnunet(case: PreparedCase, record: CaseRecord) -> tuple[str, Any, Any, None]:
    """A prepared case in the axis order of its file, as nnU-Net keeps it."""
    orientation = record.image.source_orientation if record.image is not None else "RAS"
    if sorted(orientation.translate(str.maketrans("LPI", "RAS"))) != sorted("RAS"):
        raise ValueError(orientation)
    flips = tuple(slice(None, None, 1 if code in "RAS" else -1) for code in orientation)
    order = tuple("RAS".index(code.translate(str.maketrans("LPI", "RAS"))) for code in orientation)
    image, label = (
        np.asarray(array).transpose(order)[flips] for array in (case.image[0], case.label)
    )
    return case.case_id, image, label, None


def _read_arrays(folder: Path) -> dict[str, Any]:
    return {file.name.removesuffix(".npz"): np.load(file) for file in folder.glob("*.npz")}


def _compare(name: str, own: Sequence[tuple[str, Any, Any, None]], peer: dict[str, Any]) -> None:
    """Intensities in standard deviations, and labels, where both have voxels."""
    worst, n_equal, n_labels, n_voxels = 0.0, 0, 0, 0
    for case_id, image, label, _ in own:
        there = peer[case_id]
        box = there["box"] if "box" in there else [(0, n) for n in image.shape]
        inside = tuple(slice(int(start), int(stop)) for start, stop in box)
        own_image, own_label = image[inside].astype(np.float32), label[inside]
        if own_image.shape != there["image"].shape:
            continue
        n_equal += 1
        worst = max(worst, float(np.abs(own_image - there["image"]).max()))
        n_labels += int(np.count_nonzero(own_label == np.maximum(there["label"], 0)))
        n_voxels += own_label.size
    print(
        f"agreement with {name}: {n_equal} of {len(own)} cases on the same grid, intensities "
        f"within {worst:.4f} SD, {n_labels / max(n_voxels, 1):.4%} of label voxels equal"
    )


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    start_s = time.process_time()
    result = function()
    return result, time.process_time() - start_s


def _report(name: str, seconds: dict[str, float], n_cases: int) -> None:
    parts = ", ".join(f"{step} {s / n_cases * 1e3:.2f}" for step, s in seconds.items())
    print(f"{name}: {sum(seconds.values()) / n_cases * 1e3:.2f} ms per case ({parts})")


if __name__ == "__main__":
    main()
