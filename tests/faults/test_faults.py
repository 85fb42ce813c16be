"""Planted faults through the real ingest and audit: each must be named, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_builders import (
    Fault,
    Harmless,
    all_found,
    image_file,
    loud,
    run_audit,
)
from planted import anatomy, codes, cohorts, files, grids
from planted.files import truncate
from planted.harmless import HARMLESS

from pipeline.audit.catalog import CHECK_TITLES

FAULTS = (
    *files.FAULTS,
    *grids.FAULTS,
    *codes.FAULTS,
    *anatomy.FAULTS,
    *cohorts.FAULTS,
)

Place = Callable[[str], tuple[Path, Path]]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted_fault_is_named_and_nothing_else(fault: Fault, place: Place) -> None:
    data, work = place(fault.base)
    fault.inject(data)
    findings = run_audit(data, work, fault.settings(data))
    found = loud(findings)
    assert fault.expected <= all_found(findings)
    assert {i for i, _ in found - fault.expected} <= fault.also
    assert all(f.message and f.fix for f in findings.findings)
    severities = {severity for _, severity in fault.expected}
    verdicts = {"error": "errors", "warning": "warnings"}
    expected = next((v for s, v in verdicts.items() if s in severities), "clean")
    if not found - fault.expected:
        assert findings.verdict == expected


@pytest.mark.parametrize("harmless", HARMLESS, ids=lambda harmless: harmless.name)
def test_harmless_peculiarity_is_not_reported(harmless: Harmless, place: Place) -> None:
    data, work = place(harmless.base)
    harmless.inject(data)
    findings = run_audit(data, work, harmless.settings(data))
    assert loud(findings) == set()
    assert findings.verdict == "clean"


# Checks that no dataset can make fire.
ELSEWHERE = {
    "P": "preflight of train: tests/train/test_preflight.py and test_guard.py",
}


def test_every_check_has_a_fault_that_makes_it_fire() -> None:
    fired = {check_id for fault in FAULTS for check_id, _ in fault.expected}
    silent = {i for i in CHECK_TITLES if i not in fired and i[0] not in ELSEWHERE}
    assert silent == set()


def test_every_base_and_name_is_used_once() -> None:
    names = [fault.name for fault in FAULTS] + [harmless.name for harmless in HARMLESS]
    assert len(names) == len(set(names))


def test_unreadable_case_is_listed_and_left_out_of_the_folds(place: Place) -> None:
    data, work = place("small")
    truncate(image_file(data))
    findings = run_audit(data, work)
    assert [f.case_id for f in findings.findings if f.check_id == "F03"] == ["case_001"]
    splits = json.loads((work / "audit" / "splits.json").read_text())
    ids = {i for fold in splits["folds"] for i in fold["validation"]}
    assert ids == {f"case_{n:03d}" for n in range(6)} - {"case_001"}
