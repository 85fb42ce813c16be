"""A dataset in the few numbers that advice rests on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Real

from pipeline.artifacts import QUANTILE_LEVELS, CaseFingerprint, Task
from pipeline.audit.hits import PatchHits
from pipeline.audit.limits.advice import AdviceLimits
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.core.geometry import Spacing


@dataclass(frozen=True)
class DatasetFacts:
    """What the usable cases have in common.

    Args:
        names: Foreground classes.
        shares: Voxels of each class over all voxels, pooled over the cases that annotate it.
        presence: Share of the cases that show each class, of those that annotate it.
        mean_n_present: Classes that a case shows on average.
        spacing_mm: Target spacing by the rule of the plan.
        fine_spacing_mm: 10th percentile of the spacings along each axis, where finer.
        is_anisotropic: Whether one axis is far coarser.
        median_shape: Voxels of a typical case at target spacing.
        class_voxels: Median voxels of each class at target spacing where it is shown, else None.
        channels: Name, modality and the 0.5 and 99.5 % quantiles of each channel's foreground.
        fewest_validation: Class that the fewest validation cases of fold 0 show, how many, of how
            many; None without folds.
        hits: Patch-hit probabilities per patch size.
        has_regions: Whether the network predicts regions instead of classes.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    presence: tuple[float, ...]
    mean_n_present: float
    spacing_mm: Spacing
    fine_spacing_mm: Spacing
    is_anisotropic: bool
    median_shape: tuple[float, float, float]
    class_voxels: tuple[float | None, ...]
    channels: tuple[tuple[str, str, float, float], ...]
    fewest_validation: tuple[str, int, int] | None
    hits: tuple[PatchHits, ...] = ()
    has_regions: bool = False

    def with_hits(self, hits: tuple[PatchHits, ...]) -> "DatasetFacts":
        """The same dataset with its hit probabilities."""
        return replace(self, hits=hits)

    @property
    def background_share(self) -> float:
        """Share of the voxels that no class has."""
        return 1 - sum(self.shares)

    @property
    def _occurring(self) -> dict[str, float]:
        return {n: s for n, s in zip(self.names, self.shares, strict=True) if s > 0}

    @property
    def rarest(self) -> str:
        """The class with the fewest voxels among those that occur."""
        return min(self._occurring, key=lambda name: self._occurring[name], default="none")

    @property
    def imbalance(self) -> float:
        """Largest over smallest share, background included."""
        shares = [*self._occurring.values(), self.background_share]
        return max(shares) / max(min(shares), 1e-12)

    @property
    def class_ratio(self) -> float:
        """Largest over smallest share of the foreground classes that occur."""
        shares = list(self._occurring.values())
        return max(shares) / min(shares) if shares else 1.0

    @property
    def smallest_class(self) -> tuple[str, float] | None:
        """Class with the smallest typical volume, and that volume in voxels."""
        known = [
            (name, n)
            for name, n in zip(self.names, self.class_voxels, strict=True)
            if n is not None
        ]
        return min(known, key=lambda pair: pair[1], default=None)

    def hardest_hit(self, foreground_fraction: float) -> tuple[str, float] | None:
        """Class that the fewest patches of its cases show, and that share of patches.

        A patch on foreground shows a class drawn evenly among those present; other classes are
        counted as by chance, so the share is a lower bound.

        Args:
            foreground_fraction: Share of patches centred on a labelled voxel.

        Returns:
            Name and share for the smallest patch size; None if nothing was measured.
        """
        if not self.hits:
            return None
        by_class = 1 / max(1.0, self.mean_n_present)
        shares = [
            (name, (1 - foreground_fraction) * p + foreground_fraction * max(p, by_class))
            for name, p in zip(self.names, self.hits[0].probabilities, strict=True)
            if p is not None
        ]
        return min(shares, key=lambda pair: pair[1], default=None)

    def describe_hits(self) -> str:
        """Hit probabilities of the class that is hardest to hit, for every patch size."""
        hardest = self.hardest_hit(0.0)
        if hardest is None:
            return ""
        position = self.names.index(hardest[0])
        parts = [
            f"{p:.0%} of those of {' x '.join(map(str, hits.patch_size))} voxels"
            for hits in self.hits
            if (p := hits.probabilities[position]) is not None
        ]
        return (
            f"{hardest[0]} is the class that is hardest to hit. Of all places a patch can have in "
            f"a case with it, it is in {' and '.join(parts)} "
            f"(measured on {self.hits[0].n_cases} cases)."
        )


