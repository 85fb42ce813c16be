"""`voxline runs` and `voxline register` on a real, small training."""

import csv

from phantoms import write_dataset

QUICK = [
    *("--set", "train.steps=3", "--set", "train.device=cpu", "--set", "train.n_validations=1"),
    *("--set", "train.patch_size=[16,16,16]", "--set", "audit.max_pictures=0"),
    *("--set", "train.network.base_features=4", "--set", "train.network.max_features=8"),
]


def test_trained_runs_are_listed_and_registered_on_demand(voxline, tmp_path):
    status, _, err = voxline("runs")
    assert status == 3
    assert "no runs have been recorded yet" in err

    data = write_dataset(tmp_path / "Set", 5, 0)
    status, _, err = voxline("train", "--data", data, *QUICK)
    assert status == 0, err
    status, out, err = voxline("runs")
    assert status == 0, err
    assert "1 runs" in out
    assert "dice_ce-3steps" in out
    assert "3 steps" in out

    status, out, _ = voxline("runs", "--csv")
    (row,) = csv.DictReader(out.splitlines())
    assert row["loss"] == "dice_ce"
    assert row["scored_on"] == "final"
    assert 0 <= float(row["dice_mean"]) <= 1
    assert float(row["cost/gpu_hours"]) == 0.0

    status, out, err = voxline("register", "--alias", "champion")
    assert status == 0, err
    assert out.strip() == "models:/Set@champion"


def test_nothing_to_register(voxline):
    status, _, err = voxline("register", "--work", "nowhere")
    assert status == 3
    assert "no trained model" in err
