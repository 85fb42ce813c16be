"""The scores of all cases sorted by class, once, for everything a report says about a class."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores


@dataclass(frozen=True)
class ClassCases:
    """Scores of one class or region over all cases that have any.

    Args:
        overlaps: Case id and overlap.
        surfaces: Surface scores; empty if they were not computed.
        lesions: Detection scores; empty if they were not computed.
    """

    overlaps: tuple[tuple[str, OverlapScores], ...]
    surfaces: tuple[SurfaceScores, ...]
    lesions: tuple[LesionScores, ...]


def sort_by_class(cases: Sequence[CaseScores], names: Sequence[str]) -> dict[str, ClassCases]:
    """Sort the scores of all cases by class.

    Args:
        cases: Scored cases.
        names: Classes and regions; one that no case scored gets an empty entry.

    Returns:
        Scores per name, in the order of the names and cases.
    """
    overlaps: dict[str, list[tuple[str, OverlapScores]]] = {name: [] for name in names}
    surfaces: dict[str, list[SurfaceScores]] = {name: [] for name in names}
    lesions: dict[str, list[LesionScores]] = {name: [] for name in names}
    for case in cases:
        for overlap in case.classes:
            if overlap.class_name in overlaps:
                overlaps[overlap.class_name].append((case.case_id, overlap))
        for surface in case.surfaces:
            if surface.class_name in surfaces:
                surfaces[surface.class_name].append(surface)
        for lesion in case.lesions:
            if lesion.class_name in lesions:
                lesions[lesion.class_name].append(lesion)
    return {
        name: ClassCases(tuple(overlaps[name]), tuple(surfaces[name]), tuple(lesions[name]))
        for name in names
    }
