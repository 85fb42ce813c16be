"""What SimpleITK makes of the same files."""

from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measures import ReaderFacts
from pipeline.audit.view import CaseView


def compare_readers(view: CaseView, limits: ImageLimits) -> tuple[ReaderFacts, ...]:
    """To be written."""
    return ()
