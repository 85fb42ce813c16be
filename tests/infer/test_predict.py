"""Predictions lie exactly where the image lies, whatever its orientation."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_builders import model_info
from phantoms import affine_of
from torch import nn

from pipeline.core.errors import DataError
from pipeline.core.volume import Volume
from pipeline.infer.predict import predict_case, to_source_values
from pipeline.models.checkpoint import Model, save_model
from pipeline.models.networks import build_network

ORIENTATIONS = [
    "".join(codes[a] for a in order)
    for order in itertools.permutations(range(3))
    for codes in itertools.product("RL", "AP", "SI")
]


class Threshold(nn.Module):
    """Class 2 where the normalized image is above 1, class 1 where above 0, else background."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        background = torch.full_like(image, 0.5)
        return torch.cat([background, (image > 0).float(), 2 * (image > 1).float()], dim=1)


def threshold_model(**changes) -> Model:
    return Model(Threshold().eval(), model_info(**changes), "digest")


def expected_labels(array, values=(1, 2)):
    z = (array - array.mean()) / array.std()
    return np.where(z > 1, values[1], np.where(z > 0, values[0], 0))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_thresholded_image_is_overlaid_exactly_in_every_orientation(orientation):
    rng = np.random.default_rng(1)
    array = rng.normal(size=(19, 23, 17)).astype(np.float32)
    affine = affine_of(array.shape, (1.0, 1.0, 1.0), orientation)
    assert "".join(nib.aff2axcodes(affine)) == orientation
    label = predict_case(threshold_model(), Volume(array[None], affine))
    assert np.array_equal(label.affine, affine)
    assert np.array_equal(label.array, expected_labels(array))
    assert label.array.dtype == np.uint8


@settings(max_examples=15)
@given(
    degrees=st.floats(-25, 25), shape=st.tuples(*[st.integers(9, 30)] * 3), seed=st.integers(0, 99)
)
def test_oblique_images_too(degrees, shape, seed):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    affine = affine_of(shape, (1.0, 1.0, 1.0), "LPS", oblique_degrees=degrees)
    label = predict_case(threshold_model(), Volume(array[None], affine))
    assert np.array_equal(label.affine, affine)
    assert np.array_equal(label.array, expected_labels(array))


def test_another_spacing_is_restored_to_the_native_grid():
    array = np.zeros((30, 24, 20), dtype=np.float32)
    array[8:22, 6:18, 5:15] = 1
    affine = affine_of(array.shape, (2.0, 2.0, 3.0), "LPI")
    label = predict_case(threshold_model(spacing_mm=(1.5, 1.5, 1.5)), Volume(array[None], affine))
    assert label.array.shape == array.shape
    inside = label.array > 0
    overlap = 2 * (inside & (array > 0)).sum() / (inside.sum() + (array > 0).sum())
    assert overlap > 0.95


def test_label_values_of_the_training_files_come_back_in_the_smallest_type():
    model = threshold_model(source_values=((7, 9), (300,)))
    indices = np.array([[[0, 1, 2]]], dtype=np.uint8)
    values = to_source_values(indices, model.info.task)
    assert values.tolist() == [[[0, 7, 300]]]
    assert values.dtype == np.uint16


def test_a_wrong_number_of_channels_is_refused():
    affine = affine_of((9, 9, 9), (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"has 1 channel.*takes 2: MR0, MR1"):
        predict_case(threshold_model(n_channels=2), Volume(np.zeros((1, 9, 9, 9)), affine))


def test_the_code_in_the_readme_runs(tmp_path, monkeypatch):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    info = model_info()
    weights = build_network(info.plan.network).state_dict()
    save_model(tmp_path / "runs/demo/train/fold_0/best.pt", weights, info)
    array = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    affine = affine_of(array.shape, (1.0, 1.0, 1.0), "LPI")
    image_file = tmp_path / "data/demo/imagesTs/demo_025.nii.gz"
    image_file.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(array, affine), image_file)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102  # our own README
    label = names["label"]
    assert label.array.shape == array.shape
    assert np.array_equal(label.affine, affine)
    assert set(np.unique(label.array)) <= {0, 1, 2}
