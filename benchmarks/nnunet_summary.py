"""Score predictions of nnU-Net v2 with `voxline evaluate` and hold them against its summary.json.

    .venv/bin/python benchmarks/nnunet_summary.py --peers-python PEERS/bin/python [--cases 20]

nnU-Net plans, trains some steps and predicts on copies of Hippocampus cases (see
nnunet_predictions.py); then both score the same files. Printed: the largest difference of any Dice,
per case and class and of every mean, under the policy `nnunet`.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "Task04_Hippocampus"


def main() -> None:
    """Make predictions, score them twice, and print how far the scores differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw = _raw_dataset(given.data, work / "raw" / "Dataset004_Hippocampus", given.cases)
        script = str(Path(__file__).with_name("nnunet_predictions.py"))
        arguments = [script, str(raw), str(work / "nnunet"), str(given.steps)]
        subprocess.run([str(given.peers_python), *arguments], check=True, stdout=sys.stderr)
        predictions = work / "nnunet" / "predictions"
        for extra in predictions.glob("*.json"):
            extra.unlink()
        _empty_one(predictions)  # a missed structure is where tools differ
        _score_again(given.peers_python, work / "nnunet")
        _score_here(predictions, work)
        _report(json.loads((work / "nnunet" / "summary.json").read_text()), work)


def _raw_dataset(data: Path, raw: Path, n_cases: int) -> Path:
    labels = sorted((data / "labelsTr").glob("hippo*.nii.gz"))[:n_cases]
    for kind in ("imagesTr", "labelsTr"):
        (raw / kind).mkdir(parents=True)
    for label in labels:
        shutil.copy(label, raw / "labelsTr" / label.name)
        image = raw / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")
        shutil.copy(data / "imagesTr" / label.name, image)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(labels),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return raw


def _empty_one(predictions: Path) -> None:
    file = sorted(predictions.glob("*.nii.gz"))[0]
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), file)


def _score_again(python: Path, work: Path) -> None:
    code = (
        "import sys; from nnunetv2.evaluation.evaluate_predictions import "
        "compute_metrics_on_folder_simple as f; f(*sys.argv[1:3], (1, 2), sys.argv[3], 1)"
    )
    folders = [str(work / name) for name in ("references", "predictions", "summary.json")]
    subprocess.run([str(python), "-c", code, *folders], check=True, stdout=sys.stderr)


def _score_here(predictions: Path, work: Path) -> None:
    command = [str(ROOT / ".venv" / "bin" / "voxline"), "evaluate"]
    command += ["--pred", str(predictions), "--ref", str(work / "nnunet" / "references")]
    command += ["--work", str(work / "ours"), "--set", "tracking.enabled=false"]
    subprocess.run([*command, "--set", "evaluate.policy=nnunet"], check=True, stdout=sys.stderr)


def _report(theirs: dict[str, object], work: Path) -> None:
    (folder,) = (work / "ours" / "evaluate").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    differences = []
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    of_case = {
        Path(c["reference_file"]).name.removesuffix(".nii.gz"): c["metrics"]
        for c in theirs["metric_per_case"]
    }
    for row in rows:
        expected = of_case[row["case_id"]][row["class_name"].removeprefix("class_")]["Dice"]
        ours = float(row["dice"]) if row["dice"] else math.nan
        both_undefined = math.isnan(ours) and math.isnan(expected)
        differences.append(0.0 if both_undefined else abs(ours - expected))
    means = [
        abs(summary["classes"][f"class_{name}"]["dice"]["mean"] - metrics["Dice"])
        for name, metrics in theirs["mean"].items()
    ]
    means.append(abs(summary["mean_foreground_dice"] - theirs["foreground_mean"]["Dice"]))
    print(
        f"cases {len(of_case)}, class scores {len(rows)}, mean {theirs['foreground_mean']['Dice']}"
    )
    print(f"largest difference of a Dice:      {max(differences):.2e}")
    print(f"largest difference of a mean Dice: {max(means):.2e}")
    if max(*differences, *means) > 1e-6:
        raise SystemExit("the scores differ by more than 1e-6")


if __name__ == "__main__":
    main()
