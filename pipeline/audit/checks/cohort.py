"""Checks over all cases: leakage, drift, confounding, outlying grids (D03-D09, G11)."""

from pipeline.audit.checks.types import CaseCheck, DatasetCheck

CASE_CHECKS: tuple[CaseCheck, ...] = ()
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()
