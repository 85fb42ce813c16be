"""Checks on the grid itself and on where the label lies in the image (G06, G09, G10, G12-G14)."""

from pipeline.audit.checks.types import CaseCheck, DatasetCheck

CASE_CHECKS: tuple[CaseCheck, ...] = ()
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()
