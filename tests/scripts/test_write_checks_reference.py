"""The reference page of the checks tells what the code does."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import write_checks_reference as reference

from pipeline.audit.catalog import CHECK_TITLES


def test_every_check_is_on_the_page():
    assert set(reference.NOTES) == set(CHECK_TITLES)


def test_page_is_as_the_code_would_write_it():
    alarms = json.loads(reference.ALARMS.read_text())
    expected = reference.page(alarms)
    assert reference.PAGE.read_text(encoding="utf-8") == expected, (
        "run .venv/bin/python scripts/write_checks_reference.py"
    )


@pytest.mark.parametrize("name", ["note", "limit"])
def test_page_names_limits_and_alarms(name):
    found = {"n_cases": 50, "checks": {"S03 warning": {"n_findings": 4, "n_cases": 2}}}
    line = next(
        line for line in reference.page({"Set": found}).splitlines() if line.startswith("| **S03**")
    )
    expected = {"note": "warning 4 / 2 (4.0 %)", "limit": "`anatomy.max_outlier_z` 3.5"}
    assert expected[name] in line
