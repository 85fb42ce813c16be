"""What a check is: a pure function from what was seen and the thresholds to findings."""

from collections.abc import Callable

from pipeline.artifacts import Finding
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, DatasetView

CaseCheck = Callable[[CaseView, AuditConfig], list[Finding]]
DatasetCheck = Callable[[DatasetView, AuditConfig], list[Finding]]
