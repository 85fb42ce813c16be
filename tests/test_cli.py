"""The command line as a person meets it: messages, exit status, and no traceback for bad input."""

import gzip
import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from phantoms import write_dataset

from pipeline.cli import main

QUICK = [
    *("--set", "tracking.enabled=false", "--set", "train.steps=4", "--set", "train.device=cpu"),
    *("--set", "train.n_validations=2", "--set", "train.patch_size=[16,16,16]"),
    *("--set", "train.network.base_features=4", "--set", "train.network.max_features=8"),
]


def test_ingest_audit_train_evaluate_in_one_go(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 5, 0)
    status, out, err = voxline("train", "--data", data, *QUICK)
    assert status == 0, err
    assert "audit runs first" in err
    assert "Dice on 1 cases of fold 0 that were not trained on" in out
    assert "liver" in out
    model = tmp_path / "runs" / "phantom" / "train" / "fold_0" / "best.pt"
    assert model.is_file()

    status, out, err = voxline("train", "--data", data, *QUICK)
    assert status == 0
    assert "nothing changed" in err
    assert "audit is up to date" in err
    assert "trained already" in err

    heldout = write_dataset(tmp_path / "heldout", 2, 7)
    status, out, err = voxline("evaluate", "--data", heldout, "--set", "tracking.enabled=false")
    assert status == 0, err
    assert "using the work folder trained last" in err
    assert "foreground mean" in out
    scores = tmp_path / "runs" / "phantom" / "evaluate" / "heldout"
    for name in ("scores.csv", "summary.json", "report.html", "methods.txt", "result.json"):
        assert (scores / name).is_file()

    status, out, err = voxline("evaluate", "--data", data, "--set", "tracking.enabled=false")
    assert status == 0
    assert "were trained on" in err

    predictions = tmp_path / "runs" / "phantom" / "infer" / "heldout" / "predictions"
    status, _, err = voxline(
        *("evaluate", "--pred", predictions, "--ref", heldout / "labelsTr"),
        *("--set", "tracking.enabled=false"),
    )
    assert status == 0, err
    summary = json.loads((tmp_path / "runs/scores/evaluate/heldout/summary.json").read_text())
    first = json.loads((scores / "summary.json").read_text())
    assert summary["mean_foreground_dice"] == pytest.approx(first["mean_foreground_dice"])


