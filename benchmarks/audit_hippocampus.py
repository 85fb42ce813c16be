"""Wall time of our audit, nnU-Net's verifier and MONAI's DataAnalyzer on one dataset, in one run.

.venv/bin/python benchmarks/audit_hippocampus.py ../shared/data/Task04_Hippocampus \
    --peers-python PEERS/bin/python

How to make PEERS stands in peers.py. Every tool is a process of its own and may use all cores as
its authors set it: nnU-Net a pool, DataAnalyzer its loader processes. `whole` is the time from the
command to its end; `work` leaves starting and imports out, ours is that of the stages ingest and
audit with the report; `cpu` is what all its processes computed, which other jobs disturb less.
MLflow is off, as the others track nothing; one row shows what it adds.
Copying the dataset is not counted. With `--threads 1` every process computes on one thread, which
helps DataAnalyzer: its loader processes and torch's threads otherwise compete for the cores.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).with_name("peers.py")


@dataclass(frozen=True)
class Timing:
    """One tool.

    Args:
        name: For the table.
        whole_s: Wall time of the process.
        work_s: Wall time without imports.
        cpu_s: CPU time of all its processes, imports included.
        words: What it found.
    """

    name: str
    whole_s: float
    work_s: float
    cpu_s: float
    words: str


def main() -> None:
    """Print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder in the layout of the Decathlon")
    parser.add_argument("--peers-python", type=Path, help="Python with nnunetv2 and monai")
    parser.add_argument("--cases", type=int, help="only the first cases")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS for every tool")
    given = parser.parse_args()
    if given.threads:
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = _copy(given.dataset, root / "data", given.cases)
        off = ["--set", "tracking.enabled=false"]
        timings = [
            _ours("ours, first time", data, root / "work", off),
            _ours("ours, second time", data, root / "work", off),
            _ours("ours, first time, with MLflow", data, root / "tracked", []),
        ]
        if given.peers_python:
            _as_nnunet(data)
            for name, arguments in {
                "nnU-Net verify_dataset_integrity": ["nnunet-sitk", "--pool"],
                "MONAI DataAnalyzer": ["analyzer", "--workers", str(os.cpu_count() or 1)],
            }.items():
                timings.append(_peer(name, given.peers_python, arguments, data))
    _report(timings)


def _copy(source: Path, target: Path, n_cases: int | None) -> Path:
    """Copy the labelled cases; the page cache is warm for everybody then."""
    content = json.loads((source / "dataset.json").read_text())
    content["training"] = content["training"][:n_cases]
    content |= {"numTraining": len(content["training"]), "test": [], "numTest": 0}
    for pair in content["training"]:
        for name in pair.values():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    (target / "dataset.json").write_text(json.dumps(content))
    return target


def _as_nnunet(data: Path) -> None:
    content = json.loads((data / "dataset.json").read_text())
    for image in (data / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace(".nii.gz", "_0000.nii.gz")))
    described = {
        "channel_names": content["modality"],
        "labels": {name: int(value) for value, name in content["labels"].items()},
        "numTraining": content["numTraining"],
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(described))


def _ours(name: str, data: Path, work: Path, options: list[str]) -> Timing:
    command = [sys.executable, "-m", "pipeline", "audit", "--data", str(data), "--work", str(work)]
    done, whole_s, cpu_s = _timed([*command, *options])
    results = [work / stage / "result.json" for stage in ("ingest", "audit")]
    work_s = sum(json.loads(file.read_text())["elapsed_s"] for file in results if file.exists())
    words = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return Timing(name, whole_s, work_s, cpu_s, words[-1])


def _peer(name: str, python: Path, arguments: list[str], data: Path) -> Timing:
    tool, *options = arguments
    done, whole_s, cpu_s = _timed([str(python), str(PEERS), tool, str(data), *options])
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not answers:
        return Timing(name, whole_s, whole_s, cpu_s, f"failed: {done.stderr.strip()[-200:]}")
    answer = json.loads(answers[-1])
    words = f"{answer['verdict']} {answer['words']}".strip()
    return Timing(name, whole_s, float(answer["seconds"]), cpu_s, words)


def _timed(command: list[str]) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run a command; wall and CPU time, those of its own processes included."""
    start_s, before_s = time.perf_counter(), _children_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, time.perf_counter() - start_s, _children_s() - before_s


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _report(timings: list[Timing]) -> None:
    first = timings[0]
    print(f"{os.cpu_count()} cores; ratios against our first time: whole / work / cpu\n")
    print("| tool | whole | work | cpu | ratios | says |\n|---|---|---|---|---|---|")
    for timing in timings:
        pairs = (
            (timing.whole_s, first.whole_s),
            (timing.work_s, first.work_s),
            (timing.cpu_s, first.cpu_s),
        )
        ratios = " / ".join(f"{own / ours:.1f}" for own, ours in pairs)
        seconds = " | ".join(f"{own:.1f} s" for own, _ in pairs)
        print(f"| {timing.name} | {seconds} | {ratios} | {timing.words} |")


if __name__ == "__main__":
    main()
