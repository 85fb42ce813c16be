import numpy as np
import pytest
from audit_builders import dataset, image_of, label_of, record, row, view

from pipeline.artifacts import Finding
from pipeline.audit.catalog import CHECK_TITLES
from pipeline.audit.config import AuditConfig
from pipeline.audit.pages.distributions import (
    CASE_QUANTITIES,
    CLASS_QUANTITIES,
    MIN_CASES,
    VOLUME_CHECKS,
    distribution_of,
    volumes_ml,
)
from pipeline.audit.rows import make_row


def rows_of(n):
    labels = []
    for extra in range(n):
        label = label_of()
        label[2 : 3 + extra % 3, 9:11, 2:4] = 1
        labels.append(label)
    made = [make_row(view(label), AuditConfig()) for label in labels]
    return [one.model_copy(update={"case_id": f"case_{k}"}) for k, one in enumerate(made)]


def cohort(n):
    rows = rows_of(n)
    cases = [record(label_of(), one.case_id, image=image_of((10, 12, 14))) for one in rows]
    return dataset(rows, cases)


def finding(check_id, class_name=None, case_id="case_1"):
    return Finding(
        check_id=check_id,
        severity="warning",
        case_id=case_id,
        class_name=class_name,
        message="",
        fix="",
    )


def test_volume_outliers_show_every_volume_with_the_case_marked():
    found = cohort(MIN_CASES + 1)
    chart = distribution_of(finding("S03", "liver"), found)
    assert chart is not None
    assert (chart.unit, chart.is_log) == ("volume, ml", True)
    assert chart.rows[0].name == "liver"
    assert chart.rows[0].mark is not None
    assert f"{MIN_CASES + 1} cases; this case" in chart.rows[0].text


@pytest.mark.parametrize("check_id", sorted({*CASE_QUANTITIES, *CLASS_QUANTITIES, *VOLUME_CHECKS}))
def test_every_quantity_can_be_read_from_real_rows(check_id):
    assert check_id in CHECK_TITLES
    found = cohort(MIN_CASES)
    class_name = None if check_id in CASE_QUANTITIES else "liver"
    chart = distribution_of(finding(check_id, class_name), found)
    # A phantom is too small for an alignment profile, and shows no island.
    assert chart is None or chart.rows[0].text


@pytest.mark.parametrize(
    "one",
    [
        finding("E01"),
        finding("S03"),
        finding("S03", "no such class"),
        finding("S03", "liver", case_id="case_99"),
    ],
    ids=["no number", "no class", "unknown class", "unknown case"],
)
def test_no_number_no_chart(one):
    assert distribution_of(one, cohort(MIN_CASES)) is None


def test_few_cases_are_no_distribution():
    assert distribution_of(finding("S03", "liver"), cohort(MIN_CASES - 1)) is None


def test_a_case_that_cannot_be_used_has_no_volume():
    assert volumes_ml(row("a", (5, 5))) == ()
    made = rows_of(1)[0]
    expected = [n * np.prod((1.0, 2.0, 3.0)) / 1000 for n in made.n_class_voxels]
    assert volumes_ml(made) == pytest.approx(expected)
