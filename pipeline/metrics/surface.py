"""How far two surfaces lie apart: HD95, average distance and surface Dice of every class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from pipeline.core.errors import DataError
from pipeline.core.geometry import Spacing
from pipeline.metrics.elements import Elements, LabelMap, SurfacePair, surface_elements
from pipeline.metrics.overlap import Score, Status
from pipeline.metrics.surfels import surfel_areas_mm2

# Below this number of surface voxels a percentile is decided by one or two of them.
FEW_SURFACE_ELEMENTS = 20
PERCENTILE = 95.0
# Tolerance of a class for which none is given: at least this, and at least one voxel.
MIN_DEFAULT_TOLERANCE_MM = 2.0
# Where more of the box around the points than this are targets, a distance transform of the box
# is faster than a tree of the targets (benchmarks/metrics.py).
DENSE_TARGETS_FRACTION = 0.05
# Distances that equal the tolerance on paper must not fail it by the rounding of a square root.
_ROUNDING_MM = 1e-6

Voxels = Int32[np.ndarray, "_ 3"]
Distances = Float64[np.ndarray, "_"]


@dataclass(frozen=True)
class SurfaceScores:
    """Surface agreement of one class of one case.

    Where the class is in one map only, both distances are undefined and the surface Dice is 0;
    where it is in neither, all three are undefined.

    Args:
        class_name: The structure.
        hd95_mm: Larger of the two directed 95th percentiles of surface distances, in mm.
        assd_mm: Mean of the surface distances of both directions pooled, in mm.
        nsd: Share of both surfaces that lies within the tolerance of the other.
        tolerance_mm: Largest accepted surface distance, in mm.
        n_reference_elements: Surface voxels of the reference.
        n_prediction_elements: Surface voxels of the prediction.
        diagonal_mm: Diagonal of the image, in mm: what an undefined distance counts where a
            penalty is asked for.
    """

    class_name: str
    hd95_mm: Score
    assd_mm: Score
    nsd: Score
    tolerance_mm: float
    n_reference_elements: int
    n_prediction_elements: int
    diagonal_mm: float

    @property
    def status(self) -> Status:
        """In which of the two maps the class occurs."""
        return self.nsd.status

    @property
    def has_few_elements(self) -> bool:
        """Whether a surface that exists is too small for a percentile to mean much."""
        sizes = (self.n_reference_elements, self.n_prediction_elements)
        return any(0 < n < FEW_SURFACE_ELEMENTS for n in sizes)

    def penalized(self, score: Score) -> float | None:
        """A distance of this class with the image diagonal for a missed or hallucinated class."""
        return self.diagonal_mm if score.status in ("missed", "hallucinated") else score.value


def surface_scores(
    *,
    prediction: LabelMap,
    reference: LabelMap,
    class_names: Sequence[str],
    spacing_mm: Spacing,
    tolerances_mm: Mapping[str, float] | None = None,
) -> tuple[SurfaceScores, ...]:
    """Surface agreement of every class, from one pass over the voxels.

    Args:
        prediction: Predicted class indices, shape (i, j, k), 0 is background.
        reference: Reference class indices on the same grid.
        class_names: Names of classes 1..N.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        tolerances_mm: Accepted surface distance per class, in mm; classes without one get
            `default_tolerance_mm`.

    Returns:
        One entry per class, in the order of the names. Surfaces are closed at the image edge.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value that is no class index, or a spacing or tolerance is
            not a positive number.

    Source:
        Distances: Maier-Hein et al. 2024 (Metrics Reloaded): border voxels, HD95 as the larger
        of the directed percentiles; agrees with MONAI 1.6.1. Surface Dice: Nikolov et al. 2021
        (arXiv 1809.04430); agrees with MONAI 1.6.1 with subvoxels (tests/parity).
    """
    given = tolerances_mm or {}
    fallback_mm = default_tolerance_mm(spacing_mm)
    tolerances = {name: float(given.get(name, fallback_mm)) for name in class_names}
    _check_positive(spacing_mm, tolerances)
    # Walk the maps in memory order: volumes from files have the first axis contiguous.
    order = [int(axis) for axis in np.argsort([-abs(s) for s in reference.strides], kind="stable")]
    elements = surface_elements(
        prediction=prediction.transpose(order),
        reference=reference.transpose(order),
        n_classes=len(class_names),
    )
    turned_mm = (spacing_mm[order[0]], spacing_mm[order[1]], spacing_mm[order[2]])
    scale = _Scale(
        spacing_mm=np.array(turned_mm),
        areas_mm2=surfel_areas_mm2(turned_mm),
        diagonal_mm=float(np.linalg.norm(np.array(reference.shape) * np.array(spacing_mm))),
    )
    return tuple(
        _scores_of_class(_ClassSurfaces(elements, index, scale), name, tolerances[name])
        for index, name in enumerate(class_names, start=1)
    )


def default_tolerance_mm(spacing_mm: Spacing) -> float:
    """Surface tolerance of a class for which nobody measured one: a voxel, at least 2 mm."""
    return max(MIN_DEFAULT_TOLERANCE_MM, *spacing_mm)


def is_tolerance_too_small(tolerance_mm: float, spacing_mm: Spacing) -> bool:
    """Whether a tolerance is below half a voxel, so that the grid decides and not the surface."""
    return tolerance_mm < max(spacing_mm) / 2


@dataclass(frozen=True)
class _Scale:
    """What turns voxels into mm, with axes in the order of the elements."""

    spacing_mm: Float64[np.ndarray, "3"]
    areas_mm2: Float64[np.ndarray, "256"]
    diagonal_mm: float


@dataclass(frozen=True)
class _ClassSurfaces:
    """The surface elements of one class."""

    elements: SurfacePair
    index: int
    scale: _Scale

    @property
    def n_prediction(self) -> int:
        return self.elements.prediction_borders.count(self.index)

    @property
    def n_reference(self) -> int:
        return self.elements.reference_borders.count(self.index)

    def distances_mm(self, ours: Elements, others: Elements, *, up_to_mm: float) -> Distances:
        """Distance of each element of the class to the nearest of the other map.

        Infinite where it is larger than `up_to_mm`.
        """
        is_shared = ours.is_shared[ours.of_class(self.index)]
        distances = np.zeros(is_shared.size)
        if not is_shared.all():
            points = ours.voxels(self.index)[~is_shared]
            targets = others.voxels(self.index)
            distances[~is_shared] = _nearest_mm(points, targets, self.scale.spacing_mm, up_to_mm)
        return distances

    def border_distances_mm(self) -> tuple[Distances, Distances]:
        """From prediction to reference and back."""
        ours, others = self.elements.prediction_borders, self.elements.reference_borders
        return (
            self.distances_mm(ours, others, up_to_mm=math.inf),
            self.distances_mm(others, ours, up_to_mm=math.inf),
        )

    def surface_dice(self, tolerance_mm: float) -> float:
        """Area within the tolerance of the other surface, over the area of both surfaces."""
        limit_mm = tolerance_mm + _ROUNDING_MM
        cells = (self.elements.prediction_cells, self.elements.reference_cells)
        within_mm2 = whole_mm2 = 0.0
        for ours, others in (cells, cells[::-1]):
            areas_mm2 = self.scale.areas_mm2[ours.codes[ours.of_class(self.index)]]
            distances_mm = self.distances_mm(ours, others, up_to_mm=limit_mm)
            within_mm2 += float(areas_mm2[distances_mm <= limit_mm].sum())
            whole_mm2 += float(areas_mm2.sum())
        # The two sums add the same numbers in another order: rounding must not pass 1.
        return min(within_mm2 / whole_mm2, 1.0)


def _scores_of_class(surfaces: _ClassSurfaces, name: str, tolerance_mm: float) -> SurfaceScores:
    status = _status(surfaces.n_reference, surfaces.n_prediction)
    hd95_mm: float | None = None
    assd_mm: float | None = None
    nsd = None if status == "absent" else 0.0
    if status == "ok":
        forth_mm, back_mm = surfaces.border_distances_mm()
        hd95_mm = float(max(np.percentile(d, PERCENTILE) for d in (forth_mm, back_mm)))
        assd_mm = float((forth_mm.sum() + back_mm.sum()) / (forth_mm.size + back_mm.size))
        nsd = surfaces.surface_dice(tolerance_mm)
    return SurfaceScores(
        class_name=name,
        hd95_mm=Score(hd95_mm, status),
        assd_mm=Score(assd_mm, status),
        nsd=Score(nsd, status),
        tolerance_mm=tolerance_mm,
        n_reference_elements=surfaces.n_reference,
        n_prediction_elements=surfaces.n_prediction,
        diagonal_mm=surfaces.scale.diagonal_mm,
    )


def _status(n_reference: int, n_prediction: int) -> Status:
    if n_reference:
        return "ok" if n_prediction else "missed"
    return "hallucinated" if n_prediction else "absent"


def _nearest_mm(
    points: Voxels, targets: Voxels, spacing_mm: Float64[np.ndarray, "3"], up_to_mm: float
) -> Distances:
    """Distance of each point to the nearest target, infinite beyond `up_to_mm`."""
    low = np.minimum(points.min(axis=0), targets.min(axis=0))
    box = np.maximum(points.max(axis=0), targets.max(axis=0)) - low + 1
    n_box = math.prod(int(n) for n in box)
    if targets.shape[0] > DENSE_TARGETS_FRACTION * n_box:
        nearest = _nearest_in_box(points - low, targets - low, box, spacing_mm) + low
        return _lengths_mm(points - nearest, spacing_mm)
    tree = cKDTree(targets * spacing_mm, balanced_tree=False, compact_nodes=False)
    _, found = tree.query(points * spacing_mm, distance_upper_bound=up_to_mm)
    # A point with no target near enough gets an index that does not exist.
    is_near = found < targets.shape[0]
    distances = np.full(points.shape[0], np.inf)
    distances[is_near] = _lengths_mm(points[is_near] - targets[found[is_near]], spacing_mm)
    return distances


def _nearest_in_box(
    points: Voxels,
    targets: Voxels,
    box: Int32[np.ndarray, "3"],
    spacing_mm: Float64[np.ndarray, "3"],
) -> Voxels:
    """The nearest target of each point by a distance transform of the box around all of them."""
    is_free = np.ones(box, dtype=np.bool_)
    is_free[tuple(targets.T)] = False
    # Only indices: distances of the whole box would take several times the memory.
    nearest = distance_transform_edt(
        is_free, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    return np.stack([axis[tuple(points.T)] for axis in nearest], axis=1)


def _lengths_mm(offsets: Voxels, spacing_mm: Float64[np.ndarray, "3"]) -> Distances:
    # From whole voxels, not from coordinates in mm: equal offsets have exactly equal lengths.
    return np.sqrt(((offsets * spacing_mm) ** 2).sum(axis=1))


def _check_positive(spacing_mm: Spacing, tolerances_mm: Mapping[str, float]) -> None:
    lengths = {f"the spacing along {axis}": s for axis, s in zip("ijk", spacing_mm, strict=True)}
    lengths |= {f"the tolerance of '{name}'": mm for name, mm in tolerances_mm.items()}
    for what, length_mm in lengths.items():
        if not (math.isfinite(length_mm) and length_mm > 0):
            raise DataError(
                f"{what} is {length_mm:g} mm; surface distances need a positive number",
                fix="give spacing and tolerances in mm",
            )