def test_every_stage_leaves_its_record(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    assert voxline("audit", "--data", data, "--set", "tracking.enabled=false")[0] == 0
    for stage in ("ingest", "audit"):
        folder = tmp_path / "runs" / "phantom" / stage
        for name in ("config.resolved.yaml", "environment.json", "result.json", "run.log.jsonl"):
            assert (folder / name).is_file()
        assert json.loads((folder / "result.json").read_text())["status"] == "done"
        lines = (folder / "run.log.jsonl").read_text().splitlines()
        assert all(json.loads(line)["stage"] == stage for line in lines)
    # The resolved file is itself a configuration.
    resolved = tmp_path / "runs" / "phantom" / "audit" / "config.resolved.yaml"
    assert voxline("audit", "--data", data, "--config", resolved)[0] == 0


# --- bad input: a message that says what, where and how to fix it ---------------------------------


def test_no_such_folder(voxline):
    status, _, err = voxline("train", "--data", "nowhere")
    assert status == 3
    assert "no such dataset folder" in err
    assert "nowhere" in err


def test_empty_folder(voxline, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = voxline("train", "--data", "empty", *QUICK)
    assert status in {2, 3}
    assert "empty" in err
    assert "fix:" in err


def test_labels_folder_missing(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    shutil.rmtree(data / "labelsTr")
    status, _, err = voxline("train", "--data", data, *QUICK)
    assert status in {2, 3}
    assert "label" in err.lower()
    assert "fix:" in err


def damaged(tmp_path, damage):
    data = write_dataset(tmp_path / "phantom", 4, 0)
    damage(data / "imagesTr" / "case_001.nii.gz", data / "labelsTr" / "case_001.nii.gz")
    return data


def test_text_file_called_nii_gz(voxline, tmp_path):
    data = damaged(tmp_path, lambda image, _: image.write_text("this is no volume at all\n" * 40))
    status, out, err = voxline("train", "--data", data, *QUICK)
    assert status == 2
    assert "F02 case_001" in err
    assert "not gzip" in (out + err)


def test_truncated_nii_gz(voxline, tmp_path):
    data = damaged(tmp_path, lambda image, _: image.write_bytes(image.read_bytes()[:-2000]))
    status, _, err = voxline("train", "--data", data, *QUICK)
    assert status == 2
    assert "F03 case_001" in err


def rewrite(file, change):
    volume = nib.load(file)
    array = change(np.asarray(volume.dataobj))
    file.write_bytes(gzip.compress(nib.Nifti1Image(array, volume.affine).to_bytes()))


def test_labels_of_0_and_255(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 4, 0, n_classes=1)
    for file in (data / "labelsTr").iterdir():
        rewrite(file, lambda array: (array * 255).astype(np.uint8))
    status, _, err = voxline("train", "--data", data, *QUICK)
    assert status == 2
    assert "E02" in err
    assert "255" in err


def test_label_of_another_shape(voxline, tmp_path):
    data = damaged(tmp_path, lambda _, label: rewrite(label, lambda array: array[:-3]))
    status, _, err = voxline("train", "--data", data, *QUICK)
    assert status == 2
    assert "G01 case_001" in err


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lerning_rate=1", "accepted:"),
        ("train.optimizer.lerning_rate=1", "did you mean 'learning_rate'?"),
        ("trian.steps=1", "did you mean 'train'?"),
        ("train.steps=many", "train.steps"),
        ("train.steps", "section.key=value"),
        ("train.loss.kind=focal", "train.loss.kind"),
    ],
)
def test_unknown_keys_and_bad_values(voxline, tmp_path, override, expected):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    status, _, err = voxline("train", "--data", data, "--set", override)
    assert status == 3
    assert expected in err


def test_two_lengths_of_training_contradict_each_other(voxline):
    status, _, err = voxline("train", "--set", "train.steps=5", "--set", "train.epochs=1")
    assert status == 3
    assert "give one of budget_minutes, epochs and steps" in err


def test_a_checkpoint_that_is_none(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    (tmp_path / "model.pt").write_text("not a model")
    status, _, err = voxline("infer", "--data", data, "--work", "w", "--model", "model.pt")
    assert status == 2
    assert "not a checkpoint" in err
    assert "best.pt" in err


def test_no_model_yet(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    status, _, err = voxline("evaluate", "--data", data, "--work", "w")
    assert status == 3
    assert "no trained model" in err


def test_a_gpu_that_is_not_there(voxline, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    data = write_dataset(tmp_path / "phantom", 3, 0)
    status, _, err = voxline("train", "--data", data, "--device", "cuda", *QUICK[:2])
    assert status == 3
    assert "no CUDA GPU" in err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["trian"], "train"),
        (["train", "--dta", "x"], "--d"),
        (["train"], "no dataset"),
        (["evaluate", "--pred", "x"], "needs both folders"),
        (["train", "--config", "none.yaml"], "cannot read the configuration"),
    ],
)
def test_bad_usage_exits_3(voxline, args, expected):
    status, _, err = voxline(*args)
    assert status == 3
    assert expected in err


def test_a_work_folder_that_cannot_be_made(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    (tmp_path / "occupied").write_text("a file")
    status, _, err = voxline("ingest", "--data", data, "--work", "occupied/work")
    assert status == 2
    assert "OSError" in err
    assert "fix:" in err


@pytest.mark.parametrize("name", ["findings.json", "splits.json", "fingerprint.json"])
def test_a_damaged_audit_is_made_again(voxline, tmp_path, name):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    off = ("--set", "tracking.enabled=false")
    assert voxline("audit", "--data", data, "--work", "w", *off)[0] == 0
    file = tmp_path / "w" / "audit" / name
    file.write_text(file.read_text()[:50])
    # Stops at the fold, after the audit was repaired and before torch trains anything.
    status, _, err = voxline("train", "--work", "w", "--fold", "4", *off)
    assert status == 3
    assert "a file of the last audit is damaged" in err
    assert "no fold 4" in err


def test_a_crash_is_not_mistaken_for_warnings(monkeypatch, capsys):
    def crash(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("pipeline.cli.app", crash)
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert "defect of Voxline" in capsys.readouterr().err


def test_task_settings_are_used_without_naming_the_data_again(voxline, tmp_path):
    data = write_dataset(tmp_path / "phantom", 3, 0)
    off = ("--set", "tracking.enabled=false")
    assert voxline("ingest", "--data", data, "--work", "w", *off)[0] == 0
    assert voxline("audit", "--work", "w", "--set", "task.classes={liver: 1}", *off)[0] == 0
    manifest = json.loads((tmp_path / "w/ingest/dataset.json").read_text())
    assert [c["name"] for c in manifest["task"]["classes"]] == ["liver"]


def test_broken_yaml_names_the_place(voxline, tmp_path):
    (tmp_path / "c.yaml").write_text("train:\n  steps: [1, 2\n")
    status, _, err = voxline("train", "--config", "c.yaml")
    assert status == 3
    assert "not valid YAML" in err


def test_schema_is_data_on_stdout(voxline):
    status, out, _ = voxline("schema")
    assert status == 0
    assert json.loads(out)["title"] == "Voxline experiment"


def test_help_and_import_stay_light():
    code = (
        "import sys, pipeline.cli; "
        "heavy = {'torch', 'monai', 'mlflow', 'numpy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
