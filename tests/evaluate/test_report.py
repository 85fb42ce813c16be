import re

import pytest

from pipeline.artifacts import FailedCase
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.report import render_report
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores

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
    assert "Failures and notes" not in render_report(evaluation(CASES[0]), ())


def test_names_from_files_cannot_become_markup():
    assert "<script>alert" not in render_report(evaluation(*CASES), ())


def test_the_page_says_policy_and_never_nan():
    for policy in ("strict", "nnunet", "monai"):
        page = render_report(evaluation(CASES[1], policy=policy), ())
        assert f"{policy} (chosen)" in page
        assert not re.search(r"\b(nan|None|inf)\b", page)
