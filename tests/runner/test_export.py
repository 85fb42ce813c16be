"""`voxline export`: whole commands on a model file."""

import json

import pytest
from export_builders import info_with, untrained

from pipeline.artifacts import Region
from pipeline.models.checkpoint import save_model


@pytest.fixture
def model_file(tmp_path):
    model = untrained(info_with())
    folder = tmp_path / "work" / "train" / "fold_0"
    folder.mkdir(parents=True)
    save_model(folder / "best.pt", model.network.state_dict(), model.info, card="# A model\n")
    return folder / "best.pt"


def test_the_model_of_a_work_folder_becomes_a_bundle_beside_it(voxline, model_file):
    status, out, err = voxline("export", "--work", "work", "--to", "bundle")
    assert status == 0, err
    folder = model_file.parent / "export" / "test_segmentation_bundle"
    assert out.strip() == str(folder)
    assert json.loads((folder / "voxline.json").read_text())["kind"] == "bundle"
    assert (folder / "model_card.md").read_text() == "# A model\n"
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]

    status, _, err = voxline("export", "--work", "work", "--to", "bundle")
    assert status == 3
    assert "--force" in err
    (folder / "docs" / "old.txt").touch()
    status, _, err = voxline("export", "--work", "work", "--to", "bundle", "--force")
    assert status == 0, err
    assert not (folder / "docs" / "old.txt").exists()

    # Where the bundle itself puts what it segments.
    (folder / "predictions").mkdir()
    (folder / "predictions" / "case.nii.gz").write_text("keep")
    status, _, err = voxline("export", "--work", "work", "--to", "bundle", "--force")
    assert status == 3
    assert "predictions" in err
    assert (folder / "predictions" / "case.nii.gz").read_text() == "keep"
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


def test_folders_of_others_are_never_replaced(voxline, model_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    words = ("export", "--model", model_file, "--to", "bundle", "--out", "mine", "--force")
    status, _, err = voxline(*words)
    assert status == 3
    assert "was not written by 'voxline export'" in err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_an_mlflow_model_is_written_without_a_store(voxline, model_file, tmp_path):
    words = ("export", "--model", model_file, "--to", "mlflow", "--out", "packed")
    status, _, err = voxline(*words)
    assert status == 0, err
    assert (tmp_path / "packed" / "MLmodel").is_file()
    assert (tmp_path / "packed" / "voxline.json").is_file()
    assert not (tmp_path / "mlruns").exists()


def test_a_name_that_monai_label_may_misread_is_mentioned(voxline, model_file):
    status, _, err = voxline("export", "--model", model_file, "--to", "bundle", "--out", "mine")
    assert status == 0
    assert "MONAI Label" in err


def test_unknown_formats_and_missing_models_are_usage_errors(voxline, model_file):
    status, _, err = voxline("export", "--model", model_file, "--to", "onx")
    assert status == 3
    assert "did you mean 'onnx'" in err
    status, _, err = voxline("export", "--work", "nowhere", "--to", "onnx")
    assert status == 3
    assert "no trained model" in err


def test_a_model_that_cannot_be_expressed_leaves_nothing_behind(voxline, tmp_path):
    region = Region(name="whole", classes=("class_1",), paints="class_1")
    info = info_with()
    info = info.model_copy(update={"task": info.task.model_copy(update={"regions": (region,)})})
    model = untrained(info)
    save_model(tmp_path / "best.pt", model.network.state_dict(), model.info)
    status, _, err = voxline("export", "--model", "best.pt", "--to", "bundle", "--out", "new")
    assert status == 3
    assert "overlapping regions" in err
    assert [file.name for file in tmp_path.iterdir()] == ["best.pt"]
