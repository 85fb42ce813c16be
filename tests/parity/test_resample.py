"""Resampling against scipy and torch."""

import numpy as np
import pytest
import torch
from phantoms import case
from scipy import ndimage
from torch.nn import functional

from pipeline.transforms.resample import resample_image, resample_label

SHAPES = [((31, 28, 24), (40, 17, 24)), ((20, 33, 5), (31, 20, 19)), ((24, 24, 24), (1, 50, 7))]


@pytest.mark.parametrize(("before", "after"), SHAPES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_images_agree_with_scipy_zoom(before, after, order):
    image = np.random.default_rng(1).standard_normal(before).astype(np.float32)
    own = resample_image(image[np.newaxis], after, (order,) * 3)[0]
    factors = np.array(after) / np.array(before)
    peer = ndimage.zoom(image.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    # float32 products of up to three operators, against float64.
    np.testing.assert_allclose(own, peer, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_linear_images_agree_with_torch(before, after):
    image = np.random.default_rng(2).standard_normal((2, *before)).astype(np.float32)
    own = resample_image(image, after, (1, 1, 1))
    peer = functional.interpolate(
        torch.from_numpy(image)[None], size=after, mode="trilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(own, peer, atol=1e-5)


@pytest.mark.parametrize("after", [(40, 17, 24), (20, 45, 31)])
def test_label_maps_agree_with_one_hot_interpolation(after):
    _, label, _ = case(3, (31, 28, 24), (1.0, 1.0, 1.0), n_classes=3)
    classes = np.unique(label)
    one_hot = torch.from_numpy(np.stack([label == c for c in classes])).float()
    weights = functional.interpolate(
        one_hot[None], size=after, mode="trilinear", align_corners=False
    )[0].numpy()
    ranked = np.sort(weights, axis=0)
    is_clear = ranked[-1] - ranked[-2] > 1e-5
    assert is_clear.mean() > 0.98  # the rest are ties, where rounding decides
    expected = classes[weights.argmax(axis=0)]
    np.testing.assert_array_equal(resample_label(label, after)[is_clear], expected[is_clear])
