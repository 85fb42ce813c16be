"""What the training cases looked like, so that inference can tell a case that looks different."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.artifacts import (
    QUANTILE_LEVELS,
    CaseFingerprint,
    CaseRecord,
    Range,
    Task,
    TrainingRanges,
)
from pipeline.core.errors import DataError

MM3_PER_ML = 1000.0
# Quantiles of the foreground intensities that are kept beside mean and standard deviation.
INTENSITY_LEVELS = (0.01, 0.5, 0.99)


def training_ranges(
    rows: Sequence[CaseFingerprint], records: Sequence[CaseRecord], task: Task
) -> TrainingRanges:
    """Summarize the cases of a training fold.

    Volumes and absence of a class are those of the cases in which it was annotated; a class that
    was annotated nowhere has neither. Intensities are those of the cases with a structure in them.

    Args:
        rows: Fingerprints of the training cases.
        records: What ingest wrote down about the same cases, in the same order.
        task: The classes.

    Returns:
        Spread of spacing and extent (mm, along R, A, S), intensities and class volumes (ml).

    Raises:
        DataError: If there is no case, or rows and records do not belong together.
    """
    if not rows or [r.case_id for r in rows] != [r.case_id for r in records]:
        raise DataError(
            "fingerprints and cases of the training fold do not belong together",
            fix="run ingest and audit again",
        )
    volumes_ml, absent_fraction = {}, {}
    for position, label_class in enumerate(task.classes):
        found_ml = [
            row.n_class_voxels[position] * math.prod(row.spacing_mm) / MM3_PER_ML
            for row, record in zip(rows, records, strict=True)
            if label_class.name not in record.unannotated
        ]
        present_ml = [volume_ml for volume_ml in found_ml if volume_ml > 0]
        if found_ml:
            absent_fraction[label_class.name] = 1 - len(present_ml) / len(found_ml)
        if present_ml:
            volumes_ml[label_class.name] = _range_of(present_ml)
    return TrainingRanges(
        n_cases=len(rows),
        spacing_mm=_along_axes([row.spacing_mm for row in rows]),
        extent_mm=_along_axes([_extent_mm(row) for row in rows]),
        orientations=dict(
            sorted(Counter(r.image.source_orientation for r in records if r.image).items())
        ),
        intensities=tuple(_intensities(rows, c) for c in range(len(task.channels))),
        volumes_ml=volumes_ml,
        absent_fraction=absent_fraction,
    )


def _extent_mm(row: CaseFingerprint) -> tuple[float, float, float]:
    i, j, k = (n * edge_mm for n, edge_mm in zip(row.shape, row.spacing_mm, strict=True))
    return i, j, k


def _along_axes(triples: Sequence[tuple[float, float, float]]) -> tuple[Range, Range, Range]:
    i, j, k = (_range_of([triple[axis] for triple in triples]) for axis in range(3))
    return i, j, k


def _intensities(rows: Sequence[CaseFingerprint], channel: int) -> tuple[Range, ...]:
    # Without any structure a fingerprint is that of the whole image, air included.
    usable = [row for row in rows if any(row.n_class_voxels)] or rows
    statistics = [row.foreground[channel] for row in usable]
    places = [QUANTILE_LEVELS.index(level) for level in INTENSITY_LEVELS]
    return (
        _range_of([s.mean for s in statistics]),
        _range_of([s.std for s in statistics]),
        *(_range_of([s.quantiles[place] for s in statistics]) for place in places),
    )


def _range_of(values: Sequence[float]) -> Range:
    lowest, p01, median, p99, highest = (
        float(v) for v in np.quantile(values, (0, 0.01, 0.5, 0.99, 1))
    )
    return Range(lowest=lowest, p01=p01, median=median, p99=p99, highest=highest)
