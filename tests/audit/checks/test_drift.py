from dataclasses import replace

import numpy as np
import pytest
from audit_builders import dataset, label_of, record, usable_row
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Splits
from pipeline.audit.checks.drift import check_drift, check_sites
from pipeline.audit.config import AuditConfig
from pipeline.audit.splits import make_splits

CONFIG = AuditConfig()


def cohort(rows, *, sites=None, folds=None):
    case = record(label_of())
    cases = [case.model_copy(update={"case_id": r.case_id}) for r in rows]
    splits = folds or make_splits([r.case_id for r in rows], {}, CONFIG)
    return replace(dataset(rows, cases), splits=splits.model_copy(update={"sites": sites or {}}))


def rows_of(n=120, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return [
        usable_row(
            f"case_{i:03d}",
            (int(rng.lognormal(8.0, 0.5)), int(rng.lognormal(5.0, 0.5))),
            mean=float(rng.normal(50.0, 5.0)),
            **changes,
        )
        for i in range(n)
    ]


def validation_of(rows, fold):
    held_out = set(make_splits([r.case_id for r in rows], {}, CONFIG).folds[fold].validation)
    return [n for n, r in enumerate(rows) if r.case_id in held_out]


def change(rows, places, **fields):
    changed = list(rows)
    for n in places:
        fingerprint = rows[n].fingerprint.model_copy(update=fields)
        changed[n] = rows[n].model_copy(update={"fingerprint": fingerprint})
    return changed


def test_another_spacing_in_one_fold_is_named():
    rows = rows_of()
    drifted = change(rows, validation_of(rows, 2), spacing_mm=(1.0, 1.0, 3.0))
    findings = check_drift(cohort(drifted), CONFIG)
    assert {(f.check_id, f.severity) for f in findings} == {("D07", "warning")}
    spacing = [f for f in findings if "spacing along S" in f.message]
    assert [f.evidence["fold"] for f in spacing] == [2]
    assert spacing[0].value > 1


def test_larger_structures_in_one_fold_are_named_by_class():
    rows = rows_of()
    places = set(validation_of(rows, 1))
    larger = [
        r.model_copy(
            update={
                "fingerprint": r.fingerprint.model_copy(
                    update={"n_class_voxels": (r.n_class_voxels[0], 5 * r.n_class_voxels[1])}
                )
            }
        )
        if n in places
        else r
        for n, r in enumerate(rows)
    ]
    findings = check_drift(cohort(larger), CONFIG)
    assert [(f.class_name, f.evidence["fold"]) for f in findings] == [("tumor", 1)]


def test_other_intensities_are_named():
    rows = rows_of()
    bright = [
        usable_row(r.case_id, r.n_class_voxels, mean=90.0 + n)
        for n, r in enumerate(rows)
        if n in set(validation_of(rows, 0))
    ]
    by_id = {r.case_id: r for r in (*rows, *bright)}
    findings = check_drift(cohort([by_id[r.case_id] for r in rows]), CONFIG)
    assert [f.evidence["fold"] for f in findings] == [0]
    assert "intensity of T1" in findings[0].message


@pytest.mark.parametrize("seed", range(8))
def test_random_folds_do_not_differ(seed):
    assert check_drift(cohort(rows_of(seed=seed)), CONFIG) == []


def test_a_few_cases_are_silent():
    rows = rows_of(60)  # twelve per fold
    drifted = change(rows, validation_of(rows, 2), spacing_mm=(1.0, 1.0, 3.0))
    assert check_drift(cohort(drifted), CONFIG) == []
    assert check_drift(cohort([], folds=Splits(method="none", seed=0, folds=())), CONFIG) == []


def test_two_constant_sides_give_a_finite_effect():
    rows = [usable_row(f"case_{n:03d}") for n in range(120)]
    drifted = change(rows, validation_of(rows, 0), spacing_mm=(2.0, 1.0, 1.0))
    values = [f.value for f in check_drift(cohort(drifted), CONFIG)]
    assert values
    assert np.isfinite(values).all()


def sited(presence):
    """Cases whose site and presence of the tumor are given as (site, is_present)."""
    rows = [
        usable_row(f"case_{n:03d}", (100, 50 if shows else 0))
        for n, (_, shows) in enumerate(presence)
    ]
    return cohort(rows, sites={r.case_id: s for r, (s, _) in zip(rows, presence, strict=True)})


def test_a_site_that_never_labels_a_class_is_told():
    presence = [("Bern", True)] * 15 + [("Graz", False)] * 15
    (finding,) = check_sites(sited(presence), CONFIG)
    assert (finding.check_id, finding.severity, finding.class_name) == ("D09", "info", "tumor")
    assert finding.value > 0.9
    assert "Bern 15 of 15, Graz 0 of 15" in finding.message


@pytest.mark.parametrize(
    "presence",
    [
        [("Bern", True), ("Bern", False), ("Graz", True), ("Graz", False)] * 10,
        [("Bern", True)] * 8 + [("Graz", False)] * 8,  # too few
        [("Bern", n % 2 == 0) for n in range(40)],  # one site
        [("Bern", True)] * 20 + [("Graz", True)] * 20,  # always there
        # Many sites with two cases each: presence differs by chance alone.
        [(f"site {n // 2}", n % 3 == 0) for n in range(40)],
    ],
)
def test_harmless_sites_are_not_told(presence):
    assert check_sites(sited(presence), CONFIG) == []


def test_cases_without_a_site_are_left_out():
    rows = [usable_row(f"case_{n:03d}", (100, 50 * (n % 2))) for n in range(40)]
    assert check_sites(cohort(rows), CONFIG) == []


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.booleans()), min_size=20, max_size=40))
def test_the_association_is_between_0_and_1(presence):
    for finding in check_sites(sited(presence), CONFIG):
        assert 0.5 < finding.value <= 1.0
