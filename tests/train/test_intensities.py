"""Flat, wild and broken intensities are told; air in a patch and one odd case are not errors."""

from dataclasses import replace

import numpy as np

from pipeline.artifacts import Finding
from pipeline.train.intensities import check_intensities
from pipeline.train.patches import PatchFacts
from pipeline.train.prepare import PreparedCase

PATCH = PatchFacts("a", (0, 1), is_integral=True, is_finite=True, means=(0.0,), stds=(1.0,))
CHANNELS = ["T1"]


def case(case_id="a", scale=1.0, shift=0.0) -> PreparedCase:
    rng = np.random.default_rng(0)
    image = shift + scale * rng.normal(size=(1, 12, 12, 12))
    label = np.zeros((12, 12, 12), np.uint8)
    return PreparedCase(case_id, image.astype(np.float16), label, (), (1.0, 1.0, 1.0))


def only(findings) -> Finding:
    (finding,) = findings
    assert finding.check_id == "P05"
    return finding


def test_normalized_images_pass():
    assert check_intensities([PATCH], [case()], CHANNELS) == []


def test_one_voxel_that_is_not_finite_is_an_error():
    broken = only(check_intensities([replace(PATCH, is_finite=False)], [case()], CHANNELS))
    assert (broken.severity, broken.case_id) == ("error", "a")


def test_a_flat_case_is_a_warning_and_a_sample_without_contrast_an_error():
    flat = only(check_intensities([PATCH], [case(), case("b", scale=1e-4)], CHANNELS))
    assert (flat.severity, flat.case_id) == ("warning", "b")
    # One patch in air among others is normal.
    air = replace(PATCH, stds=(0.0,))
    assert check_intensities([air, PATCH], [case()], CHANNELS) == []
    gray = only(check_intensities([air] * 3, [case()], CHANNELS))
    assert gray.severity == "error"


def test_one_wild_case_is_a_warning_and_wild_patches_are_an_error():
    wild = only(check_intensities([PATCH], [case(), case("b", scale=300.0)], CHANNELS))
    assert (wild.severity, wild.case_id) == ("warning", "b")
    moved = only(check_intensities([PATCH], [case("c", shift=40.0)], CHANNELS))
    assert "mean 40" in moved.message
    for raw in ({"stds": (400.0,)}, {"means": (-500.0,)}):
        patches = [replace(PATCH, **raw)] * 5
        found = only(check_intensities(patches, [case()], CHANNELS))
        assert found.severity == "error"
        assert "not normalized" in found.message
    # Two odd patches among many come from one odd case.
    assert check_intensities([*patches[:2], *[PATCH] * 5], [case()], CHANNELS) == []
