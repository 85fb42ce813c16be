"""Scores of regions: unions of classes, such as "whole tumor" of three tumor classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.task import Task
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
        scored in this case, or nobody drew one of them.
    """
    if _is_open(case, members):
        return None
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


def with_regions(case: CaseScores, regions: Mapping[str, Sequence[str]]) -> CaseScores:
    """Add the overlap of unions of classes behind that of the classes.

    Args:
        case: Scores of the classes with the confused pairs.
        regions: Name to members.

    Returns:
        The case with them; one that cannot be told, because nobody drew a member, is named in
        `not_annotated` instead.
    """
    found = [region_overlap(case, name, members) for name, members in regions.items()]
    unknown = [name for name, members in regions.items() if _is_open(case, members)]
    return replace(
        case,
        classes=(*case.classes, *(overlap for overlap in found if overlap is not None)),
        not_annotated=(*case.not_annotated, *unknown),
    )


def unions_of(task: Task) -> dict[str, tuple[str, ...]]:
    """Regions of a task that unite several classes, to be scored beside the classes.

    Args:
        task: Classes and regions.

    Returns:
        Name to members; a region that has the name of a class gets another.
    """
    return {
        f"{r.name} region" if r.name in task.class_names else r.name: r.classes
        for r in task.regions
        if len(r.classes) > 1
    }


def _is_open(case: CaseScores, members: Collection[str]) -> bool:
    return any(name in members for name in case.not_annotated)


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
