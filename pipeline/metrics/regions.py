"""Scores of regions: unions of classes, such as "whole tumor" of three tumor classes."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Integer

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores


def region_overlap(
    case: CaseScores, region_name: str, members: Collection[str]
) -> OverlapScores | None:
    """Overlap of a union of classes, from the scores of the classes alone.

    Args:
        case: Scores of the classes with the confused pairs (`CaseScores.mistaken`).
        region_name: Name of the region.
        members: Its classes.

    Returns:
        The overlap; a voxel of one member predicted as another is right. None if no member was
        scored in this case.
    """
    scored = [s for s in case.classes if s.class_name in members]
    if not scored:
        return None
    n_within = sum(
        m.n_voxels for m in case.mistaken if m.class_name in members and m.mistaken_for in members
    )
    n_true_positive = sum(s.n_true_positive for s in scored) + n_within
    return OverlapScores(
        class_name=region_name,
        n_true_positive=n_true_positive,
        n_false_positive=sum(s.n_prediction for s in scored) - n_true_positive,
        n_false_negative=sum(s.n_reference for s in scored) - n_true_positive,
        voxel_ml=scored[0].voxel_ml,
        is_region=True,
    )


def region_mask(
    label_map: Integer[np.ndarray, "..."], class_names: Sequence[str], members: Collection[str]
) -> Bool[np.ndarray, "..."]:
    """Voxels of a union of classes.

    Args:
        label_map: Class indices 0..N, any shape.
        class_names: Names of classes 1..N.
        members: The classes of the region.

    Returns:
        The mask, of the shape of the map.

    Raises:
        ConfigError: If a member is no class.
    """
    for name in members:
        if name not in class_names:
            raise ConfigError(
                f"the region names '{name}', which is no class",
                fix=did_you_mean(name, class_names),
            )
    is_member = np.array([False, *(name in members for name in class_names)])
    return is_member[label_map]
