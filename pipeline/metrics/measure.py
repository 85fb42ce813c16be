"""All that is asked of one case beyond overlap: surfaces, lesions and regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Integer

from pipeline.core.geometry import Spacing
from pipeline.metrics.lesion import AS_DRAWN, LesionRule, LesionScores, lesion_scores
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.regions import region_mask, with_regions
from pipeline.metrics.scores import MM3_PER_ML, CaseScores
from pipeline.metrics.surface import SurfaceScores, surface_scores

# Shapes are compared with a message of their own.
LabelMap = Integer[np.ndarray, "_ _ _"]


@dataclass(frozen=True)
class Measures:
    """What to measure beyond overlap.

    Args:
        tolerances_mm: Accepted surface distance per class or region, in mm; others get the
            default of metrics/surface.py.
        lesion_classes: Classes that come in several separate pieces.
        lesion_rule: What counts as one lesion.
        regions: Unions of classes: name to members.
        has_surfaces: Whether to measure surfaces at all.
    """

    tolerances_mm: Mapping[str, float] = field(default_factory=dict)
    lesion_classes: tuple[str, ...] = ()
    lesion_rule: LesionRule = AS_DRAWN
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_surfaces: bool = True


@dataclass(frozen=True)
class _Maps:
    """Two label maps on one grid, and what their indices and voxels are."""

    prediction: LabelMap
    reference: LabelMap
    class_names: tuple[str, ...]
    spacing_mm: Spacing


def with_measures(
    case: CaseScores,
    *,
    prediction: LabelMap | None,
    reference: LabelMap,
    class_names: Sequence[str],
    spacing_mm: Spacing,
    measures: Measures,
) -> CaseScores:
    """Add surfaces, lesions and regions to the overlap of a case.

    Args:
        case: Overlap of the same two maps.
        prediction: Predicted class indices, shape (i, j, k); None if nobody predicted the case.
        reference: Reference class indices on the same grid.
        class_names: Names of classes 1..N.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        measures: What to measure.

    Returns:
        The scores of the case with what was asked; regions stand behind the classes.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value that is no class index.
        ConfigError: If a region names a class that does not exist.
    """
    if prediction is None:
        prediction = np.broadcast_to(np.zeros((), reference.dtype), reference.shape)
    maps = _Maps(prediction, reference, tuple(class_names), spacing_mm)
    complete = with_regions(case, measures.regions)
    regions = complete.classes[len(case.classes) :]
    lesions = tuple(_lesions(s, maps, measures) for s in _with_lesions(case, measures))
    complete = replace(complete, lesions=lesions)
    if not measures.has_surfaces:
        return complete
    surfaces = (*_surfaces(maps, measures), *_region_surfaces(regions, maps, measures))
    # A case nobody predicted has no entry for classes its reference does not hold.
    scored = {s.class_name for s in complete.classes}
    return replace(complete, surfaces=tuple(s for s in surfaces if s.class_name in scored))


def _with_lesions(case: CaseScores, measures: Measures) -> list[OverlapScores]:
    return [s for s in case.classes if s.class_name in measures.lesion_classes]


def _lesions(overlap: OverlapScores, maps: _Maps, measures: Measures) -> LesionScores:
    index = 1 + maps.class_names.index(overlap.class_name)
    return lesion_scores(
        prediction=maps.prediction == index,
        reference=maps.reference == index,
        class_name=overlap.class_name,
        # By the overlap, which knows the volume of a voxel of sheared grids too.
        voxel_mm3=overlap.voxel_ml * MM3_PER_ML,
        rule=measures.lesion_rule,
    )


def _surfaces(maps: _Maps, measures: Measures) -> tuple[SurfaceScores, ...]:
    return surface_scores(
        prediction=maps.prediction,
        reference=maps.reference,
        class_names=maps.class_names,
        spacing_mm=maps.spacing_mm,
        tolerances_mm=measures.tolerances_mm,
    )


def _region_surfaces(
    regions: Sequence[OverlapScores], maps: _Maps, measures: Measures
) -> tuple[SurfaceScores, ...]:
    """Surfaces of unions: borders between their members are no surface, so each is its own map."""
    found: list[SurfaceScores] = []
    for region in regions:
        members = measures.regions[region.class_name]
        predicted, referred = (
            region_mask(label_map, maps.class_names, members).astype(np.uint8)
            for label_map in (maps.prediction, maps.reference)
        )
        found += surface_scores(
            prediction=predicted,
            reference=referred,
            class_names=(region.class_name,),
            spacing_mm=maps.spacing_mm,
            tolerances_mm=measures.tolerances_mm,
        )
    return tuple(found)