def describe_dataset(dataset: DatasetView, limits: AdviceLimits) -> DatasetFacts | None:
    """Reduce the rows of the usable cases to the numbers advice needs.

    Args:
        dataset: Cases with their rows and folds.
        limits: When an axis counts as far coarser.

    Returns:
        The facts, without hit probabilities; None if no case or no class can be used.
    """
    rows = [row.fingerprint for row in dataset.rows if row.fingerprint is not None]
    task = dataset.manifest.task
    if not rows or not task.classes or not any(sum(row.n_class_voxels) for row in rows):
        return None
    counts = np.array([row.n_class_voxels for row in rows], dtype=float)
    is_annotated = np.array([[n not in row.unannotated for n in task.class_names] for row in rows])
    n_voxels = np.array([_n_counted(row, task) for row in dataset.rows if row.fingerprint])
    spacings = np.array([row.spacing_mm for row in rows])
    target, is_anisotropic = _target_spacing(rows, limits.anisotropy_ratio)
    scale = spacings.prod(axis=1) / np.prod(target)
    shapes = np.array([row.shape for row in rows]) * spacings / target
    fine = np.minimum(np.percentile(spacings, 10, axis=0), target)
    return DatasetFacts(
        names=task.class_names,
        shares=_pooled(counts.sum(axis=0), n_voxels @ is_annotated),
        presence=_pooled((counts > 0).sum(axis=0), is_annotated.sum(axis=0)),
        mean_n_present=float((counts > 0).sum(axis=1).mean()),
        spacing_mm=_triple(target),
        fine_spacing_mm=_triple(fine),
        is_anisotropic=is_anisotropic,
        median_shape=_triple(np.median(shapes, axis=0)),
        class_voxels=_class_voxels(counts * scale[:, None]),
        channels=_channels(dataset, rows),
        fewest_validation=_fewest_validation(dataset, rows),
        has_regions=bool(task.regions),
    )


def _n_counted(row: CaseRow, task: Task) -> float:
    """Voxels that are not to be ignored."""
    if task.ignore_values or row.fingerprint is None:
        return float(row.n_voxels)
    return float(np.prod(row.fingerprint.shape))


def _pooled(
    parts: Real[np.ndarray, " class"], whole: Real[np.ndarray, " class"]
) -> tuple[float, ...]:
    """Shares; 0 for a class that no case annotates."""
    return tuple(float(p / w) if w else 0.0 for p, w in zip(parts, whole, strict=True))


def _triple(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    i, j, k = (round(float(v), 4) for v in values)
    return i, j, k


def _target_spacing(
    rows: Sequence[CaseFingerprint], ratio: float
) -> tuple[Float[np.ndarray, "3"], bool]:
    """Median spacing; an axis far coarser and shorter than the others takes its 10th percentile.

    The rule is nnU-Net's, as in the plan of train, here over all cases instead of one fold.
    """
    spacings = np.array([row.spacing_mm for row in rows], dtype=float)
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    shape = np.median(np.array([row.shape for row in rows]) * spacings / target, axis=0)
    is_anisotropic = bool(
        target[coarse] > ratio * target[others].max()
        and shape[coarse] * ratio < shape[others].min()
    )
    if is_anisotropic:
        tenth = float(np.percentile(spacings[:, coarse], 10))
        target[coarse] = max(tenth, float(target[others].max()))
    return target, is_anisotropic


def _class_voxels(counts: Float[np.ndarray, "case class"]) -> tuple[float | None, ...]:
    typical: list[float | None] = []
    for column in counts.T:
        shown = column[column > 0]
        typical.append(float(np.median(shown)) if shown.size else None)
    return tuple(typical)


def _channels(
    dataset: DatasetView, rows: Sequence[CaseFingerprint]
) -> tuple[tuple[str, str, float, float], ...]:
    low, high = QUANTILE_LEVELS.index(0.005), QUANTILE_LEVELS.index(0.995)
    found = []
    for index, channel in enumerate(dataset.manifest.task.channels):
        quantiles = np.array([row.foreground[index].quantiles for row in rows])
        lower, upper = (float(np.median(quantiles[:, place])) for place in (low, high))
        found.append((channel.name, str(channel.modality), lower, upper))
    return tuple(found)


def _fewest_validation(
    dataset: DatasetView, rows: Sequence[CaseFingerprint]
) -> tuple[str, int, int] | None:
    if not dataset.splits.folds:
        return None
    validation = set(dataset.splits.folds[0].validation)
    inside = [row.n_class_voxels for row in rows if row.case_id in validation]
    counts = [
        (name, sum(voxels[position] > 0 for voxels in inside), len(inside))
        for position, name in enumerate(dataset.manifest.task.class_names)
    ]
    return min(counts, key=lambda entry: entry[1], default=None)
