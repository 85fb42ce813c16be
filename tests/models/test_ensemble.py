"""Several models as one."""

import numpy as np
import pytest
import torch
from models_builders import model_info

from pipeline.artifacts import Normalization
from pipeline.core.errors import CheckpointError
from pipeline.models.checkpoint import Model
from pipeline.models.ensemble import ensemble_predictor
from pipeline.models.networks import build_network
from pipeline.models.predictor import PredictionOptions
from pipeline.models.segment import segment_prepared


def model(seed=0, normalization=None, **plan_changes):
    info = model_info(patch_size=(8, 8, 8))
    if normalization is not None:
        recipe = info.plan.preprocessing
        plan_changes["preprocessing"] = recipe.model_copy(
            update={"normalizations": (normalization,)}
        )
    info = info.model_copy(update={"plan": info.plan.model_copy(update=plan_changes)})
    torch.manual_seed(seed)
    return Model(build_network(info.plan.network).eval(), info, str(seed))


def random_image(shape=(10, 9, 8)):
    return np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)


def test_one_model_twice_is_that_model():
    image = random_image()
    one, twice = (ensemble_predictor([model()] * n) for n in (1, 2))
    np.testing.assert_array_equal(
        segment_prepared(one, image, (10, 9, 8)).labels,
        segment_prepared(twice, image, (10, 9, 8)).labels,
    )


@pytest.mark.parametrize(
    ("device", "numbers", "chosen", "expected"),
    [
        ("cuda", "float32", "auto", "float32"),
        ("cuda", "bfloat16", "auto", "auto"),
        ("cuda", "bfloat16", "float32", "float32"),
        # A CPU without instructions for anything shorter.
        ("cpu", "float32", "auto", "auto"),
        ("cuda", None, "auto", "auto"),
    ],
)
def test_a_model_trained_on_a_gpu_without_mixed_precision_is_used_so(
    device, numbers, chosen, expected
):
    usual = model_info(patch_size=(8, 8, 8))
    plan = usual.plan.model_copy(update={"device": device})
    info = usual.model_copy(update={"plan": plan, "number_format": numbers})
    models = [Model(model().network, one, "") for one in (usual, info)]
    predictor = ensemble_predictor(models, PredictionOptions(precision=chosen))
    assert predictor.options.precision == expected


def test_two_models_are_averaged_window_by_window():
    models, windows = [model(1), model(2)], torch.randn((2, 1, 8, 8, 8))
    with torch.inference_mode():
        mean = sum(m.network(windows).softmax(dim=1) for m in models) / 2
    found = ensemble_predictor(models)(windows).softmax(dim=1)
    torch.testing.assert_close(found, mean, atol=1e-5, rtol=1e-4)


def test_every_model_gets_the_image_normalized_as_in_its_training():
    folds = [
        Normalization(kind="ct", lower=-100.0, upper=200.0, mean=40.0, std=60.0),
        Normalization(kind="ct", lower=-120.0, upper=180.0, mean=30.0, std=50.0),
    ]
    models = [model(n, normalization) for n, normalization in enumerate(folds)]
    options = PredictionOptions(average="logits")
    predictor = ensemble_predictor(models, options)
    hounsfield = torch.linspace(-300, 400, 2 * 512).reshape((2, 1, 8, 8, 8))

    def normalized(n):
        return (hounsfield.clamp(n.lower, n.upper) - n.mean) / n.std

    shared = predictor.plan.preprocessing.normalizations[0]
    assert (shared.lower, shared.upper) == (-120, 200)
    with torch.inference_mode():
        expected = sum(m.network(normalized(n)) for m, n in zip(models, folds, strict=True)) / 2
    found = predictor(normalized(shared))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch_size": (16, 8, 8)}, "patch size"),
        ({"normalization": Normalization(kind="zscore_nonzero")}, "normalization"),
    ],
)
def test_models_that_differ_are_refused_by_name(changes, said):
    with pytest.raises(CheckpointError, match=said):
        ensemble_predictor([model(), model(**changes)])


def test_models_of_other_classes_are_refused_by_name():
    one, other = model(), model()
    classes = tuple(c.model_copy(update={"name": c.name + "x"}) for c in one.info.task.classes)
    task = one.info.task.model_copy(update={"classes": classes})
    other = Model(other.network, other.info.model_copy(update={"task": task}), "other")
    with pytest.raises(CheckpointError, match="class_1x"):
        ensemble_predictor([one, other])
