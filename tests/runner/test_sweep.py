"""Grids: how they are read, what they are refused for, and the table that comes of them."""

import csv
import json

import pytest
from phantoms import write_dataset

from pipeline.core.errors import ConfigError, TrainingError, UsageError
from pipeline.runner import sweep
from pipeline.runner.request import Many, make_request
from pipeline.runner.sweep import folder_name, read_grid, run_sweep

QUICK = [
    *("--set", "tracking.enabled=false", "--set", "train.steps=2", "--set", "train.device=cpu"),
    *("--set", "train.n_validations=1", "--set", "train.patch_size=[16,16,16]"),
    *("--set", "train.network.base_features=4", "--set", "train.network.max_features=8"),
    *("--set", "audit.max_pictures=0"),
]
RATES = "train.optimizer.learning_rate=1e-3,3e-3"


def test_a_grid_on_the_command_line():
    grid = read_grid(f"{RATES}; train.patch_size=[16,16,16],[8,8,8]")
    assert grid.combinations == [
        {"train.optimizer.learning_rate": rate, "train.patch_size": size}
        for rate in (0.001, 0.003)
        for size in ([16, 16, 16], [8, 8, 8])
    ]
    assert grid.name == read_grid(f"{RATES};train.patch_size=[16,16,16],[8,8,8]").name
    assert grid.name != read_grid(RATES).name


def test_a_grid_in_a_file(tmp_path):
    file = tmp_path / "losses.yaml"
    file.write_text("train.loss.kind: [dice, dice_ce]\ntrain.seed: [0, 1, 2]\n")
    grid = read_grid(str(file))
    assert grid.name == "losses"
    assert len(grid.combinations) == 6
    assert grid.combinations[1] == {"train.loss.kind": "dice", "train.seed": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.seed=" + ",".join(map(str, range(65))), "1 to 64 combinations, not 65"),
        (";", "cannot be read"),
        ("=1", "cannot be swept"),
        ("train.seed=", "no list of different values"),
        ("train.seed=1,1", "no list of different values"),
        ("train.seed=1;train.seed=2", "twice"),
        ("train.seed=1;nonsense", "cannot read 'nonsense'"),
        ("train.seed=[1", "not valid YAML"),
        ("train.fold=0,1", "share their cases"),
        ("ingest.layout=auto,nnunet", "cannot be swept"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_what_is_no_grid_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_grid(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- 1\n", "no mapping"), ("{}\n", "not 0"), ("train.seed: 3\n", "no list of different")],
)
def test_what_is_no_grid_in_a_file_is_refused(tmp_path, content, message):
    file = tmp_path / "grid.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_grid(str(file))


def test_folders_of_combinations_are_short_safe_and_their_own():
    one = folder_name({"train.warm_start": "/a/b c.pt", "train.seed": 1})
    assert "/" not in one
    assert " " not in one
    assert one.startswith("warm_start=_a_b_c.pt_seed=1-")
    assert one != folder_name({"train.warm_start": "/a/b_c.pt", "train.seed": 1})
    assert len(folder_name({"train.warm_start": "x" * 500})) < 100


def test_every_combination_is_checked_before_the_first_is_trained(tmp_path, monkeypatch):
    def never(*_args):
        raise AssertionError

    monkeypatch.setattr(sweep, "train_one", never)
    request = make_request(None, tmp_path / "work", None, [])
    with pytest.raises(ConfigError, match="unknown key 'lerning_rate'"):
        run_sweep(request, "train.optimizer.lerning_rate=1,2")
    with pytest.raises(ConfigError, match="greater than 0"):
        run_sweep(request, "train.optimizer.learning_rate=1,-2")
    request = make_request(None, tmp_path / "work", None, ['train.fold="all"'])
    with pytest.raises(UsageError, match="keeps no cases back"):
        run_sweep(request, RATES)


def test_a_combination_that_fails_stops_no_other(tmp_path, monkeypatch, capsys):
    asked = []

    def fail(request, place, _label):
        asked.append((request.experiment.train.seed, request.experiment.train.steps))
        assert place.root == tmp_path / "work"
        raise TrainingError("loss is not finite")

    monkeypatch.setattr(sweep, "train_one", fail)
    request = make_request(None, tmp_path / "work", None, ["train.steps=9"])
    assert run_sweep(request, "train.seed=0,1") == 2
    assert asked == [(0, 9), (1, 9)]
    (file,) = (tmp_path / "work" / "sweeps").rglob("sweep.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["failed"] for row in rows] == ["loss is not finite"] * 2
    assert [row["dice_mean"] for row in rows] == ["", ""]
    assert "failed" in capsys.readouterr().out


def test_one_training_is_not_many():
    assert Many().is_one
    assert Many(n_seeds=1).is_one
    assert not Many(sweep=RATES).is_one


@pytest.mark.slow
def test_a_sweep_end_to_end(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 5, 0)
    grid = tmp_path / "rates.yaml"
    grid.write_text("train.optimizer.learning_rate: [1e-3, 1e-9]\n")
    status, out, err = voxline("train", "--data", data, *QUICK, "--sweep", grid)
    assert status == 0, err
    assert "2 combinations by final mean foreground Dice" in out
    assert "same 1 validation cases" in out
    assert "optimistic" in out
    work = tmp_path / "runs" / "Set"
    folder = work / "sweeps" / "rates"
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert {row["train.optimizer.learning_rate"] for row in rows} == {"0.001", "1e-09"}
    scores = [float(row["dice_mean"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        card = json.loads((folder / row["folder"] / "model_card.json").read_text())
        rate = card["info"]["plan"]["learning_rate"]
        assert rate == float(row["train.optimizer.learning_rate"])
        assert not (folder / row["folder"]).parent.joinpath("prepared").exists()
    # One preparation for all, nothing that looks like a training of the work folder itself.
    assert len(list((work / "train" / "prepared").iterdir())) == 5
    assert not list(work.glob("train/fold_*"))

    status, again, err = voxline("train", "--data", data, *QUICK, "--sweep", grid)
    assert status == 0, err
    assert err.count("trained already") == 2
    assert out.endswith(again)
