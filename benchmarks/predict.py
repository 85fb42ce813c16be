"""From image files to label files with the same weights: ours, nnU-Net's predictor, MONAI's chain.

    OMP_NUM_THREADS=1 python benchmarks/predict.py WORKLOAD [--peers-python PEERS/bin/python]

PEERS is an environment of its own:

    python3 -m venv PEERS
    PEERS/bin/pip install torch==2.13.0 nnunetv2==2.8.1 monai==1.6.1

Workloads: `hippocampus` (real images of --dataset), and phantoms of a body with 29 structures at
the target spacing: `ct` (320 x 320 x 300), `ct-aligned` (336 x 336 x 288, where MONAI makes the
same windows as we do), `ct-small` and `ct-small-aligned` for development.

One DynUNet is given to all three: trained for half a minute on the hippocampus, with random weights
of a fixed seed on the phantoms (ties are more frequent there than with a trained one). Every
tool is a process of its own with one thread per process; what it takes is measured from outside:
wall time from start to end, CPU seconds of it and its children, the peak of the largest process and
of all of them together (proportional shares, sampled). MONAI runs in our Python, with our torch.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from predict_workloads import WORKLOADS, prepare

Labels = NDArray[np.uint8]

_SAMPLE_EVERY_S = 0.2
# Environment of every tool: one thread each, no compilation, and nnU-Net's folders, which it needs
# though nothing lies there.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    **{"nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "CUDA_VISIBLE_DEVICES": ""},
    **dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "."),
}
_OWN_IMPORTS = (
    "import pipeline.runner.commands, pipeline.infer.stage, pipeline.infer.opened, mlflow;"
    "import monai.networks.nets.dynunet"
)


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    name: str
    wall_s: float
    cpu_s: float
    largest_mb: float
    together_mb: float
    import_s: float
    labels: dict[str, Labels]

    def line(self) -> str:
        """One row of the table."""
        return (
            f"{self.name:22s} {self.wall_s:8.1f} {self.cpu_s:8.1f} {self.import_s:8.1f} "
            f"{self.largest_mb:10.0f} {self.together_mb:10.0f}"
        )


def main() -> None:
    """Print time, memory, ratios and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--peers-python", type=Path, help="for nnU-Net; without it, MONAI only")
    parser.add_argument(
        "--dataset", type=Path, default=Path("../shared/data/Task04_Hippocampus"), help="real data"
    )
    parser.add_argument("--cases", type=int, default=5, help="of the real data")
    parser.add_argument("--only", nargs="*", help="tools to run; default all")
    parser.add_argument("--work", type=Path, help="keep files here, and reuse model and images")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        if not (work / "spec.json").is_file():
            prepare(given.workload, work, given.dataset.resolve(), given.cases)
        tools = _tools(work, given.peers_python)
        chosen = {n: c for n, c in tools.items() if not given.only or n in given.only}
        _print_head(given.workload, work)
        measured = [_measure(name, command, work) for name, command in chosen.items()]
    _compare(measured)


def _print_head(workload: str, work: Path) -> None:
    spec = json.loads((work / "spec.json").read_text())
    shapes = sorted({_voxels(file).shape for file in (work / "images").iterdir()})
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, one thread each")
    print(
        f"{workload}: {len(list((work / 'images').iterdir()))} images, first shape {shapes[0]}, "
        f"window {spec['window']}, {spec['n_classes']} outputs"
    )
    print(f"{'':22s}   wall s    CPU s imports s largest MB  all MB", flush=True)


def _tools(work: Path, peers_python: Path | None) -> dict[str, list[str]]:
    peers = str(Path(__file__).with_name("predict_peers.py"))
    own = [sys.executable, "-m", "pipeline", "infer", "--data", str(work / "images")]
    own += ["--model", str(work / "model.pt"), "--device", "cpu"]
    bare = [*own, "--set", "tracking.enabled=false", "--set", "infer.report=false"]
    tools = {
        "voxline": own,
        "voxline bare": bare,
        "voxline whole volume": [*bare, "--set", "infer.crop=off"],
        "voxline openvino": [*own, "--set", "infer.backend=openvino"],
        "MONAI": [sys.executable, peers, "monai", str(work)],
    }
    if peers_python is not None:
        tools["nnU-Net"] = [str(peers_python), peers, "nnunet", str(work)]
    return tools


