"""Overlap and the "monai" policy against MONAI's own metric, which works in float32 one-hot."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
metrics = pytest.importorskip("monai.metrics")

from pipeline.metrics.aggregate import summarize  # noqa: E402  # after the skip
from pipeline.metrics.scores import score_label_maps  # noqa: E402

NAMES = ("a", "b", "c")
FLOAT32_TOLERANCE = 1e-6


def label_maps(n_cases, *, with_gaps):
    rng = np.random.default_rng(7)
    pairs = []
    for n in range(n_cases):
        reference = rng.integers(0, 4, (9, 8, 7)).astype(np.uint8)
        prediction = np.where(rng.random(reference.shape) < 0.6, reference, 0).astype(np.uint8)
        if with_gaps:
            reference[reference == 3] = 0  # never in a reference, always hallucinated
            if n == 0:
                prediction[prediction == 1] = 0  # missed
            if n == 1:
                reference[reference == 2] = 0  # hallucinated
            if n == 2:
                reference[:], prediction[:] = 0, 0  # absent
        pairs.append((prediction, reference))
    return pairs


def one_hot(label):
    return torch.from_numpy(np.stack([label == index for index in range(4)])[None])


def monai_dice(pairs, reduction):
    metric = metrics.DiceMetric(include_background=False, reduction=reduction)
    for prediction, reference in pairs:
        metric(one_hot(prediction), one_hot(reference))
    return metric.aggregate()


def our_cases(pairs):
    return [
        score_label_maps(
            str(n), prediction=p, reference=r, class_names=NAMES, spacing_mm=(1.0, 1.0, 1.0)
        )
        for n, (p, r) in enumerate(pairs)
    ]


def test_dice_of_every_case_and_class():
    pairs = label_maps(5, with_gaps=False)
    expected = monai_dice(pairs, "none").numpy()
    found = [[scores.dice.value for scores in case.classes] for case in our_cases(pairs)]
    np.testing.assert_allclose(found, expected, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("with_gaps", [False, True])
def test_monai_policy_reproduces_its_class_means(with_gaps):
    pairs = label_maps(5, with_gaps=with_gaps)
    expected = monai_dice(pairs, "mean_batch").numpy()
    summary = summarize(our_cases(pairs), NAMES, policy="monai", n_bootstrap=0)
    found = [summary.classes[name].dice.mean for name in NAMES]
    np.testing.assert_allclose(found, expected, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("with_gaps", [False, True])
def test_monai_policy_reproduces_its_overall_mean(with_gaps):
    pairs = label_maps(5, with_gaps=with_gaps)
    expected = float(monai_dice(pairs, "mean"))
    found = summarize(our_cases(pairs), NAMES, n_bootstrap=0).mean_foreground_dice_policies
    assert found["monai"] == pytest.approx(expected, abs=FLOAT32_TOLERANCE)


def test_kits_policy_is_monai_without_ignoring_empty_references():
    pairs = label_maps(5, with_gaps=True)
    metric = metrics.DiceMetric(
        include_background=False, reduction="mean_batch", ignore_empty=False
    )
    for prediction, reference in pairs:
        metric(one_hot(prediction), one_hot(reference))
    summary = summarize(our_cases(pairs), NAMES, policy="kits", n_bootstrap=0)
    found = [summary.classes[name].dice.mean for name in NAMES]
    np.testing.assert_allclose(found, metric.aggregate().numpy(), atol=FLOAT32_TOLERANCE)
