"""Predictions lie exactly where the image lies, whatever its orientation."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infer_builders import KEEP_LARGEST, small_info, threshold_model, write_model
from models_builders import model_info
from phantoms import affine_of, ball, case

from pipeline.core.errors import DataError
from pipeline.core.volume import Volume
from pipeline.infer.predict import load_model, predict_case, shared_info, to_source_values
from pipeline.models.checkpoint import save_model
from pipeline.models.networks import build_network
from pipeline.models.predictor import PredictionOptions

ORIENTATIONS = [
    "".join(codes[a] for a in order)
    for order in itertools.permutations(range(3))
    for codes in itertools.product("RL", "AP", "SI")
]


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


def test_a_case_beyond_all_memory_is_refused_with_numbers_before_anything_is_computed():
    # A header in the wrong unit: a tenth of a meter per voxel.
    affine = affine_of((40, 40, 40), (800.0, 800.0, 800.0))
    image = Volume(np.zeros((1, 40, 40, 40), dtype=np.int16), affine)
    with pytest.raises(DataError, match=r"does not fit into memory: cpu needs \d.* are free"):
        predict_case(threshold_model(), image)


def test_clean_up_of_the_model_is_applied_unless_refused():
    label = ball((24, 24, 24), (8, 8, 8), 5) | ball((24, 24, 24), (19, 19, 19), 2)
    image = np.where(label, 3.0, 0.0) + np.random.default_rng(0).normal(0, 0.01, label.shape)
    volume = Volume(image.astype(np.float32)[None], affine_of(label.shape, (1.0, 1.0, 1.0)))
    model = threshold_model()
    rule = KEEP_LARGEST.model_copy(update={"class_name": "class_2"})
    info = model.info.model_copy(update={"cleanup": (rule,)})
    cleaning = type(model)(model.network, info, model.digest)
    assert np.array_equal(predict_case(model, volume).array == 2, label)
    assert np.array_equal(predict_case(cleaning, volume, is_cleaned=False).array == 2, label)
    cleaned = predict_case(cleaning, volume).array == 2
    assert np.array_equal(cleaned, ball((24, 24, 24), (8, 8, 8), 5))


def test_several_models_give_the_mean_of_their_probabilities(tmp_path):
    models = [load_model(write_model(tmp_path / f"{seed}.pt", seed)) for seed in (0, 1)]
    image, _, affine = case(0, (16, 16, 16), (2.0, 2.0, 2.5))
    volume = Volume(image[None], affine)
    both = predict_case(models, volume).array
    singles = [predict_case(model, volume).array for model in models]
    assert not np.array_equal(singles[0], singles[1])
    agree = singles[0] == singles[1]
    # Where both say the same by themselves, so does their mean, for any two classes.
    assert (both == singles[0])[agree].mean() > 0.99
    assert not np.array_equal(both, singles[0])


def test_mirroring_changes_nothing_for_a_network_that_looks_at_single_voxels():
    image, _, affine = case(0, (20, 18, 16), (1.0, 1.0, 1.0))
    volume = Volume(image[None], affine)
    plain = predict_case(threshold_model(), volume)
    mirrored = predict_case(threshold_model(), volume, options=PredictionOptions(mirror=(0, 1, 2)))
    assert np.array_equal(plain.array, mirrored.array)


def test_models_that_are_averaged_share_what_all_of_them_chose():
    holes = KEEP_LARGEST.model_copy(update={"kind": "fill_holes"})
    small = KEEP_LARGEST.model_copy(update={"kind": "remove_islands", "min_ml": 0.5})
    large = small.model_copy(update={"min_ml": 2.0})
    one = small_info(cleanup=(large, holes), training_images=("a", "b"))
    two = small_info(cleanup=(KEEP_LARGEST, small), training_images=("b", "c"))
    models = [type(threshold_model())(threshold_model().network, i, "d") for i in (one, two)]
    shared = shared_info(models)
    assert [(r.kind, r.min_ml) for r in shared.cleanup] == [("remove_islands", 0.5)]
    assert shared.training_images == ("a", "b", "c")
    assert shared_info(models[:1]) == one


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/predict.md"])
def test_the_code_in_the_pages_runs(tmp_path, monkeypatch, page):
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
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
    exec(code, names)  # noqa: S102  # our own page
    label = names["label"]
    assert label.array.shape == array.shape
    assert np.array_equal(label.affine, affine)
    assert set(np.unique(label.array)) <= {0, 1, 2}
