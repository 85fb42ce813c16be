import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import gaussian_filter

from pipeline.metrics.surface import surface_scores

# MONAI keeps distances and areas in float32: seven digits of some 100 mm.
TOLERANCE_MM = 1e-4
TOLERANCE_SHARE = 1e-5
NAMES = ("a", "b", "c")

pytestmark = [
    pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class"),
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
]


def blobs(rng, shape):
    fields = [gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(4)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def label_maps(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(10, 32, 3))
    reference = blobs(rng, shape)
    is_wrong = gaussian_filter(rng.normal(size=shape), 1.5) > 0.1
    return np.where(is_wrong, blobs(rng, shape), reference), reference


def one_hot(label):
    return torch.from_numpy(np.stack([label == index for index in range(4)])[None]).float()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.9, 5.0)])
def test_distances_and_surface_dice_of_every_class(seed, spacing_mm):
    prediction, reference = label_maps(seed)
    tolerance_mm = 2.05  # no distance on these grids equals it: there rounding would decide
    found = surface_scores(
        prediction=prediction,
        reference=reference,
        class_names=NAMES,
        spacing_mm=spacing_mm,
        tolerances_mm=dict.fromkeys(NAMES, tolerance_mm),
    )
    maps = one_hot(prediction), one_hot(reference)
    hd95 = compute_hausdorff_distance(*maps, percentile=95, spacing=spacing_mm)[0]
    assd = compute_average_surface_distance(*maps, symmetric=True, spacing=spacing_mm)[0]
    nsd = compute_surface_dice(*maps, [tolerance_mm] * 3, spacing=spacing_mm, use_subvoxels=True)[0]
    assert [s.status for s in found] == ["ok"] * 3
    np.testing.assert_allclose([s.hd95_mm.value for s in found], hd95, rtol=0, atol=TOLERANCE_MM)
    np.testing.assert_allclose([s.assd_mm.value for s in found], assd, rtol=0, atol=TOLERANCE_MM)
    np.testing.assert_allclose([s.nsd.value for s in found], nsd, rtol=0, atol=TOLERANCE_SHARE)


def test_empty_masks_are_no_numbers_here_and_hidden_or_infinite_there():
    nothing, something = np.zeros((2, 6, 6, 6), dtype=np.uint8)
    something[2:4, 2:4, 2:4] = 1
    for prediction, reference, status in (
        (nothing, something, "missed"),
        (something, nothing, "hallucinated"),
        (nothing, nothing, "absent"),
    ):
        scores = surface_scores(
            prediction=prediction,
            reference=reference,
            class_names=NAMES,
            spacing_mm=(1.0, 1.0, 1.0),
        )[0]
        maps = one_hot(prediction), one_hot(reference)
        theirs = compute_hausdorff_distance(*maps, percentile=95)[0, 0]
        assert (scores.status, scores.hd95_mm.value) == (status, None)
        assert not torch.isfinite(theirs)
        nsd = float(compute_surface_dice(*maps, [1.0] * 3, use_subvoxels=True)[0, 0])
        assert scores.nsd.value == (None if status == "absent" else nsd == 0 and 0.0)
