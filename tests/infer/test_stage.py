"""Predicting a folder: every case is accounted for, nothing is done twice."""

import gzip
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from models_builders import model_info
from phantoms import write_dataset

from pipeline.artifacts import Predictions, read_artifact
from pipeline.core.errors import CheckpointError
from pipeline.core.tracker import NullTracker
from pipeline.infer import stage
from pipeline.infer.config import InferConfig
from pipeline.infer.stage import infer, open_model
from pipeline.io.discover import discover
from pipeline.models.checkpoint import save_model
from pipeline.models.networks import build_network


@pytest.fixture
def model_file(tmp_path):
    info = model_info(spacing_mm=(2.0, 2.0, 2.5))
    save_model(tmp_path / "best.pt", build_network(info.plan.network).state_dict(), info)
    return tmp_path / "best.pt"


def run(model_file, data, out_dir, **changes):
    config = InferConfig(device="cpu", **changes)
    opened = open_model(model_file, config)
    return infer(config, opened, discover(data, n_channels=1), out_dir, NullTracker())


def test_predictions_have_the_grid_of_their_images_for_every_reader(tmp_path, model_file):
    data = write_dataset(tmp_path / "data", 4, 0, orientations=("RAS", "LPS", "PIR", "ASL"))
    predictions = run(model_file, data, tmp_path / "out")
    assert [c.status for c in predictions.cases] == ["done"] * 4
    for record in predictions.cases:
        prediction_file = tmp_path / "out" / "predictions" / record.file
        image_file = data / "imagesTr" / record.file
        prediction, image = nib.load(prediction_file), nib.load(image_file)
        assert prediction.shape == image.shape
        assert np.array_equal(prediction.affine, image.affine)
        assert prediction.get_data_dtype() == np.uint8
        one, two = SimpleITK.ReadImage(str(prediction_file)), SimpleITK.ReadImage(str(image_file))
        assert one.GetDirection() == two.GetDirection()
        assert one.GetOrigin() == two.GetOrigin()
        assert one.GetSpacing() == two.GetSpacing()
    saved = read_artifact(tmp_path / "out" / "predictions.json", Predictions, made_by="infer")
    assert saved == predictions


def test_a_bad_case_is_named_and_the_others_are_done(tmp_path, model_file):
    data = write_dataset(tmp_path / "data", 3, 0)
    broken = data / "imagesTr" / "case_001.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    stale = tmp_path / "out" / "predictions" / "case_001.nii.gz"
    stale.parent.mkdir(parents=True)
    shutil.copy(data / "labelsTr" / "case_001.nii.gz", stale)
    predictions = run(model_file, data, tmp_path / "out")
    by_id = {c.case_id: c for c in predictions.cases}
    assert by_id["case_001"].status == "failed"
    assert by_id["case_001"].message
    assert by_id["case_000"].status == by_id["case_002"].status == "done"
    # A label map that happened to lie there must not be scored as this model's prediction.
    assert not stale.exists()


def test_finished_cases_are_kept_changed_ones_predicted_again(tmp_path, model_file):
    data = write_dataset(tmp_path / "data", 2, 0)
    first = run(model_file, data, tmp_path / "out")
    file = tmp_path / "out" / "predictions" / "case_000.nii.gz"
    before = file.stat().st_mtime_ns
    assert run(model_file, data, tmp_path / "out") == first
    assert file.stat().st_mtime_ns == before
    image = data / "imagesTr" / "case_000.nii.gz"
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), compresslevel=1))
    run(model_file, data, tmp_path / "out")
    assert file.stat().st_mtime_ns != before


def test_other_settings_mean_other_predictions(tmp_path, model_file):
    data = write_dataset(tmp_path / "data", 2, 0)
    run(model_file, data, tmp_path / "out")
    file = tmp_path / "out" / "predictions" / "case_000.nii.gz"
    before = file.stat().st_mtime_ns
    run(model_file, data, tmp_path / "out", overlap=0.25)
    assert file.stat().st_mtime_ns != before


def test_an_interrupted_rerun_forgets_nothing(tmp_path, model_file, monkeypatch):
    data = write_dataset(tmp_path / "data", 4, 0)
    run(model_file, data, tmp_path / "out")
    image = data / "imagesTr" / "case_000.nii.gz"
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), compresslevel=1))
    label = data / "imagesTr" / "case_001.nii.gz"
    label.write_bytes(gzip.compress(gzip.decompress(label.read_bytes()), compresslevel=1))

    def power_cut(*args, **kwargs):
        raise RuntimeError("power cut")

    monkeypatch.setattr("pipeline.infer.stage.predict_ras", power_cut)
    with pytest.raises(RuntimeError):
        run(model_file, data, tmp_path / "out")
    saved = read_artifact(tmp_path / "out" / "predictions.json", Predictions, made_by="infer")
    assert {c.case_id for c in saved.cases} >= {"case_002", "case_003"}


def test_running_out_of_memory_fails_one_case_only(tmp_path, model_file, monkeypatch):
    data = write_dataset(tmp_path / "data", 2, 0)
    predict = stage.predict_ras

    def greedy(model, image, **settings):
        if greedy.n == 0:
            greedy.n = 1
            raise torch.OutOfMemoryError("tried to allocate 90 GB")
        return predict(model, image, **settings)

    greedy.n = 0
    monkeypatch.setattr(stage, "predict_ras", greedy)
    predictions = run(model_file, data, tmp_path / "out")
    assert [c.status for c in predictions.cases] == ["failed", "done"]
    assert "not enough memory" in predictions.cases[0].message


def test_predictions_of_another_model_are_put_aside(tmp_path, model_file):
    data = write_dataset(tmp_path / "data", 2, 0)
    run(model_file, data, tmp_path / "out")
    info = model_info(spacing_mm=(2.0, 2.0, 2.5))
    save_model(model_file, build_network(info.plan.network).state_dict(), info)
    run(model_file, data, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("predictions_of_*/*.nii.gz"))) == 2


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.pt").write_text("no model")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        open_model(tmp_path / "x.pt", InferConfig(device="cpu"))
