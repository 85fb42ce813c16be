"""The same seed gives the same curve, another seed another one."""

import csv
import io

import pytest
from workfolders import audited, quick

from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.train.meters import MEASURED
from pipeline.train.select import select_training
from pipeline.train.stage import train


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("seeds"), 3)


def curve(workspace: Workspace, seed: int) -> list[dict[str, str]]:
    """All columns of all rounds, but those that tell the time."""
    folder = workspace.fold_dir("0")
    train(select_training(quick(seed=seed), workspace), workspace, NullTracker())
    rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))
    folder.rename(workspace.root / f"done_{len(list(workspace.root.glob('done_*')))}")
    assert rows[0].keys() >= {"train/loss", "train/dice_loss", "train/cross_entropy"}
    assert rows[0].keys() >= {"train/gradient_norm", "val/dice_pooled", "val/dice_liver"}
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def test_the_same_seed_twice_gives_the_identical_curve_and_another_seed_does_not(workspace):
    first, again, other = (curve(workspace, seed) for seed in (3, 3, 4))
    assert first == again
    assert [row["train/loss"] for row in first] != [row["train/loss"] for row in other]
