"""Where a NIfTI header contradicts itself, the facts say by how much and which side counts."""

import nibabel as nib
import numpy as np
import phantoms
import pytest

from pipeline.io.nifti import read_nifti

SHAPE = (6, 5, 4)
AFFINE = phantoms.affine_of(SHAPE, (1.0, 2.0, 3.0), "LPS", oblique_degrees=20)


def facts_of(folder, change=lambda image: None):
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    change(image)
    file = folder / "a.nii"
    file.write_bytes(image.to_bytes())
    return read_nifti(file, root=folder).facts


def test_a_header_at_one_with_itself_has_nothing_to_say(tmp_path):
    facts = facts_of(tmp_path)
    assert facts.notes == ()
    assert facts.disagreement_mm == pytest.approx(0, abs=1e-4)
    assert facts.shear_degrees == pytest.approx(0, abs=1e-3)
    # 20 degrees about x and 10 about z.
    assert facts.oblique_degrees == pytest.approx(22.2, abs=0.3)


def test_the_sform_counts_and_the_distance_is_in_mm(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += (3, 0, 4)
    facts = facts_of(tmp_path, lambda image: image.set_sform(moved, 2))
    np.testing.assert_allclose(np.array(facts.affine), moved, atol=1e-5)
    assert facts.disagreement_mm == pytest.approx(5, abs=1e-4)
    assert facts.notes == ("sform and qform place corners 5 mm apart; the sform counts",)


def test_pixdim_does_not_count_where_there_is_a_matrix(tmp_path):
    def change(image):
        image.set_sform(AFFINE @ np.diag([2.0, 2, 2, 1]), 1)
        image.header["qform_code"] = 0

    facts = facts_of(tmp_path, change)
    assert facts.disagreement_mm is None
    assert facts.notes == ("pixdim says 1 x 2 x 3 mm, the sform 2 x 4 x 6 mm; the sform counts",)


def test_no_code_at_all_is_noted(tmp_path):
    facts_of(tmp_path)
    file = tmp_path / "a.nii"
    raw = bytearray(file.read_bytes())
    raw[252:256] = bytes(4)  # qform_code, sform_code
    file.write_bytes(raw)
    facts = read_nifti(file, root=tmp_path).facts
    assert facts.affine_source == "pixdim"
    assert "neither sform nor qform" in facts.notes[0]


def test_shear_is_kept_and_noted_in_degrees(tmp_path):
    sheared = np.diag([1.0, 2.0, 3.0, 1.0])
    sheared[1, 2] = 3.0 * np.tan(np.radians(8))  # a gantry tilted by 8 degrees
    facts = facts_of(tmp_path, lambda image: image.set_sform(sheared, 1))
    assert facts.shear_degrees == pytest.approx(8, abs=1e-4)
    np.testing.assert_allclose(np.array(facts.affine), sheared, atol=1e-6)
    assert any("8 degrees off the right angle" in note for note in facts.notes)


@pytest.mark.parametrize(("unit", "word"), [("meter", "meters"), ("micron", "micrometers")])
def test_other_units_than_mm_are_noted(tmp_path, unit, word):
    facts = facts_of(tmp_path, lambda image: image.header.set_xyzt_units(unit, "sec"))
    assert facts.notes == (f"the header counts in {word}; taken as mm, as nibabel does",)
    assert facts_of(tmp_path, lambda image: image.header.set_xyzt_units("mm", "sec")).notes == ()
