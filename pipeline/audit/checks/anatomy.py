"""Family S: sizes, pieces, places and neighbors of the structures."""

from pipeline.audit.checks.types import CaseCheck, DatasetCheck

CASE_CHECKS: tuple[CaseCheck, ...] = ()
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()
