import numpy as np
import pytest
from audit_builders import SPACING_MM, label_of, view

from pipeline.artifacts import QUANTILE_LEVELS
from pipeline.audit.fingerprint import channel_statistics, fingerprint_case
from pipeline.core.errors import GeometryError


def test_describes_the_foreground():
    label = label_of()
    image = np.where(label > 0, 50.0, 900.0)[None].astype(np.float32)
    image[0][label == 2] = 70.0
    case = fingerprint_case(view(label, image))
    n_liver, n_tumor = int((label == 1).sum()), int((label == 2).sum())
    assert case.n_class_voxels == (n_liver, n_tumor)
    assert case.shape == label.shape
    assert case.spacing_mm == pytest.approx(SPACING_MM)
    assert case.foreground[0].n_voxels == n_liver + n_tumor
    expected = (50.0 * n_liver + 70.0 * n_tumor) / (n_liver + n_tumor)
    assert case.foreground[0].mean == pytest.approx(expected)
    assert case.foreground[0].quantiles[-1] == 70.0
    assert case.nonzero_fraction == 1.0


def test_an_empty_label_describes_the_whole_image():
    image = np.zeros((2, 4, 4, 4), np.int16)
    image[0, :2] = 10
    case = fingerprint_case(view(np.zeros((4, 4, 4), np.uint8), image))
    assert [c.n_voxels for c in case.foreground] == [64, 64]
    assert case.foreground[0].mean == 5.0
    assert case.nonzero_fraction == 0.5


def test_quantiles_are_exact_and_finite_values_only():
    values = np.append(np.arange(1001.0), [np.nan, np.inf])
    statistics = channel_statistics(values)
    assert statistics.n_voxels == 1001
    assert statistics.quantiles == pytest.approx([1000.0 * q for q in QUANTILE_LEVELS])
    assert statistics.std == pytest.approx(np.arange(1001.0).std())


def test_big_foregrounds_are_sampled_within_a_thousandth():
    values = np.random.default_rng(0).normal(size=3_000_000)
    statistics = channel_statistics(values)
    assert statistics.n_voxels == values.size
    assert statistics.quantiles[21] == pytest.approx(
        np.quantile(values, QUANTILE_LEVELS[21]), abs=5e-3
    )


def test_nothing_finite_gives_zeros_not_nan():
    assert channel_statistics(np.full(3, np.nan)).quantiles == (0.0,) * len(QUANTILE_LEVELS)


def test_other_shapes_are_refused():
    with pytest.raises(GeometryError, match="one grid"):
        fingerprint_case(view(label_of(), np.zeros((1, 3, 3, 3), np.float32)))
