import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.audit.measure.thumbnail import make_thumbnail


def ranks(volume):
    return np.frombuffer(base64.b64decode(make_thumbnail(volume)), dtype=np.uint8)


def alike(a, b):
    return float(np.corrcoef(ranks(a).astype(float), ranks(b).astype(float))[0, 1])


def scan(shape=(40, 36, 34), seed=0):
    """A body in constant air, as most scans are."""
    rng = np.random.default_rng(seed)
    structure = ndimage.gaussian_filter(rng.normal(size=shape), 3.0)
    body = ndimage.gaussian_filter(rng.normal(size=shape), 6.0)
    return np.where(body > 0, 1000 + 4000 * structure, 0.0)


def test_a_ramp_gives_rising_ranks():
    volume = np.broadcast_to(np.arange(32.0)[:, None, None], (32, 32, 32))
    cube = ranks(volume).reshape(16, 16, 16)
    assert np.all(np.diff(cube[:, 0, 0].astype(int)) > 0)
    assert np.all(cube == cube[:, :1, :1])
    assert (cube[0, 0, 0] < 10) & (cube[-1, 0, 0] > 245)


@given(st.floats(0.01, 100.0), st.floats(-1e4, 1e4))
def test_units_do_not_matter(scale, offset):
    volume = scan()
    assert alike(volume, volume * scale + offset) > 0.999


def test_size_noise_and_number_type_hardly_matter():
    volume = scan()
    rng = np.random.default_rng(5)
    assert alike(volume, ndimage.zoom(volume, 0.7, order=1, grid_mode=True, mode="nearest")) > 0.98
    assert alike(volume, volume + rng.normal(0.0, 40.0, volume.shape)) > 0.98
    assert alike(volume, np.rint(volume / 20).astype(np.int16)) > 0.98
    assert alike(volume, scan(seed=1)) < 0.7


def test_long_axes_are_sampled_evenly():
    small = scan((32, 32, 32))
    large = small.repeat(8, axis=0).repeat(5, axis=1)
    assert alike(small, large) > 0.99


def test_voxels_that_are_not_finite_are_left_out():
    volume = scan()
    holed = volume.copy()
    holed[::7, ::5, ::3] = np.nan
    holed[0, 0, 0] = np.inf
    assert alike(volume, holed) > 0.98
    assert ranks(np.full((16, 16, 16), np.nan)).std() == 0


@pytest.mark.parametrize("shape", [(15, 40, 40), (1, 1, 1)])
def test_small_volumes_have_none(shape):
    assert make_thumbnail(np.zeros(shape)) == ""


def test_a_constant_volume_has_equal_ranks():
    assert set(ranks(np.full((20, 20, 20), 7, dtype=np.int16))) == {128}
