import re
from dataclasses import replace

import numpy as np
import pytest
from evaluate_builders import cases_of, evaluation_of, spread, with_lesions, with_surfaces

from pipeline.artifacts import FailedCase
from pipeline.evaluate import figures
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gallery import CasePicture
from pipeline.evaluate.report import render_report
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.regions import region_overlap
from pipeline.metrics.scores import CaseScores
from pipeline.reporting.viewer import viewer_case

HOSTILE = '<script>alert("1")</script>[bold]'


def case(case_id, *rows, offset=0.0):
    classes = tuple(
        OverlapScores(n, *row, 0.001) for n, row in zip(("liver", HOSTILE), rows, strict=True)
    )
    return CaseScores(case_id, classes, grid_offset_voxels=offset)


def evaluation(*cases, failed=(), policy="strict", extra=()):
    config = EvaluateConfig(policy=policy, n_bootstrap=100)
    summary = summarize(cases, ("liver", HOSTILE), policy=policy, n_bootstrap=100)
    return Evaluation(
        dataset_name="held out",
        class_names=("liver", HOSTILE),
        config=config,
        cases=cases,
        summary=summary.model_copy(update={"failed_cases": tuple(failed)}),
        extra_predictions=extra,
    )


CASES = (
    case("one", (5, 1, 1), (0, 0, 4)),
    case("two", (6, 1, 1), (0, 0, 0), offset=0.2),
    case("three", (7, 1, 1), (3, 0, 0)),
)
GONE = FailedCase(case_id="four", message="it is gone", fix="bring it back")


@pytest.mark.parametrize(
    ("given", "badge"),
    [
        (evaluation(*CASES, failed=[GONE]), "1 case failed"),
        (evaluation(*CASES), "1 structure missed"),
        (evaluation(CASES[2]), "every case scored"),
    ],
)
def test_the_verdict_names_the_worst_that_happened(given, badge):
    assert badge in render_report(given, ())


def test_failures_and_notes_are_shown_only_if_there_are_any():
    page = render_report(evaluation(*CASES, failed=[GONE], extra=("a.nii.gz",)), ())
    for text in ("it is gone", "bring it back", "a.nii.gz", "0.2 (two)", "3 of 4"):
        assert text in page
    enough = evaluation_of(cases_of(a=spread(12)))
    assert "Failures and notes" not in render_report(enough, ())


def test_names_from_files_cannot_become_markup():
    assert "<script>alert" not in render_report(evaluation(*CASES), ())


def test_the_page_says_policy_and_never_nan():
    for policy in ("strict", "nnunet", "monai"):
        page = render_report(evaluation(CASES[1], policy=policy), ())
        assert f"{policy} (chosen)" in page
        assert not re.search(r"\b(nan|None|inf)\b", page)


def sections(page):
    return re.findall(r'<section id="([a-z]+)"', page)


def test_sections_exist_only_for_what_was_measured():
    plain = sections(render_report(evaluation_of(cases_of(a=spread(3), b=spread(3))), ()))
    assert plain == [
        *("failures", "classes", "volumes", "confusions", "heat", "cases"),
        *("policies", "definitions", "paper"),
    ]
    case = with_lesions(with_surfaces(cases_of(a=[0.5])[0]), "a", n=2, n_found=1, n_false=0)
    rich = render_report(evaluation_of((replace(case, calibration_error=0.123),)), ())
    assert {"surfaces", "lesions", "calibration"} <= set(sections(rich))
    assert "0.123 (c00)" in rich


def test_every_link_of_the_navigation_has_its_section():
    page = render_report(evaluation_of(tuple(with_surfaces(c) for c in cases_of(a=[0.5]))), ())
    navigation = page[page.index("<nav") : page.index("</nav>")]
    assert sorted(re.findall(r'href="#([a-z]+)"', navigation)) == sorted(sections(page))


def test_regions_stand_in_every_table_as_unions():
    cases = tuple(
        with_surfaces(replace(c, classes=(*c.classes, region_overlap(c, "all", ("a", "b")))))
        for c in cases_of(a=spread(3), b=spread(3))
    )
    page = render_report(evaluation_of(cases, regions={"all": ("a", "b")}), ())
    # Overlap, surfaces, volumes, policies, and the drawing of volumes.
    assert page.count("all (union of a, b)") >= 5
    assert "2 classes, 1 region" in page


def test_an_evaluation_without_any_scored_case_is_still_a_page():
    config = EvaluateConfig(n_bootstrap=0)
    summary = summarize((), ("a",), n_bootstrap=0).model_copy(update={"failed_cases": (GONE,)})
    page = render_report(Evaluation("held out", ("a",), config, (), summary), ())
    assert "0 of 1" in page
    assert not re.search(r"\b(nan|None|inf)\b", page)


def test_a_picture_opens_the_viewer_if_its_volume_is_there():
    volume = viewer_case(
        "c00", np.zeros((4, 4, 4), np.float32), [], spacing_mm=(1.0, 1.0, 1.0), point=(1, 1, 1)
    )
    given = evaluation_of(cases_of(a=[0.5, "missed"]))
    pictures = [
        CasePicture("c00", "data:e0", "data:o0", 12, volume),
        CasePicture("c01", "data:e1", "data:o1", 1234, None),
    ]
    page = render_report(given, pictures)
    assert page.count('<button type="button" class="open-viewer"') == 1
    assert f'data-viewer="{volume.key}"' in page
    assert "missed: a; 1,234 voxels differ" in page
    assert page.count("data:o") == 2
    assert "viewer-library" not in render_report(given, pictures[1:])


def test_many_classes_and_cases_stay_small(monkeypatch):
    monkeypatch.setattr(figures, "MAX_NAMED_DOTS", 100)
    columns = {f"class {n}": [*spread(18), "missed", "absent"] for n in range(15)}
    page = render_report(evaluation_of(cases_of(**columns), n_bootstrap=10), ())
    assert page.count('class="cloud failed"') == 15
    dots = page[page.index('aria-label="Dice of every case') : page.index("diamond: mean")]
    assert "<circle" not in dots
    # Volumes beyond the first dozen wait behind a click.
    assert "3 more classes" in page
