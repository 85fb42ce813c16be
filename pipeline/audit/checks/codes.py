"""Checks on what label values betray (E04, E10, E11, E13)."""

from pipeline.audit.checks.types import CaseCheck, DatasetCheck

CASE_CHECKS: tuple[CaseCheck, ...] = ()
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()
