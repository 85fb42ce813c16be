"""What is normal for a class: its measures in every case that shows it, side by side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import Finding
from pipeline.audit.checks.robust import robust_z
from pipeline.audit.measures import ClassMeasures
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.core.geometry import Shape3, Spacing, spacing_of

# Up to so many cases with the same peculiarity are listed one by one.
MAX_SINGLE = 5


@dataclass(frozen=True)
class Seen:
    """One class in one case.

    Args:
        row: The row of the case.
        measures: What was measured of the class.
        spacing_mm: Voxel spacing of the case along R, A, S.
    """

    row: CaseRow
    measures: ClassMeasures
    spacing_mm: Spacing

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return self.row.case_id

    @property
    def volume_mm3(self) -> float:
        """Volume of the class."""
        i, j, k = self.spacing_mm
        return self.measures.n_voxels * i * j * k


def classes_seen(dataset: DatasetView) -> Iterator[tuple[str, list[Seen]]]:
    """Go through the classes of a dataset.

    Args:
        dataset: All cases.

    Yields:
        Name of a class and the cases that show it, in the order of the manifest; classes that no
        case shows are left out.
    """
    spacings = {
        case.case_id: spacing_of(np.array(case.label.affine, dtype=np.float64))
        for case in dataset.manifest.cases
        if case.label is not None
    }
    found: dict[int, list[Seen]] = {}
    for row in dataset.rows:
        for measures in row.measures.classes:
            if row.case_id in spacings:
                seen = Seen(row, measures, spacings[row.case_id])
                found.setdefault(measures.class_index, []).append(seen)
    for declared in dataset.manifest.task.classes:
        if declared.index in found:
            yield declared.name, found[declared.index]


def values_of(seen: list[Seen], value: Callable[[Seen], float]) -> Float[np.ndarray, " n"]:
    """One number per case as an array."""
    return np.array([value(one) for one in seen], dtype=np.float64)


def is_habit(seen: list[Seen], is_so: Callable[[Seen], bool], min_cases: int) -> bool:
    """Whether most cases show a peculiarity, so that it is the nature of the class.

    Args:
        seen: The class in every case.
        is_so: The peculiarity.
        min_cases: With fewer cases nothing is known.

    Returns:
        True if at least `min_cases` cases are known and more than half of them are so.
    """
    return len(seen) >= min_cases and 2 * sum(map(is_so, seen)) > len(seen)


def outlier_z(values: Float[np.ndarray, " n"], floor: float) -> Float[np.ndarray, " n"]:
    """Robust z of each value within its cohort.

    Args:
        values: One per case.
        floor: Smallest believed median absolute deviation, in the unit of the values; 2 % of the
            median is always allowed as well.

    Returns:
        Signed robust z.
    """
    return robust_z(values, max(floor, 0.02 * abs(float(np.median(values)))))


def grouped(name: str, findings: list[Finding], n_cases: int) -> list[Finding]:
    """Report what many cases show as one finding, so that it does not hide the rest.

    Args:
        name: Name of the class.
        findings: One per case, the worst first.
        n_cases: Cases that show the class.

    Returns:
        The findings if they are few; else one that counts the cases and pictures the worst.
    """
    if len(findings) <= MAX_SINGLE:
        return findings
    worst = findings[0]
    message = (
        f"class '{name}', {len(findings)} of {n_cases} cases; "
        f"most of all {worst.case_id}: {worst.message}"
    )
    evidence = worst.evidence | {"n_cases": len(findings)}
    return [worst.model_copy(update={"message": message, "evidence": evidence})]


def voxel_evidence(voxel: Shape3 | None) -> dict[str, str | int | float | tuple[int, ...]]:
    """Where the picture of a finding is taken."""
    return {} if voxel is None else {"voxel_ras": voxel}


def middle_of(measures: ClassMeasures) -> Shape3:
    """Middle voxel of the bounding box of a class."""
    i, j, k = ((a + b) // 2 for a, b in zip(measures.start, measures.stop, strict=True))
    return i, j, k
