import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.audit.measure import intensities as module
from pipeline.audit.measure.intensities import measure_intensities, quantiles_of
from pipeline.audit.measures import LEVELS

SHAPE = (6, 7, 8)


@given(
    hnp.arrays(
        np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32, allow_nan=False)
    )
)
def test_quantiles_agree_with_numpy(values):
    assert quantiles_of(values) == pytest.approx(np.quantile(values.astype(float), LEVELS))


def case():
    label = np.zeros(SHAPE, np.int16)
    label[1:5, 2:6, 2:6] = 3
    image = np.where(label == 3, 50.0, -1000.0).astype(np.float32)
    return image, label


def test_only_the_class_counts_and_voxels_that_are_not_finite_do_not():
    image, label = case()
    image[2, 2, 2], image[3, 3, 3] = np.nan, np.inf
    found = measure_intensities(image, label, 3, 64, -900.0)
    assert set(found.quantiles) == {50.0}
    assert (found.air_share, found.air_voxel) == (0.0, None)
    image[label == 3] = np.nan
    assert measure_intensities(image, label, 3, 64, -900.0).quantiles == ()


def test_air_is_counted_and_placed():
    image, label = case()
    image[4, 2:6, 2:6] = -1000
    found = measure_intensities(image, label, 3, 64, -900.0)
    assert found.air_share == 0.25
    assert found.air_voxel is not None
    assert found.air_voxel[0] == 4
    assert measure_intensities(image, label, 3, 64, None).air_share == 0.0


def test_of_many_voxels_every_nth_plane_is_used(monkeypatch):
    monkeypatch.setattr(module, "_MAX_SAMPLE", 32)
    image, label = case()
    image[3, 2:6, 2:6] = -1000
    found = measure_intensities(image[1:], label[1:], 3, 64, -900.0)
    assert found.air_share == 0.5
    assert found.air_voxel is not None
    assert found.air_voxel[0] == 2
