from dataclasses import replace

import pytest
from audit_builders import label_of, view

from pipeline.artifacts import Problem
from pipeline.audit.checks.readers import check_readers
from pipeline.audit.config import AuditConfig
from pipeline.audit.measures import CaseMeasures, ReaderFacts

SHAPE = (10, 12, 14)


def run(*readings, problems=(), **image_changes):
    case = view(label_of(SHAPE), image_changes=image_changes)
    case = replace(
        case,
        record=case.record.model_copy(update={"problems": problems}),
        measures=CaseMeasures(readers=readings),
    )
    return check_readers(case, AuditConfig())


def reading(file="image.nii", **changes):
    known = {"shape": SHAPE, "corner_shift_voxels": 0.0, "n_different_voxels": 0}
    return ReaderFacts(file=file, role="image", **(known | changes))


def test_equal_readings_are_silent():
    assert run(reading(), reading("label.nii", corner_shift_voxels=0.01)) == []
    assert run() == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"corner_shift_voxels": 3.0}, "3 voxels away"),
        ({"n_different_voxels": 5, "values": "nan here, 0 in SimpleITK"}, "5 voxels (nan here"),
        ({"error": "no orthonormal axes"}, "refuse the file: no orthonormal axes"),
        (
            {"shape": (5, 5), "corner_shift_voxels": None, "n_different_voxels": None},
            "5 x 5 voxels instead of 10 x 12 x 14",
        ),
    ],
)
def test_every_difference_is_named(changes, word):
    (finding,) = run(reading(**changes))
    assert (finding.check_id, finding.severity) == ("F14", "warning")
    assert word in finding.message
    assert finding.evidence["file"] == "image.nii"


def test_two_differences_stand_in_one_finding():
    (finding,) = run(
        reading(corner_shift_voxels=3.0, n_different_voxels=2, different_voxel=(1, 2, 3))
    )
    assert "away and see other values" in finding.message
    assert finding.evidence["voxel_ras"] == (1, 2, 3)


def test_the_header_tells_why_the_place_differs():
    (finding,) = run(reading(corner_shift_voxels=20.0), affine_source="pixdim")
    assert "no position" in finding.message
    (finding,) = run(reading(corner_shift_voxels=20.0), pixdim_mm=(1.0, 2.0, 9.0))
    assert "1 x 2 x 9 mm from pixdim" in finding.message


def test_a_damaged_file_matters_only_if_the_other_reader_takes_it():
    problem = Problem(check_id="F03", file="bad.nii.gz", message="image: cut", fix="copy it")
    taken = ReaderFacts(file="bad.nii.gz", role="image", shape=SHAPE, values="52 % are 0")
    (finding,) = run(taken, problems=(problem,))
    assert "without a word" in finding.message
    assert "52 % are 0" in finding.message
    refused = taken.model_copy(update={"error": "unknown"})
    assert run(refused, problems=(problem,)) == []


def test_a_problem_of_a_file_that_we_read_is_no_refusal():
    problem = Problem(check_id="G15", file="image.nii", message="image: another grid", fix="move")
    assert run(reading(), problems=(problem,)) == []
