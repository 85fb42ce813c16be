"""Family E: do the label values mean what the class table says?"""

import numpy as np
from jaxtyping import Bool, Real

from pipeline.artifacts import Finding, Task
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, LabelValues, foreground_values

# Fewer stray voxels than this are listed one by one: they are slips of the brush.
_MAX_LISTED_VOXELS = 5
_MAX_LISTED_VALUES = 8
# So few values are classes, even if one of them is -1 or the image has hardly more.
_MAX_CLASS_VALUES = 8
# Voxels that tell whether a label follows its image.
_MAX_SAMPLE = 200_000


def check_declared_values(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E01: values that no class declares. E02, E03 and E07 say it better where they apply."""
    values = view.values
    if values is None or not _is_countable(values, config) or _binary_coding(values, view.task):
        return []
    strange = _undeclared(values, view.task)
    if not strange or _image_correlation(view) > config.max_image_correlation:
        return []
    n_voxels = values.count_of(tuple(strange))
    message = (
        f"label holds {_list(strange)}, declared are {_list(sorted(view.task.declared_values))}"
    )
    message += f"; {n_voxels:,} voxels"
    places = _places(view, tuple(strange))
    if len(places) < _MAX_LISTED_VOXELS:
        message += " at " + ", ".join(str(place) for place in places) + " (i, j, k in RAS)"
    return [
        Finding(
            check_id="E01",
            severity="error",
            case_id=view.case_id,
            value=_list(strange),
            threshold=_list(sorted(view.task.declared_values)),
            message=message,
            fix="declare the values in task.classes or task.background, or correct the voxels",
            evidence=_evidence(view, places),
        )
    ]


def check_binary_coding(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E02: a mask coded 0/255, 0/128 or 1/2 instead of the declared values."""
    values = view.values
    if values is None or not _is_countable(values, config):
        return []
    coding = _binary_coding(values, view.task)
    if coding is None:
        return []
    background, foreground = coding
    names = ", ".join(
        f"{c.source_values[0]} ({c.name})" for c in view.task.classes if c.source_values
    )
    wanted = view.task.classes[0] if len(view.task.classes) == 1 else None
    target = f"{wanted.source_values[0]}" if wanted else "the value of the class it shows"
    fix = f"write {background} as 0 and {foreground} as {target} in a copy"
    if background == 0:
        fix = f"write {foreground} as {target} in a copy"
    if wanted and background == 0:
        fix += f", or set task.classes to {{{wanted.name}: {foreground}}} if all labels are alike"
    return [
        Finding(
            check_id="E02",
            severity="error",
            case_id=view.case_id,
            value=f"{background}, {foreground}",
            threshold=_list(sorted(view.task.declared_values)),
            message=f"label is a binary mask coded {background} and {foreground}; "
            f"declared are 0 and {names}. Training would never see the structure",
            fix=fix,
            evidence=_evidence(view, []),
        )
    ]


def check_integers(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E03: values between classes. Float noise around integers is harmless."""
    values = view.values
    if values is None or values.max_fraction_part <= config.max_label_fraction_part:
        return []
    part = values.max_fraction_part
    can_round = part < 0.1 and not _undeclared(values, view.task)
    return [
        Finding(
            check_id="E03",
            severity="error",
            case_id=view.case_id,
            value=part,
            threshold=config.max_label_fraction_part,
            message=f"label holds values up to {part:.3g} away from an integer: "
            "it was interpolated or holds probabilities",
            fix="round the values in a copy; all of them then are declared"
            if can_round
            else "export the label again with nearest-neighbor interpolation",
            evidence=_evidence(view, []),
        )
    ]


def check_class_presence(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E05 for one case: a declared class that is not there; an error if it is required.

    A class that is declared as not annotated in this case says nothing by its absence, but it must
    not be there.
    """
    values = view.values
    if values is None or not _is_countable(values, config) or _is_empty(values, view.task):
        return []
    findings = []
    for one in view.task.classes:
        n_voxels = values.count_of(one.source_values)
        if one.name in view.record.unannotated:
            findings += [_drawn_after_all(view, one.name, n_voxels)] if n_voxels else []
            continue
        if n_voxels:
            continue
        is_required = one.name in config.required_classes
        findings.append(
            Finding(
                check_id="E05",
                severity="error" if is_required else "info",
                case_id=view.case_id,
                class_name=one.name,
                value=0,
                threshold=1,
                message=f"class '{one.name}' is not in this case",
                fix="draw the structure, or take it out of audit.required_classes"
                if is_required
                else "nothing, if it is really absent; if it was not drawn, it is not background",
            )
        )
    return findings


def _drawn_after_all(view: CaseView, name: str, n_voxels: int) -> Finding:
    return Finding(
        check_id="E05",
        severity="warning",
        case_id=view.case_id,
        class_name=name,
        value=n_voxels,
        threshold=0,
        message=f"class '{name}' is declared as not annotated in this case, but its label has "
        f"{n_voxels:,} voxels of it",
        fix="take the case out of task.unannotated if the structure was drawn as a whole; if only "
        "a part was drawn, leave it: no score and no Dice will count it",
    )


def check_image_like(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E07: the label file holds an image: by its values, or because it follows the image."""
    values = view.values
    if values is None:
        return []
    n_values = values.values.size
    # Hundreds of classes are fine if every one of them is declared.
    if _looks_like_image(values, config) and _undeclared(values, view.task):
        low, high = int(values.values[0]), int(values.values[-1])
        what = f"{n_values} different values from {low} to {high}"
        return [_image_like(view, n_values, config.max_image_like_values, what)]
    correlation = _image_correlation(view)
    if correlation > config.max_image_correlation:
        what = f"its {n_values} values follow those of the image (correlation {correlation:.3f})"
        return [_image_like(view, correlation, config.max_image_correlation, what)]
    return []


def _image_like(view: CaseView, value: int | float, threshold: int | float, what: str) -> Finding:
    return Finding(
        check_id="E07",
        severity="error",
        case_id=view.case_id,
        value=value,
        threshold=threshold,
        message=f"label looks like an image: {what}",
        fix="check that the files in the label folder are the label maps; if they are, declare "
        "their values in dataset.json or task.classes",
    )


def _image_correlation(view: CaseView) -> float:
    """Largest |Pearson correlation| of label and channel; 0 for few values or other shapes."""
    image, label, values = view.image, view.label, view.values
    is_rich = values is not None and values.values.size > _MAX_CLASS_VALUES
    if not is_rich or image is None or label is None or image.shape[1:] != label.shape:
        return 0.0
    flat = np.linspace(0, label.size - 1, min(label.size, _MAX_SAMPLE)).astype(np.int64)
    places = np.unravel_index(flat, label.shape)
    sampled = label[places].astype(np.float64)
    return max(_correlation(channel[places].astype(np.float64), sampled) for channel in image)


def _correlation(a: Real[np.ndarray, " n"], b: Real[np.ndarray, " n"]) -> float:
    is_finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[is_finite], b[is_finite]
    is_flat = a.size == 0 or np.ptp(a) == 0 or np.ptp(b) == 0
    return 0.0 if is_flat else float(abs(np.corrcoef(a, b)[0, 1]))


def check_empty(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E08 for one case: no foreground at all; an error if classes are required."""
    values = view.values
    if values is None or not _is_countable(values, config) or not _is_empty(values, view.task):
        return []
    if _undeclared(values, view.task):
        return []  # E01 or E02 tell what is there instead
    return [
        Finding(
            check_id="E08",
            severity="error" if config.required_classes else "warning",
            case_id=view.case_id,
            value=0,
            threshold=1,
            message="label is empty: no voxel belongs to a class",
            fix="draw the label or leave the case out; keep it if nothing is there to be found",
        )
    ]


def check_foreground_share(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E09: nearly everything is foreground, as in an inverted mask."""
    values = view.values
    if values is None or not _is_countable(values, config) or not values.counts.size:
        return []
    share = values.count_of(foreground_values(view.task)) / int(values.counts.sum())
    if share <= config.max_foreground_fraction:
        return []
    return [
        Finding(
            check_id="E09",
            severity="error",
            case_id=view.case_id,
            value=share,
            threshold=config.max_foreground_fraction,
            message=f"{100 * share:.3g} % of the label is foreground: the mask may be inverted",
            fix="invert the mask in a copy, or raise audit.max_foreground_fraction for tight crops",
        )
    ]


def _is_countable(values: LabelValues, config: AuditConfig) -> bool:
    """Whether counting values makes sense; otherwise E03 or E07 report the label."""
    return values.max_fraction_part <= config.max_label_fraction_part and not _looks_like_image(
        values, config
    )


def _looks_like_image(values: LabelValues, config: AuditConfig) -> bool:
    if not values.values.size:
        return False
    is_negative = int(values.values[0]) < 0 and values.values.size > _MAX_CLASS_VALUES
    return is_negative or values.values.size > config.max_image_like_values


def _undeclared(values: LabelValues, task: Task) -> list[int]:
    return [int(v) for v in values.values if int(v) not in task.declared_values]


def _is_empty(values: LabelValues, task: Task) -> bool:
    return values.count_of(foreground_values(task)) == 0


def _binary_coding(values: LabelValues, task: Task) -> tuple[int, int] | None:
    """The two values of a mask that shows no declared class, as (background, foreground)."""
    if values.values.size != 2 or not _undeclared(values, task):
        return None
    low, high = int(values.values[0]), int(values.values[1])
    if low in task.declared_values and low not in task.background_values:
        # 1/2 instead of 0/1 fills every voxel; a class beside one stray value does not.
        return (low, high) if values.count_of((low,)) > values.count_of((high,)) else None
    is_slip = values.count_of((high,)) < _MAX_LISTED_VOXELS
    return None if is_slip or high in task.declared_values else (low, high)


def _list(values: list[int]) -> str:
    shown = ", ".join(str(v) for v in values[:_MAX_LISTED_VALUES])
    more = len(values) - _MAX_LISTED_VALUES
    return f"{shown} and {more} more" if more > 0 else shown


def _places(view: CaseView, values: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The first voxels that hold any of the values."""
    if view.label is None:
        return []
    label = np.rint(view.label) if view.label.dtype.kind == "f" else view.label
    return _first_voxels(np.isin(label, values))


def _first_voxels(mask: Bool[np.ndarray, "i j k"]) -> list[tuple[int, int, int]]:
    found = np.flatnonzero(mask)[:_MAX_LISTED_VOXELS]
    places = np.unravel_index(found, mask.shape)
    return [(int(i), int(j), int(k)) for i, j, k in zip(*places, strict=True)]


def _evidence(
    view: CaseView, places: list[tuple[int, int, int]]
) -> dict[str, str | int | float | tuple[int, ...]]:
    evidence: dict[str, str | int | float | tuple[int, ...]] = {}
    if view.record.label_file is not None:
        evidence["file"] = view.record.label_file.file
    if places:
        evidence["voxel_ras"] = places[0]
    return evidence
