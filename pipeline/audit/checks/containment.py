"""S13: structures that have to lie in or on others, as the config says."""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from pipeline.artifacts import Finding, Task
from pipeline.audit.checks.types import CaseCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.anatomy import ContainmentRule
from pipeline.audit.measures import ClassMeasures
from pipeline.audit.view import CaseView, LabelArray, mask_of_values
from pipeline.core.geometry import Shape3, Spacing, spacing_of

Mask = Bool[np.ndarray, "i j k"]


def check_containment(view: CaseView, config: AuditConfig) -> list[Finding]:
    """S13: too little of the surface of a class lies at its parents.

    The surface counts, not the volume: the inside of a large tumor is far from the organ around
    it, which the label map cuts out there.
    """
    stored = view.record.label
    if view.label is None or stored is None:
        return []
    spacing_mm = spacing_of(np.array(stored.affine, dtype=np.float64))
    findings = []
    for rule in config.anatomy.containment:
        index = _index_of(view.task, rule.inside)
        measures = None if index is None else view.measures.of_class(index)
        # Where a parent was not drawn, nothing can be inside of it.
        if any(name in view.record.unannotated for name in rule.parents):
            continue
        if measures is None:
            continue
        share, voxel = share_inside(view.label, view.task, rule, measures, spacing_mm)
        if share < rule.min_share:
            findings.append(_outside(view.case_id, rule, share, voxel))
    return findings


def share_inside(
    label: LabelArray,
    task: Task,
    rule: ContainmentRule,
    measures: ClassMeasures,
    spacing_mm: Spacing,
) -> tuple[float, Shape3]:
    """Share of the surface of a class that lies within the margin of its parents.

    Args:
        label: Values as in the file, shape (i, j, k).
        task: Tells the values of the classes.
        rule: The class, its parents and the margin.
        measures: Says where the class lies; it has at least one voxel.
        spacing_mm: Voxel spacing along i, j, k.

    Returns:
        Share of the border voxels of the class, 0 to 1, and the border voxel that is farthest
        outside.
    """
    # One voxel more than the margin, so that the nearest voxel of a parent is never cut off.
    margin = np.ceil(rule.margin_mm / np.array(spacing_mm)).astype(np.int64) + 1
    start = np.maximum(np.array(measures.start) - margin, 0)
    stop = np.minimum(np.array(measures.stop) + margin, label.shape)
    region = label[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
    inside = mask_of_values(region, _values_of(task, (rule.inside,)))
    parents = mask_of_values(region, _values_of(task, rule.parents))
    # What the edge of the volume cuts is no surface.
    border = inside & ~ndimage.binary_erosion(inside, border_value=1)
    places = np.argwhere(border if border.any() else inside)
    if not parents.any():
        return 0.0, _moved(places[len(places) // 2], start)
    # Distances are those of voxel centers: neighbors are one spacing apart and still touch.
    distance_mm = ndimage.distance_transform_edt(~parents, sampling=spacing_mm)[tuple(places.T)]
    is_inside = distance_mm <= max(rule.margin_mm, *spacing_mm)
    farthest = places[int(distance_mm.argmax())]
    return float(is_inside.mean()), _moved(farthest, start)


def _index_of(task: Task, name: str) -> int | None:
    return next((c.index for c in task.classes if c.name == name), None)


def _values_of(task: Task, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(value for c in task.classes if c.name in names for value in c.source_values)


def _moved(voxel: np.ndarray, start: np.ndarray) -> Shape3:
    i, j, k = voxel + start
    return int(i), int(j), int(k)


def _outside(case_id: str, rule: ContainmentRule, share: float, voxel: Shape3) -> Finding:
    parents = " or ".join(f"'{name}'" for name in rule.parents)
    return Finding(
        check_id="S13",
        severity="warning",
        case_id=case_id,
        class_name=rule.inside,
        value=share,
        threshold=rule.min_share,
        message=f"only {share:.0%} of the surface of '{rule.inside}' lies within "
        f"{rule.margin_mm:g} mm of {parents}",
        fix=f"look whether '{rule.inside}' is misplaced or {parents} incomplete; waive the case if "
        "it truly grows outside",
        evidence={"voxel_ras": voxel},
    )


CASE_CHECKS: tuple[CaseCheck, ...] = (check_containment,)
