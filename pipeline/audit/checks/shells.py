"""E04: label values that only interpolation makes.

Between background 0 and a structure 2, interpolation leaves a shell of 1 wherever the two met. The
values are whole numbers and declared, so nothing but their place betrays them.
"""

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import Finding, Task
from pipeline.audit.checks.robust import robust_z
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.codes import CodeLimits
from pipeline.audit.measures import ClassMeasures
from pipeline.audit.view import CaseRow, DatasetView

# Fewer cases cannot say what is usual.
_MIN_CASES = 5
# Smallest deviation of the share below that is believed: two percent of all faces.
_FLOOR = 0.02
_MIN_Z = 3.5
# So many wrapped structures are no coincidence.
_MIN_WRAPPED = 2
# Shells around one structure give the class between 1.3 times its usual faces per border voxel and
# more; of 340 real cases one in a hundred has more than 1.1 to 1.25 times, by class.
_MIN_THINNESS = 1.2
# A shell has nearly all of its faces toward the two values it separates, many toward each.
_MIN_SHELL_FACES = 0.9
_MIN_SIDE_FACES = 0.2
# It covers most of the structure inside; corners stay free, as interpolation rounds there.
_MIN_COVERED = 0.5
# Share of the whole numbers between the two values that the case must show.
_MIN_PASSED = 0.5

_Shares = Float[np.ndarray, "case class"]


