import base64
import gzip
import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import viewer
from pipeline.reporting.viewer import (
    MAX_SPACING_MM,
    MAX_VOXELS,
    Overlay,
    library_text,
    license_text,
    sample_grid,
    viewer_case,
)

SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
AXES = st.tuples(*(st.integers(1, 700) for _ in range(3)))
SPACINGS = st.tuples(*(st.floats(0.2, 8.0) for _ in range(3)))


def opened(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def case(image, label, point=(0, 0, 0), spacing_mm=(1.0, 1.0, 1.0), **changes):
    overlay = Overlay("label", label, ("liver", "tumor"), ("#E69F00", "#56B4E9"))
    return viewer_case("title", image, [overlay], spacing_mm=spacing_mm, point=point, **changes)


@given(AXES, SPACINGS, st.data())
def test_the_point_is_always_a_voxel_of_the_sample(shape, spacing_mm, data):
    point = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    chosen = sample_grid(shape, spacing_mm, point)
    axes = zip(point, chosen.start, chosen.step, chosen.shape, shape, strict=True)
    for p, start, step, n, n_all in axes:
        assert (p - start) % step == 0
        assert 0 <= (p - start) // step < n
        assert start + step * (n - 1) < n_all
    assert np.prod(chosen.shape) <= MAX_VOXELS
    if np.prod(shape) <= MAX_VOXELS:
        assert (chosen.step, chosen.shape) == ((1, 1, 1), shape)
    for s, step in zip(spacing_mm, chosen.step, strict=True):
        assert step == 1 or s * step <= MAX_SPACING_MM


def test_small_volumes_are_embedded_whole_and_in_place():
    image = np.random.default_rng(0).normal(100, 20, (9, 8, 7)).astype(np.float32)
    label = np.zeros((9, 8, 7), np.uint8)
    label[2, 3, 4] = 2
    made = case(image, label, point=(2, 3, 4), spacing_mm=(1.0, 2.0, 3.0), note="here")
    assert made.data["is_whole"] is True
    file = opened(made.data["image"])
    assert file.header.get_zooms() == (1.0, 2.0, 3.0)
    assert file.get_data_dtype() == np.uint8
    shown = opened(made.data["overlays"][0]["file"])
    assert np.array_equal(np.asarray(shown.dataobj), label)
    assert made.data["overlays"][0]["present"] == [2]
    json.dumps(made.data)
    assert made.n_bytes > len(made.data["image"])


def test_big_volumes_are_thinned_around_the_point(monkeypatch):
    monkeypatch.setattr(viewer, "MAX_VOXELS", 3_000)
    label = np.zeros((40, 40, 20), np.uint8)
    label[33, 21, 7] = 1
    made = case(label.astype(np.int16), label, point=(33, 21, 7), spacing_mm=(0.9, 0.9, 2.5))
    assert made.data["is_whole"] is False
    shown = np.asarray(opened(made.data["overlays"][0]["file"]).dataobj)
    assert shown.size <= 3_000
    assert shown[made.data["point"]] == 1
    back = [
        s + t * p
        for s, t, p in zip(made.data["start"], made.data["step"], made.data["point"], strict=True)
    ]
    assert back == [33, 21, 7]


def test_noise_at_the_limit_stays_below_one_and_a_half_megabytes():
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 100)).astype(np.int16)
    label = (image > 250).astype(np.uint8)
    assert case(image, label).n_bytes < 1_600_000


def test_many_classes_keep_their_values():
    label = (np.arange(1000, dtype=np.int32).reshape(10, 10, 10)) % 400
    shown = opened(case(label.astype(np.float32), label).data["overlays"][0]["file"])
    assert np.array_equal(np.asarray(shown.dataobj), label)


def test_same_input_same_text_and_other_points_other_keys():
    label = np.ones((4, 4, 4), np.uint8)
    first, again = (case(label.astype(np.int16), label) for _ in range(2))
    assert first == again
    assert case(label.astype(np.int16), label, point=(1, 1, 1)).key != first.key


def test_overlays_must_lie_on_the_grid():
    overlay = Overlay("a", np.zeros((2, 2, 2), np.uint8), (), ())
    with pytest.raises(ValueError, match="one shape"):
        viewer_case(
            "t",
            np.zeros((3, 2, 2), np.float32),
            [overlay],
            spacing_mm=(1.0, 1.0, 1.0),
            point=(0, 0, 0),
        )


def test_the_library_is_the_released_file_and_its_license_is_there():
    library = gzip.decompress(base64.b64decode(library_text()))
    assert hashlib.sha256(library).hexdigest() == SHA256
    assert "BSD 2-Clause" in license_text()
