"""Dice after the same minutes of training: Voxline, nnU-Net v2 and a MONAI tutorial loop.

    .venv/bin/python benchmarks/train_race.py DATA --peers-python PEERS/bin/python \
        --minutes 5 15 30 [--tools voxline nnunet monai] [--device cuda] [--work runs/race]

DATA is a folder in the layout of the Medical Segmentation Decathlon (Task04_Hippocampus). All train
on the training cases of fold 0 of Voxline's audit, one after the other, on all cores, each with its
schedule fitted to the minutes, and predict the validation cases; one code scores all predictions.
Counted are minutes of training: reading, planning and caching come before, prediction after. A row
that is there already (WORK/race.csv) is not made again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
from result_table import append_row, read_rows

from pipeline.core.geometry import spacing_of
from pipeline.metrics.scores import score_label_maps

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("tool", "minutes", "dice", "per_class", "n_cases", "n_steps", "total_min", "when")


def main() -> None:
    """Run every tool for every length and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 15, 30])
    parser.add_argument("--tools", nargs="+", default=["voxline", "nnunet", "monai"])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "race")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--set", action="append", default=[], help="for Voxline: one value")
    given = parser.parse_args()
    data, work = given.data.resolve(), given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    folds = _folds(data, work)
    table = work / "race.csv"
    for minutes in given.minutes:
        for tool in given.tools:
            label = f"{tool}{''.join(' ' + s for s in given.set)}" if tool == "voxline" else tool
            label += "" if given.device == "cpu" else f" ({given.device})"
            if (label, f"{minutes:g}") in {(r["tool"], r["minutes"]) for r in read_rows(table)}:
                continue
            folder = work / f"{tool}_{minutes:g}_{given.device}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            started_s = time.monotonic()
            if tool == "voxline":
                n_steps = _train_here(data, folder, minutes, given.set, given.device)
            else:
                n_steps = _train_peer(given, tool, data, folder, minutes, folds)
            total_min = (time.monotonic() - started_s) / 60
            per_class = _score(data, folder / "predictions", folds["validation"])
            row = [
                label,
                f"{minutes:g}",
                f"{np.mean(per_class):.4f}",
                " ".join(f"{d:.4f}" for d in per_class),
                len(folds["validation"]),
                n_steps,
                f"{total_min:.1f}",
                datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            ]
            append_row(table, COLUMNS, row)
    for row in read_rows(table):
        print(f"| {row['tool']} | {row['minutes']} min | {row['dice']} | {row['per_class']} |")


def _folds(data: Path, work: Path) -> dict[str, list[str]]:
    _voxline("audit", "--data", str(data), "--work", str(work / "audited"))
    splits = json.loads((work / "audited" / "audit" / "splits.json").read_text())
    fold: dict[str, list[str]] = splits["folds"][0]
    return fold


def _voxline(*arguments: str) -> None:
    command = [sys.executable, "-m", "pipeline", *arguments]
    status = subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr).returncode
    if status > 1:  # 1 is "audit warnings"
        raise SystemExit(status)


def _train_here(data: Path, folder: Path, minutes: float, settings: list[str], device: str) -> int:
    work = folder / "work"
    length = ["--set", f"train.budget_minutes={minutes:g}", "--set", "tracking.enabled=false"]
    length += ["--set", f"train.device={device}"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    _voxline("train", "--data", str(data), "--work", str(work), *length, *chosen)
    splits = json.loads((work / "audit" / "splits.json").read_text())
    images = folder / "images"
    images.mkdir()
    for case_id in splits["folds"][0]["validation"]:
        shutil.copy(data / "imagesTr" / f"{case_id}.nii.gz", images)
    model = work / "train" / "fold_0" / "best.pt"
    use = ["--model", str(model), "--work", str(work), "--set", f"infer.device={device}"]
    _voxline("infer", "--data", str(images), *use)
    (inferred,) = (work / "infer").iterdir()
    shutil.copytree(inferred / "predictions", folder / "predictions")
    card = json.loads((work / "train" / "fold_0" / "model_card.json").read_text())
    return int(card["n_steps"])


def _train_peer(
    given: argparse.Namespace,
    tool: str,
    data: Path,
    folder: Path,
    minutes: float,
    folds: dict[str, list[str]],
) -> int:
    if given.peers_python is None:
        raise SystemExit("nnU-Net and MONAI need --peers-python (see benchmarks/peers.py)")
    (folder / "folds.json").write_text(json.dumps(folds))
    script = str(Path(__file__).with_name("train_race_peers.py"))
    subprocess.run(
        [given.peers_python, script, tool, data, folder, str(minutes), given.device],
        check=True,
        stdout=sys.stderr,
    )
    return int((folder / "n_steps.txt").read_text())


def _score(data: Path, predictions: Path, case_ids: list[str]) -> list[float]:
    """Mean over cases of the Dice of each class."""
    description = json.loads((data / "dataset.json").read_text())
    names = [name for value, name in sorted(description["labels"].items()) if value != "0"]
    rows = []
    for case_id in case_ids:
        reference = nib.load(data / "labelsTr" / f"{case_id}.nii.gz")
        prediction = nib.load(predictions / f"{case_id}.nii.gz")
        if not np.allclose(reference.affine, prediction.affine, atol=1e-4):
            raise SystemExit(f"{case_id}: prediction and reference lie on different grids")
        scores = score_label_maps(
            case_id,
            prediction=np.asarray(prediction.dataobj).astype(np.uint8),
            reference=np.asarray(reference.dataobj).astype(np.uint8),
            class_names=names,
            spacing_mm=spacing_of(reference.affine),
        )
        rows.append([s.dice.value for name in names if (s := scores.of_class(name)) is not None])
    return [float(d) for d in np.mean(np.array(rows, dtype=float), axis=0)]


if __name__ == "__main__":
    main()