def check_interpolation(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E04 by cohort: a case whose structures are wrapped in values between them and background.

    Structures that really touch do so in the other cases too, and are not counted. Silent below
    five cases, and where every case looks alike: tissue layers are no interpolation. A single
    wrapped structure may as well lie inside another, as a tumor does: that is only a warning,
    unless what is around it is thin.
    """
    shares, weights = _between_shares(dataset, config.anatomy.max_edge_share)
    if len(dataset.rows) < _MIN_CASES or not np.isfinite(shares).any():
        return []
    surplus = _surplus(shares)
    excess = (surplus * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    z = robust_z(excess, _FLOOR)
    limit = config.codes.max_between_excess
    thinness = _thinness(dataset)
    findings = []
    for n in np.flatnonzero((excess > limit) & (z > _MIN_Z)):
        wrapped = [int(c) + 1 for c in np.flatnonzero(surplus[n] > limit)]
        around = {b for c in wrapped for b in _between(dataset.manifest.task, c)}
        is_thin = max((thinness[n, b - 1] for b in around), default=0.0) > _MIN_THINNESS
        is_sure = len(wrapped) >= _MIN_WRAPPED or bool(is_thin)
        row = dataset.rows[n]
        findings.append(
            _case_finding(dataset.manifest.task, row, float(excess[n]), limit, is_sure=is_sure)
        )
    return findings


def check_shells(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E04 by class: a class that is, in most of its cases, nothing but a shell.

    It is a thin layer around one structure with a higher value and separates it from one with a
    lower value, while that structure itself is thick. A real membrane can look so: a warning.
    """
    task = dataset.manifest.task
    findings = []
    for one in task.classes:
        seen = [row for row in dataset.rows if row.measures.of_class(one.index)]
        wrapped = [_wrapped_class(row, one.index, task, config.codes) for row in seen]
        inner = [index for index in wrapped if index is not None]
        if seen and 2 * len(inner) > len(seen):
            name = task.class_names[inner[0] - 1]
            findings.append(_class_finding(one.name, name, len(inner), len(seen), config.codes))
    return findings


def _between_shares(dataset: DatasetView, max_edge_share: float) -> tuple[_Shares, _Shares]:
    """Share of each class's faces that touch values between it and background, and its faces.

    NaN and 0 where a class is absent, where no class lies between it and background, or where the
    edge of the image cuts it: then neighbors take another share of what is left.
    """
    task = dataset.manifest.task
    shape = (len(dataset.rows), len(task.classes))
    shares, weights = np.full(shape, np.nan), np.zeros(shape)
    for number, row in enumerate(dataset.rows):
        for one in row.measures.classes:
            between = _between(task, one.class_index)
            n_faces = sum(contact.n_faces for contact in one.contacts)
            if between and n_faces and one.edge_share <= max_edge_share:
                n_between = sum(c.n_faces for c in one.contacts if c.class_index in between)
                shares[number, one.class_index - 1] = n_between / n_faces
                weights[number, one.class_index - 1] = n_faces
    return shares, weights


def _between(task: Task, index: int) -> frozenset[int]:
    """Classes whose value lies between the value of a class and the next background below it."""
    value = _value(task, index)
    floor = max((b for b in task.background_values if b < value), default=None)
    if floor is None:
        return frozenset()
    return frozenset(c.index for c in task.classes if floor < _value(task, c.index) < value)


def _surplus(shares: _Shares) -> _Shares:
    """How much more of a class touches between-values than is usual for it; 0 where unknown."""
    known = np.isfinite(shares).any(axis=0)
    usual = np.zeros(shares.shape[1])
    usual[known] = np.nanmedian(shares[:, known], axis=0)
    return np.where(np.isfinite(shares), shares - usual, 0.0)


def _thinness(dataset: DatasetView) -> _Shares:
    """Faces per border voxel of every class over the usual number; 0 where the class is absent.

    A voxel on the border of something thick looks out on one side, one of a thin shell on both.
    """
    faces = np.full((len(dataset.rows), len(dataset.manifest.task.classes)), np.nan)
    for number, row in enumerate(dataset.rows):
        for one in row.measures.classes:
            n_faces = sum(contact.n_faces for contact in one.contacts)
            if n_faces:
                n_border = one.n_voxels * one.border_share
                faces[number, one.class_index - 1] = n_faces / n_border
    known = np.isfinite(faces).any(axis=0)
    usual = np.ones(faces.shape[1])
    usual[known] = np.nanmedian(faces[:, known], axis=0)
    return np.where(np.isfinite(faces), faces / usual, 0.0)


def _wrapped_class(row: CaseRow, index: int, task: Task, limits: CodeLimits) -> int | None:
    """The class that `index` is a shell around; None if it is no shell."""
    measures = row.measures
    shell = measures.of_class(index)
    if shell is None or shell.border_share <= limits.min_shell_border_share:
        return None
    n_faces = sum(contact.n_faces for contact in shell.contacts)
    sides = sorted(shell.contacts[:2], key=lambda contact: _value(task, contact.class_index))
    if len(sides) < 2 or sum(c.n_faces for c in sides) < _MIN_SHELL_FACES * n_faces:
        return None
    low, high = (_value(task, side.class_index) for side in sides)
    # From 0 to 50, interpolation passes through all values; a lone 49 is a membrane.
    passed = sum(low < value < high for value in row.label_values)
    is_between = low < _value(task, index) < high and passed >= _MIN_PASSED * (high - low - 1)
    is_even = min(side.n_faces for side in sides) >= _MIN_SIDE_FACES * n_faces
    inner = measures.of_class(sides[1].class_index)
    if inner is None or not (is_between and is_even) or _is_thin(inner, limits):
        return None
    n_inner = sum(contact.n_faces for contact in inner.contacts)
    n_covered = sum(c.n_faces for c in inner.contacts if c.class_index == index)
    return inner.class_index if n_covered >= _MIN_COVERED * n_inner else None


def _is_thin(one: ClassMeasures, limits: CodeLimits) -> bool:
    return one.border_share > limits.min_shell_border_share


def _value(task: Task, index: int) -> int:
    """Value in the label files of a class index; background is 0, undeclared far below."""
    if index <= 0:
        return -(1 << 30) if index < 0 else min(task.background_values, default=0)
    return min(task.classes[index - 1].source_values)


def _case_finding(
    task: Task, row: CaseRow, excess: float, limit: float, *, is_sure: bool
) -> Finding:
    outer = max(
        row.measures.classes,
        key=lambda one: sum(
            c.n_faces for c in one.contacts if c.class_index in _between(task, one.class_index)
        ),
    )
    i, j, k = ((a + b) // 2 for a, b in zip(outer.start, outer.stop, strict=True))
    name = task.class_names[outer.class_index - 1]
    what = (
        "the label was interpolated, so that every edge carries a shell of a class that is not "
        "there"
        if is_sure
        else f"either '{name}' lies inside another structure here, or the label was interpolated"
    )
    return Finding(
        check_id="E04",
        severity="error" if is_sure else "warning",
        case_id=row.case_id,
        class_name=name,
        value=excess,
        threshold=limit,
        message=f"{100 * excess:.3g} % more of the surfaces than in other cases touch a value "
        f"between the structure and background: {what}",
        fix="if the shells are thin all around, resample the original label again with "
        "nearest-neighbor interpolation",
        evidence={"voxel_ras": (i, j, k)},
    )


def _class_finding(
    name: str, inner: str, n_shells: int, n_seen: int, limits: CodeLimits
) -> Finding:
    return Finding(
        check_id="E04",
        severity="warning",
        class_name=name,
        value=n_shells,
        threshold=limits.min_shell_border_share,
        message=f"class '{name}' is only a thin shell around '{inner}' in {n_shells} of {n_seen} "
        "cases, and its value lies between the two it separates: interpolation leaves this",
        fix=f"if '{name}' is no real membrane, resample the original labels with nearest-neighbor "
        "interpolation; else waive E04",
    )
