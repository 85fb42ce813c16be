"""From a file to RAS and back to its native grid: exact for voxels, rounding for the affine.

Voxels come back bit for bit. NIfTI keeps its sform in 32 bits: 1e-6 of the numbers involved, below
0.001 mm in a patient. SimpleITK reads a NIfTI through the quaternion of its qform where that agrees
with the sform, which rounds once more: 0.01 mm at the far corner.
"""

import itertools

import nibabel as nib
import numpy as np
import phantoms
import pytest
from format_builders import simpleitk_view, write_volume
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.core.geometry import (
    Geometry,
    corner_distance_mm,
    inverse_reorientation,
    orientation_of,
    reorientation_to_ras,
)
from pipeline.core.volume import reorient, to_ras
from pipeline.io.load import load_volume
from pipeline.io.nifti import write_nifti

ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]
SUFFIXES = (".nii.gz", ".img", ".nrrd", ".nhdr", ".mha", ".mhd")
SHAPE = (3, 4, 5)
ARRAY = np.arange(60, dtype=np.int16).reshape(SHAPE)


def oblique(orientation, rotation_vector, spacing_mm, position_mm):
    """A grid turned by less than 35 degrees: its orientation in letters stays what it was."""
    affine = phantoms.affine_of(SHAPE, spacing_mm, orientation)
    affine[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = position_mm
    return affine


def distance_mm(affine, other) -> float:
    return corner_distance_mm(Geometry(SHAPE, affine), Geometry(SHAPE, other))


def check_round_trip(folder, suffix, orientation, affine):
    file = write_volume(folder / f"a{suffix}", ARRAY, affine)
    facts, native = load_volume(file, root=folder, role="label")
    np.testing.assert_array_equal(native.array, ARRAY)
    assert orientation_of(native.affine) == orientation
    assert distance_mm(native.affine, affine) < 1e-3
    turned = to_ras(native)
    assert orientation_of(turned.affine) == "RAS"
    back = reorient(turned, inverse_reorientation(reorientation_to_ras(native.affine)))
    np.testing.assert_array_equal(back.array, ARRAY)
    assert distance_mm(back.affine, native.affine) < 1e-9
    out = folder / "out.nii.gz"
    write_nifti(out, back, like=facts)
    image = nib.load(out)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), ARRAY)
    assert distance_mm(image.affine, native.affine) < 1e-3
    array, seen = simpleitk_view(out)
    np.testing.assert_array_equal(array[0], ARRAY)
    assert distance_mm(seen, native.affine) < 1e-2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_48_orientations_come_back(tmp_path, suffix):
    rng = np.random.default_rng(0)
    assert len(ORIENTATIONS) == 48
    for orientation in ORIENTATIONS:
        affine = oblique(
            orientation, rng.uniform(-0.35, 0.35, 3), rng.uniform(0.3, 8, 3), rng.uniform(-200, 200)
        )
        check_round_trip(tmp_path, suffix, orientation, affine)


@given(
    st.sampled_from([".nii.gz", ".nrrd", ".mha"]),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(-0.35, 0.35)] * 3),
    st.tuples(*[st.floats(0.1, 10.0)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_any_oblique_grid_comes_back(
    tmp_path_factory, suffix, orientation, rotation_vector, spacing_mm, position_mm
):
    affine = oblique(orientation, rotation_vector, spacing_mm, position_mm)
    check_round_trip(tmp_path_factory.getbasetemp(), suffix, orientation, affine)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_tilted_gantry_comes_back_as_it_was(tmp_path, suffix):
    """SimpleITK refuses a sheared NIfTI: here only nibabel can agree."""
    affine = np.diag([-0.5, -0.5, 3.0, 1.0])
    affine[1, 2] = 3.0 * np.tan(np.radians(12))
    file = write_volume(tmp_path / f"a{suffix}", ARRAY, affine)
    facts, native = load_volume(file, root=tmp_path, role="label")
    assert facts.shear_degrees == pytest.approx(12, abs=1e-4)
    assert any("12 degrees" in note for note in facts.notes)
    assert distance_mm(native.affine, affine) < 1e-5
    write_nifti(tmp_path / "out.nii.gz", native, like=facts)
    image = nib.load(tmp_path / "out.nii.gz")
    assert distance_mm(image.affine, affine) < 1e-5
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), ARRAY)
