"""S09: does the image look under a class as it does in the other cases?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import Finding
from pipeline.audit.checks.habits import (
    Seen,
    classes_seen,
    middle_of,
    outlier_z,
    voxel_evidence,
)
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.measures import LEVELS
from pipeline.audit.view import DatasetView

_MEDIAN = LEVELS.index(0.5)
# Differences that mean nothing: 5 HU in CT, else a twentieth of the spread of the image.
_CT_FLOOR_HU = 5.0
_FLOOR_STD = 0.05
# Distances of cases without a fault differ by a third and more; on logarithms.
_DISTANCE_FLOOR = 0.3


@dataclass(frozen=True)
class _Scale:
    """How intensities are made comparable.

    Args:
        is_ct: HU are comparable as they are; other images are counted in their own standard
            deviation from their own mean.
    """

    is_ct: bool

    @property
    def floor(self) -> float:
        """Smallest difference that means something."""
        return _CT_FLOOR_HU if self.is_ct else _FLOOR_STD

    @property
    def unit(self) -> str:
        """How a value is called in a message."""
        return "HU" if self.is_ct else "standard deviations of the image around its mean"

    def is_known(self, one: Seen) -> bool:
        """Whether the intensities of a case can be compared."""
        channels = one.row.measures.channels
        return bool(one.measures.quantiles and channels) and (self.is_ct or channels[0].std > 0)

    def quantiles(self, one: Seen) -> Float[np.ndarray, " level"]:
        """Comparable intensities of a class at LEVELS."""
        values = np.array(one.measures.quantiles, dtype=np.float64)
        if self.is_ct:
            return values
        channel = one.row.measures.channels[0]
        return (values - channel.mean) / channel.std


def check_brightness(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S09: the intensities under a class are an outlier of the cohort.

    An outlier differs in its median, or in the whole distribution: the area between its quantile
    function and the typical one (1-D Wasserstein distance). Images without a scale of their own
    are normalized first, one by one.
    """
    limits = config.anatomy
    channels = dataset.manifest.task.channels
    scale = _Scale(is_ct=bool(channels) and channels[0].modality == "ct")
    findings = []
    for name, every in classes_seen(dataset):
        seen = [one for one in every if scale.is_known(one)]
        if len(seen) < limits.min_cohort:
            continue
        quantiles = np.stack([scale.quantiles(one) for one in seen])
        typical = np.median(quantiles, axis=0)
        distances = np.trapezoid(np.abs(quantiles - typical), LEVELS, axis=1)
        median_z = outlier_z(quantiles[:, _MEDIAN], scale.floor)
        distance_z = outlier_z(np.log(np.maximum(distances, scale.floor)), _DISTANCE_FLOOR)
        for n, one in enumerate(seen):
            z = max(abs(float(median_z[n])), float(distance_z[n]))
            if z > limits.max_intensity_z:
                middles = float(quantiles[n, _MEDIAN]), float(typical[_MEDIAN])
                finding = _unusual(name, one, middles, float(distances[n]), scale)
                changes = {"value": round(z, 2), "threshold": limits.max_intensity_z}
                findings.append(finding.model_copy(update=changes))
    return findings


def _unusual(
    name: str, one: Seen, middles: tuple[float, float], distance: float, scale: _Scale
) -> Finding:
    own, typical = middles
    return Finding(
        check_id="S09",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        message=f"the image under '{name}' is unusual: median {own:.4g} against {typical:.4g} "
        f"in the typical case ({scale.unit}), mean difference {distance:.3g}",
        fix="look whether the label lies on the right structure and the image is of the same "
        "sequence or contrast phase as the others; keep it if both are so",
        evidence=voxel_evidence(middle_of(one.measures)) | {"median": own, "typical": typical},
    )


DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_brightness,)