def _measure(name: str, command: Sequence[str], work: Path) -> Measured:
    is_own = "pipeline" in command
    out = Path(tempfile.mkdtemp(dir=work, prefix="out_"))
    command = [*command, "--work", str(out)] if is_own else [*command, str(out)]
    import_s = _wall_s([sys.executable, "-c", _OWN_IMPORTS]) if is_own else 0.0
    started_s = time.perf_counter()
    log = out / "log.txt"
    with log.open("w") as stream:
        environment = {**os.environ, **_ENVIRONMENT}
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        memory = _Memory(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started_s
        memory.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{log.read_text()[-3000:]}")
    said = out / "imports.json"
    measured = Measured(
        name=name,
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        largest_mb=usage.ru_maxrss * 1024 / 1e6,
        together_mb=max(memory.peak_mb, usage.ru_maxrss * 1024 / 1e6),
        import_s=json.loads(said.read_text())["seconds"] if said.is_file() else import_s,
        labels=_read_labels(out),
    )
    print(measured.line(), flush=True)
    return measured


def _wall_s(command: Sequence[str]) -> float:
    started_s = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **_ENVIRONMENT})
    return time.perf_counter() - started_s


class _Memory:
    """Watches the memory of a process and all its children."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid, self._is_over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLE_EVERY_S):
            kilobytes = sum(_proportional_kb(pid) for pid in _family(self._pid))
            self.peak_mb = max(self.peak_mb, kilobytes * 1024 / 1e6)


def _family(pid: int) -> list[int]:
    family, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        family.append(parent)
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return family


def _proportional_kb(pid: int) -> int:
    """Memory of a process; pages that n processes share count as 1/n of a page in each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _read_labels(out: Path) -> dict[str, Labels]:
    folders = [out / "labels", *out.glob("infer/*/predictions")]
    files = [file for folder in folders for file in sorted(folder.glob("*.nii.gz"))]
    return {file.name: _voxels(file) for file in files}


def _voxels(file: Path) -> Labels:
    image: Any = nib.load(file)
    return np.asarray(image.dataobj).astype(np.uint8)


def _compare(measured: Sequence[Measured]) -> None:
    own = [m for m in measured if m.name.startswith("voxline")]
    peers = [m for m in measured if not m.name.startswith("voxline")]
    for peer in peers:
        for one in own:
            every, foreground = _agreement(one.labels, peer.labels)
            print(
                f"{peer.name} / {one.name}: wall {peer.wall_s / one.wall_s:.2f}, CPU "
                f"{peer.cpu_s / one.cpu_s:.2f}, without imports "
                f"{(peer.wall_s - peer.import_s) / (one.wall_s - one.import_s):.2f}, memory of "
                f"the largest process {peer.largest_mb / one.largest_mb:.2f}, of all "
                f"{peer.together_mb / one.together_mb:.2f}; labels agree {every:.4%}, "
                f"where either is foreground {foreground:.4%}"
            )
    if len(peers) > 1:
        every, foreground = _agreement(peers[0].labels, peers[1].labels)
        names = f"{peers[0].name} and {peers[1].name}"
        print(f"{names} with each other: labels agree {every:.4%}, foreground {foreground:.4%}")


def _agreement(one: dict[str, Labels], other: dict[str, Labels]) -> tuple[float, float]:
    """Share of voxels with equal labels, of all and of those that either calls foreground."""
    if not one or one.keys() != other.keys():
        raise SystemExit(f"different files: {sorted(one)[:3]} and {sorted(other)[:3]}")
    n_same = n_all = n_same_inside = n_inside = 0
    for name, labels in one.items():
        is_same, is_inside = labels == other[name], (labels > 0) | (other[name] > 0)
        n_same += int(is_same.sum())
        n_all += labels.size
        n_same_inside += int(is_same[is_inside].sum())
        n_inside += int(is_inside.sum())
    return n_same / n_all, n_same_inside / max(1, n_inside)


if __name__ == "__main__":
    main()
