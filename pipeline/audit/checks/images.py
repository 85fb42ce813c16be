"""Checks on image values and on what a second reader makes of the files (F11-F14)."""

from pipeline.audit.checks.types import CaseCheck, DatasetCheck

CASE_CHECKS: tuple[CaseCheck, ...] = ()
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()
