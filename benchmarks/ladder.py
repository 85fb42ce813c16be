"""What helps a training on a CPU: one setting after the other, the same number of steps each.

    .venv/bin/python benchmarks/ladder.py DATA --steps 1000 [--only planned wide ...] [--work WORK]

Every row is `voxline train` with one thread, so that a job beside it does not matter much; Dice is
that of the final validation of fold 0. A row that is there already (WORK/ladder.csv) is not trained
again (WORK: runs/ladder). CPU seconds are of the whole command, with planning and final validation.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from result_table import append_row, read_rows

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("row", "steps", "seed", "dice", "training_min", "cpu_s", "settings")
# Name of a row to what it sets; the first is what is planned, 16 channels wide from about 1,500
# steps on.
ROWS: dict[str, tuple[str, ...]] = {
    "planned": (),
    "stem3": ("train.network.stem_kernel=3",),
    "float32": ("train.amp=false",),
    "lr1e-3": ("train.optimizer.learning_rate=1e-3",),
    "lr6e-3": ("train.optimizer.learning_rate=6e-3",),
    "lr1e-2": ("train.optimizer.learning_rate=1e-2",),
    "narrow": ("train.network.features=[8,16,32,64]",),
    "wide": ("train.network.features=[16,32,64,128]",),
    "wide-lr6e-3": (
        "train.network.features=[16,32,64,128]",
        "train.optimizer.learning_rate=6e-3",
    ),
    "wide-below": ("train.network.features=[8,32,64,128]",),
    "unet": ("train.network.kind=unet", "train.network.features=[16,32,64,128]"),
    "deep": ("train.network.deep_supervision=true",),
    "batch4": ("train.batch_size=4",),
    "mirror": ("train.mirror_axes=[0]",),
    "affine20": ("train.augmentation.affine_probability=0.2",),
    "affine90": (
        "train.augmentation.affine_probability=0.9",
        "train.augmentation.rotation_degrees=30",
        "train.augmentation.scale=[0.7,1.4]",
    ),
    "elastic": ("train.augmentation.elastic_probability=0.4",),
    "weight-decay": ("train.optimizer.weight_decay=0.05",),
    "dropout": ("train.network.args.dropout=0.1",),
    "no-ema": ("train.ema_decay=0",),
    "dice": ("train.loss.kind=dice",),
    "ce": ("train.loss.kind=ce",),
    "growth": ("train.growth=patch",),
}


def main() -> None:
    """Train the rows that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "ladder")
    given = parser.parse_args()
    table = given.work.resolve() / "ladder.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    for row in given.only:
        key = (row, str(given.steps), str(given.seed))
        if key not in {(r["row"], r["steps"], r["seed"]) for r in read_rows(table)}:
            found = _train(row, given.data.resolve(), table.parent, given.steps, given.seed)
            append_row(table, COLUMNS, found)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for found in read_rows(table):
        print(f"| {' | '.join(found.values())} |")


def _train(row: str, data: Path, work: Path, steps: int, seed: int) -> list[object]:
    folder = work / f"{row}_{steps}_{seed}"
    settings = (f"train.steps={steps}", f"train.seed={seed}", "tracking.enabled=false", *ROWS[row])
    command = [sys.executable, "-m", "pipeline", "train", "--data", str(data), "--work"]
    command += [str(folder), *(part for setting in settings for part in ("--set", setting))]
    # What is left of half a training would count half its seconds.
    shutil.rmtree(folder, ignore_errors=True)
    before_s = _children_s()
    status = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        stdout=sys.stderr,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).returncode
    if status > 1:  # 1 is "audit warnings"
        raise SystemExit(status)
    card = json.loads((folder / "train" / "fold_0" / "model_card.json").read_text())
    dice = card["validation"]["mean_foreground_dice"]
    cpu_s = _children_s() - before_s
    told = " ".join(ROWS[row]).replace("train.", "")
    return [
        row,
        steps,
        seed,
        "" if dice is None else f"{dice:.4f}",
        f"{card['training_minutes']:.1f}",
        f"{cpu_s:.0f}",
        told,
    ]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
