"""From a prepared image to labels on the source grid."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models_builders import model_info

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.core.volume import Volume
from pipeline.io.channels import load_image
from pipeline.models import segment
from pipeline.models.memory import Decision
from pipeline.models.predictor import PredictionOptions, make_predictor
from pipeline.models.segment import segment_prepared
from pipeline.transforms.preprocess import preprocess_image

CT = Normalization(kind="ct", lower=-1000.0, upper=400.0, mean=0.0, std=200.0)


class Threshold(torch.nn.Module):
    """Class 1 above 0, class 2 above 1; where a voxel lies in its window does not matter."""

    def forward(self, windows):
        return torch.cat([torch.zeros_like(windows), windows, 2 * windows - 1], dim=1)


def predictor_of(*, ct=True, patch_size=(16, 16, 16), **options):
    info = model_info(patch_size=patch_size)
    plan = info.plan
    if ct:
        recipe = plan.preprocessing.model_copy(update={"normalizations": (CT,)})
        plan = plan.model_copy(update={"preprocessing": recipe})
    return make_predictor([Threshold()], plan, info.task, PredictionOptions(**options))


def patient_in_air(shape=(70, 64, 90)):
    image = np.full((1, *shape), (CT.lower - CT.mean) / CT.std, dtype=np.float32)
    body = image[0, 22:40, 24:41, 30:52]
    body[:] = np.random.default_rng(0).standard_normal(body.shape)
    return image


def test_labels_lie_on_the_source_grid():
    result = segment_prepared(predictor_of(), patient_in_air(), (90, 64, 80))
    assert result.labels.shape == (90, 64, 80)
    assert result.flip_disagreement is None
    assert result.computed_on == "cpu"


@pytest.mark.parametrize("source", [(70, 64, 90), (100, 80, 120)])
def test_the_box_of_the_patient_saves_windows_and_changes_nothing(monkeypatch, source):
    counts = []
    forward = Threshold.forward

    def counted(self, windows):
        counts.append(len(windows))
        return forward(self, windows)

    monkeypatch.setattr(Threshold, "forward", counted)
    # A margin of air is kept: 20 mm of 1 mm voxels, more than this network sees.
    cropped = segment_prepared(predictor_of(), patient_in_air(), source)
    n_cropped = sum(counts)
    whole = segment_prepared(predictor_of(crop="off"), patient_in_air(), source)
    np.testing.assert_array_equal(cropped.labels, whole.labels)
    assert whole.labels.any()
    assert n_cropped < 0.6 * (sum(counts) - n_cropped)


def test_without_air_the_whole_image_is_visited():
    image = patient_in_air()
    one, other = (
        segment_prepared(predictor_of(ct=False, crop=crop), image, (70, 64, 90)).labels
        for crop in ("auto", "off")
    )
    np.testing.assert_array_equal(one, other)


def test_mirroring_measures_the_disagreement():
    result = segment_prepared(predictor_of(mirror=(1, 2)), patient_in_air(), (70, 64, 90))
    assert result.flip_disagreement == pytest.approx(0, abs=1e-3)


def test_only_running_out_of_memory_falls_back(monkeypatch, caplog):
    """The GPU is played: its first path fails as torch fails, the second works."""
    paths = []
    real = segment._segment_on

    def scripted(decision, predictor, *arguments):
        paths.append(decision.path)
        if decision.path == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(decision, predictor, *arguments)

    monkeypatch.setattr(segment, "_segment_on", scripted)
    monkeypatch.setattr(segment, "choose_path", lambda *_, **__: Decision("cuda"))
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(empty_cache=lambda: None))
    result = segment_prepared(predictor_of(), patient_in_air(), (70, 64, 90))
    assert paths == ["cuda", "cuda+cpu"]
    assert result.computed_on == "cuda+cpu (memory ran out on cuda)"
    assert "memory ran out" in caplog.text
    monkeypatch.undo()
    expected = segment_prepared(predictor_of(), patient_in_air(), (70, 64, 90)).labels
    np.testing.assert_array_equal(result.labels, expected)


def test_an_error_of_the_network_is_not_taken_for_lack_of_memory():
    class Broken(torch.nn.Module):
        def forward(self, windows):
            raise RuntimeError("not about memory")

    info = model_info()
    predictor = make_predictor([Broken()], info.plan, info.task)
    with pytest.raises(RuntimeError, match="not about memory"):
        segment_prepared(predictor, patient_in_air(), (70, 64, 90))


@pytest.mark.parametrize(
    ("name", "clip", "n_air"),
    [
        ("ct_totalseg/example_ct_sm.nii.gz", (-1000.0, 400.0), 40),
        ("OpenKBP_HeadNeck/imagesTr/kbp_002.nii.gz", (850.0, 1200.0), 0),
    ],
)
def test_real_ct_gets_the_same_labels_with_and_without_the_crop(shared_data, name, clip, n_air):
    file = shared_data / name
    image = load_image([file], root=file.parent).volume
    normalization = Normalization(
        kind="ct", lower=clip[0], upper=clip[1], mean=sum(clip) / 2, std=100.0
    )
    recipe = Preprocessing(spacing_mm=(4.0, 4.0, 4.0), normalizations=(normalization,))
    # This scan ends at the skin; a wider field of view is what the crop is for.
    wide = np.pad(image.array, [(0, 0), *[(n_air, n_air)] * 3], constant_values=image.array.min())
    prepared = preprocess_image(Volume(wide, image.affine), recipe).array
    shape = wide.shape[1:]
    labels = {}
    for crop in ("auto", "off"):
        base = predictor_of(crop=crop)
        plan = base.plan.model_copy(update={"preprocessing": recipe})
        labels[crop] = segment_prepared(replace(base, plan=plan), prepared, shape).labels
    assert labels["off"].any()
    np.testing.assert_array_equal(labels["auto"], labels["off"])
