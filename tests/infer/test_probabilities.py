"""Probabilities of all classes on disk, on the grid of the prediction, for every reader."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from infer_builders import run, small_data, write_model

from pipeline.core.errors import DataError
from pipeline.infer import probabilities
from pipeline.infer.probabilities import SCALE, ProbabilityBuffer
from pipeline.io.load import load_volume


def test_probabilities_sum_to_one_and_their_largest_is_the_label(tmp_path):
    data = small_data(tmp_path / "data", 2, orientations=("PIR", "LAS"))
    model_file = write_model(tmp_path / "best.pt")
    without = run(model_file, data, tmp_path / "out")
    predictions = run(model_file, data, tmp_path / "out", save_probabilities=True)
    assert [r.file_hash for r in predictions.cases] == [r.file_hash for r in without.cases]
    for record in predictions.cases:
        file = tmp_path / "out" / "probabilities" / record.probabilities_file
        image, label = nib.load(file), nib.load(tmp_path / "out" / "predictions" / record.file)
        values = np.asarray(image.dataobj)
        assert np.array_equal(image.affine, label.affine)
        assert values.shape == (*label.shape, 3)
        assert np.abs(values.sum(axis=-1) - 1).max() < 2e-3
        indices = np.asarray(label.dataobj)
        chosen = np.take_along_axis(values, indices[..., None].astype(np.int64), axis=-1)[..., 0]
        assert (values.max(axis=-1) - chosen).max() < 2e-3
        read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        assert np.allclose(read.T.reshape(values.shape), values, atol=1e-6)
        _, volume = load_volume(file, root=tmp_path, role="image")
        assert np.allclose(np.moveaxis(volume.array, 0, -1), values, atol=1e-6)
    assert not list((tmp_path / "out").rglob(".*"))
    before = file.stat().st_mtime_ns
    run(model_file, data, tmp_path / "out", save_probabilities=True)
    assert file.stat().st_mtime_ns == before


def test_probabilities_of_an_earlier_prediction_do_not_stay(tmp_path):
    data = small_data(tmp_path / "data", 1)
    model_file = write_model(tmp_path / "best.pt")
    run(model_file, data, tmp_path / "out", save_probabilities=True)
    file = tmp_path / "out" / "probabilities" / "case_000.nii.gz"
    run(model_file, data, tmp_path / "out")
    assert file.is_file()
    run(model_file, data, tmp_path / "out", overlap=0.25)
    assert not file.exists()


def test_one_and_zero_are_exact(tmp_path):
    buffer = ProbabilityBuffer(tmp_path, 2, (2, 3, 4))
    planes = np.zeros((2, 1, 3, 4), dtype=np.float16)
    planes[1] = 1
    buffer.put(1, planes)
    stored = np.asarray(buffer._values) * np.float32(SCALE)
    assert stored[1, 1].min() == 1.0
    assert stored.sum() == 12.0


def test_a_full_disk_is_found_before_it_is_filled(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(probabilities.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"need 0\.0 GB on disk"):
        ProbabilityBuffer(tmp_path, 2, (4, 4, 4))
