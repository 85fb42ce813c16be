import numpy as np
import pytest
from audit_builders import facts, label_of, record, view

from pipeline.artifacts import Problem
from pipeline.audit.checks import files
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView

CONFIG = AuditConfig()


def test_problems_become_errors_with_their_file():
    problem = Problem(check_id="F03", file="labels/a.nii.gz", message="cut short", fix="copy again")
    case = record(label_of()).model_copy(update={"problems": (problem,)})
    (finding,) = files.check_problems(CaseView(case, view(label_of()).task), CONFIG)
    assert (finding.check_id, finding.severity, finding.case_id) == ("F03", "error", "case_000")
    assert finding.evidence["file"] == "labels/a.nii.gz"
    assert files.finding_of_problem(problem, None).case_id is None


def test_trailing_bytes_are_a_warning_per_file():
    odd = view(label_of(), label_changes={"n_trailing_bytes": 7})
    (finding,) = files.check_trailing_bytes(odd, CONFIG)
    assert (finding.severity, finding.value) == ("warning", 7)
    assert files.check_trailing_bytes(view(label_of()), CONFIG) == []


@pytest.mark.parametrize(("shape", "n_found"), [((7, 20, 20), 1), ((8, 20, 20), 0)])
def test_short_axes(shape, n_found):
    assert len(files.check_dimensions(view(np.zeros(shape, np.uint8)), CONFIG)) == n_found


@pytest.mark.parametrize(
    ("slope", "intercept", "fires"),
    [
        (None, None, False),
        (0.0, 5.0, False),
        (1.0, 0.0, False),
        (1.0, None, False),
        (1.0, 1.0, True),
        (2.0, 0.0, True),
        (0.0039, 0.0, True),
    ],
)
def test_label_scaling(slope, intercept, fires):
    changes = {"scl_slope": slope, "scl_inter": intercept}
    assert bool(files.check_label_scaling(view(label_of(), label_changes=changes), CONFIG)) is fires
    on_image = view(label_of(), image_changes=changes)
    assert files.check_label_scaling(on_image, CONFIG) == []


@pytest.mark.parametrize(
    ("n_bad", "inside", "severity"),
    [(1, False, "error"), (1, True, "error"), (40, False, "error")],
)
def test_nonfinite_voxels_by_number_and_place(n_bad, inside, severity):
    label = label_of()
    image = np.ones((1, *label.shape), np.float32)
    places = np.argwhere((label > 0) == inside)[:n_bad]
    image[0][tuple(places.T)] = np.nan
    case = view(label, image, image_changes={"n_nonfinite": n_bad})
    (finding,) = files.check_finite(case, CONFIG)
    assert finding.severity == severity


def test_nonfinite_label_is_an_error():
    (finding,) = files.check_finite(view(label_of(), label_changes={"n_nonfinite": 1}), CONFIG)
    assert finding.severity == "error"


@pytest.mark.parametrize(
    ("share", "fires"), [(0.85, False), (0.9985, False), (0.9995, True), (1, True)]
)
def test_constant_images(share, fires):
    image = np.zeros((1, 20, 25, 40), np.float32)
    n = round((1 - share) * image.size)
    image.reshape(-1)[np.random.default_rng(0).permutation(image.size)[:n]] = 7
    found = files.check_constant(view(np.zeros((20, 25, 40), np.uint8), image), CONFIG)
    assert bool(found) is fires


def test_the_constant_channel_is_named():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    image[1] = 3
    (finding,) = files.check_constant(view(np.zeros((8, 8, 8), np.uint8), image), CONFIG)
    assert "channel 1" in finding.message


def test_nothing_is_said_about_arrays_that_are_not_there():
    empty = CaseView(
        record(label_of()).model_copy(update={"label_file": None}), view(label_of()).task
    )
    for check in (files.check_constant, files.check_finite, files.check_label_scaling):
        assert check(empty, CONFIG) == []
    assert facts("a", (1, 1, 1)).n_nonfinite == 0


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_a_problem_keeps_the_severity_that_ingest_gave_it(severity):
    problem = Problem(
        check_id="E12",
        file="dataset.json",
        message="lists a case that is not there",
        fix="write the list again",
        severity=severity,
    )
    assert files.finding_of_problem(problem, None).severity == severity
