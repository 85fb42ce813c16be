"""A model in words: the card that travels in the model file and with every export."""

from collections.abc import Iterable, Iterator, Sequence

from pipeline.artifacts import CleanupRule, ModelInfo, Normalization, Range, Summary
from pipeline.core.text import some_of

MAX_LISTED_CLASSES = 120


def describe_model(info: ModelInfo, validation: Summary | None = None) -> str:
    """Write the card of a model.

    Args:
        info: Task, plan and origin.
        validation: Scores of the final validation, without clean-up; None if there are none.

    Returns:
        Markdown that ends with a line break.
    """
    sections = (
        [f"# Segmentation model for {info.dataset_name}"],
        _purpose(info),
        _classes(info),
        _scores(info, validation),
        _cleanup(info.cleanup),
        _training_data(info),
        _preparation(info),
        _origin(info),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _purpose(info: ModelInfo) -> list[str]:
    channels = ", ".join(f"{c.name} ({c.modality})" for c in info.task.channels)
    return [
        f"Structures found: {len(info.task.classes)}. Channels of the 3D image, in this order: "
        f"{channels}.",
        "Not a medical device. Check predictions before anything depends on them.",
    ]


def _classes(info: ModelInfo) -> list[str]:
    lines = ["## Structures", "", "| value in the label file | structure |", "|---|---|"]
    shown = info.task.classes[:MAX_LISTED_CLASSES]
    lines += [f"| {c.source_values[0]} | {c.name} |" for c in shown]
    if n_more := len(info.task.classes) - len(shown):
        lines.append(f"| ... | and {n_more} more |")
    for region in info.task.regions:
        inside = " + ".join(region.classes)
        lines += ["", f"The network predicts {region.name} ({inside}), painted as {region.paints}."]
    return lines


def _scores(info: ModelInfo, validation: Summary | None) -> list[str]:
    lines = ["## How good it is", ""]
    if validation is None:
        return [*lines, "Not measured: it was trained on all cases, none was left to validate on."]
    mean = _dice(validation.mean_foreground_dice)
    lines += [
        f"Whole-volume Dice on the {validation.n_cases} validation cases of fold {info.fold}, "
        f"without clean-up; mean over structures {mean}. The checkpoint was chosen on cases of the "
        "same fold: expect a little less on new cases, and less still on other scanners.",
        "",
        "| structure | Dice (mean) | median | cases | with clean-up |",
        "|---|---|---|---|---|",
    ]
    cleaned = {rule.class_name: rule.dice_after for rule in info.cleanup}
    for name, scores in validation.classes.items():
        dice = scores.dice
        lines.append(
            f"| {name} | {_dice(dice.mean)} | {_dice(dice.median)} | {dice.n} | "
            f"{_dice(cleaned.get(name))} |"
        )
    return lines


def _cleanup(rules: Sequence[CleanupRule]) -> list[str]:
    lines = ["## Clean-up of predictions", ""]
    if not rules:
        return [*lines, "None."]
    lines += [f"{number}. {_rule(rule)}" for number, rule in enumerate(rules, start=1)]
    return [
        *lines,
        "",
        "Chosen on the validation cases above, so its gain there is a little flattering.",
    ]


def _rule(rule: CleanupRule) -> str:
    match rule.kind:
        case "keep_largest":
            deed = "only the largest connected piece stays"
        case "remove_islands":
            deed = f"pieces below {rule.min_ml:.3g} ml become background"
        case "fill_holes":
            deed = "enclosed holes are filled"
    return (
        f"{rule.class_name}: {deed} (Dice {_dice(rule.dice_before)} to {_dice(rule.dice_after)}, "
        f"{rule.n_cases} cases)"
    )


def _training_data(info: ModelInfo) -> list[str]:
    lines = ["## What it was trained on", ""]
    lines.append(f"{info.plan.n_train_cases} cases of {info.dataset_name}.")
    ranges = info.training_ranges
    if ranges is None:
        return lines
    lines += ["", "| | lowest | median | highest |", "|---|---|---|---|"]
    lines += _rows("voxel size, mm", ranges.spacing_mm)
    lines += _rows("field of view, mm", ranges.extent_mm)
    for channel, known in zip(info.task.channels, ranges.intensities, strict=True):
        lines.append(_row(f"mean brightness in structures, {channel.name}", known[0]))
    for name, known_ml in ranges.volumes_ml.items():
        absent = 100 * ranges.absent_fraction.get(name, 0.0)
        n_drawn = info.n_annotated_cases.get(name)
        cases = "cases" if n_drawn is None else f"the {n_drawn} cases that annotate it"
        lines.append(_row(f"{name}, ml (absent in {absent:.0f} % of {cases})", known_ml))
    orientations = ", ".join(f"{name} ({n})" for name, n in ranges.orientations.items())
    return [*lines, "", f"Voxel axes of the files run to: {orientations}."]


def _rows(name: str, along: Sequence[Range]) -> Iterator[str]:
    for axis, known in zip(("left-right", "front-back", "head-foot"), along, strict=True):
        yield _row(f"{name}, {axis}", known)


def _row(name: str, known: Range) -> str:
    return f"| {name} | {known.lowest:.4g} | {known.median:.4g} | {known.highest:.4g} |"


def _preparation(info: ModelInfo) -> list[str]:
    plan = info.plan
    lines = [
        "## Preparation of images (done by voxline infer)",
        "",
        "1. Axes turned to right, anterior, superior.",
    ]
    for channel, normalization in zip(
        info.task.channels, plan.preprocessing.normalizations, strict=True
    ):
        lines.append(f"1. {channel.name}: {_normalization(normalization)}.")
    network = plan.network
    name = network.name or network.kind
    features = f" with {'-'.join(map(str, network.features))} features" if network.features else ""
    if network.args:
        features += f" ({', '.join(f'{name} {value}' for name, value in network.args.items())})"
    return [
        *lines,
        f"1. Resampled to {_by(plan.preprocessing.spacing_mm)} mm.",
        f"1. MONAI {name}{features} in windows of {_by(plan.patch_size)} voxels.",
    ]


def _normalization(normalization: Normalization) -> str:
    if normalization.kind == "ct":
        return (
            f"clipped to {normalization.lower:g} to {normalization.upper:g}, minus "
            f"{normalization.mean:.5g}, divided by {normalization.std:.5g}"
        )
    where = "of voxels that are not 0" if normalization.kind == "zscore_nonzero" else "of the image"
    return f"minus the mean and divided by the standard deviation {where}"


def _origin(info: ModelInfo) -> list[str]:
    versions = [f"{name} {number}" for name, number in info.versions.items()]
    return [
        "## Origin",
        "",
        f"- Voxline {info.voxline_version}; {some_of(versions, 20) or 'other versions unknown'}",
        f"- convolutions in training computed in {info.number_format or 'an unknown format'}",
        f"- dataset digest {info.dataset_digest}, fold {info.fold}",
        f"- MLflow run {info.mlflow_run_id or 'none'}",
    ]


def _dice(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _by(values: Iterable[int | float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
