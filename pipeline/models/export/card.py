"""What stands beside an exported model: all that is needed to use the weights as we do."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.artifacts import (
    Artifact,
    CleanupRule,
    LabelClass,
    ModelInfo,
    Normalization,
    Preprocessing,
    Task,
)
from pipeline.core.geometry import Shape3
from pipeline.core.workspace import write_json, write_text
from pipeline.models.checkpoint import Model

ExportKind = Literal["bundle", "pt2", "onnx", "mlflow"]
CARD_NAME = "voxline.json"
TEXT_NAME = "model_card.md"
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
# Share of a window that its neighbour covers again, as inference does unless told otherwise.
OVERLAP = 0.5


class ExportCard(Artifact):
    """`voxline.json`: what the exported file takes and gives, and the steps around it."""

    kind: ExportKind
    model_digest: str = Field(description="short hash of the model file it was made from")
    window: Shape3 = Field(description="voxels along R, A, S of one input")
    overlap: float = Field(description="share of a window that its neighbour covers again")
    input_name: str = Field(description="float32, (batch, channel, i, j, k), axes to R, A, S")
    output_name: str = Field(description="float32, (batch, output, i, j, k), not yet activated")
    outputs: tuple[str, ...] = Field(description="what each output channel stands for")
    steps: tuple[str, ...] = Field(description="from a file to a label map, in words")
    info: ModelInfo = Field(description="task, plan, clean-up and origin of the model")


def write_card(model: Model, folder: Path, kind: ExportKind) -> ExportCard:
    """Describe an export: `voxline.json` for programs, `model_card.md` for people.

    Args:
        model: What was exported.
        folder: The folder of the export.
        kind: Its format.

    Returns:
        What programs read. Hashes of the training images stay with the model file.
    """
    info = model.info.model_copy(update={"training_images": ()})
    card = ExportCard(
        kind=kind,
        model_digest=model.digest,
        window=info.plan.patch_size,
        overlap=OVERLAP,
        input_name=INPUT_NAME,
        output_name=OUTPUT_NAME,
        outputs=output_names(info.task),
        steps=steps_of(info),
        info=info,
    )
    write_json(folder / CARD_NAME, card)
    if model.card:
        write_text(folder / TEXT_NAME, model.card)
    return card


def output_names(task: Task) -> tuple[str, ...]:
    """What each output channel of the network stands for: regions, or background and classes."""
    if task.regions:
        return tuple(region.name for region in task.regions)
    return ("background", *task.class_names)


def steps_of(info: ModelInfo) -> tuple[str, ...]:
    """Describe the way from an image file to a label map, one sentence per step.

    Args:
        info: The model.

    Returns:
        Sentences in order, precise enough to be programmed from.
    """
    plan, task = info.plan, info.task
    size = " x ".join(str(n) for n in plan.patch_size)
    return (
        "Order and flip the voxel axes so that they run to R, A, S.",
        *_normalization_steps(plan.preprocessing, task),
        _spacing_step(plan.preprocessing),
        f"Sweep windows of {size} voxels over it, each covering at least half of the one before, "
        "zeros where the image is smaller; blend the outputs with a Gaussian (standard deviation "
        "an eighth of the window).",
        "Interpolate the outputs linearly to the voxels of the image file.",
        _decision_step(task),
        *(_cleanup_step(rule) for rule in info.cleanup),
        "Write " + ", ".join(_value_text(c) for c in task.classes) + ".",
    )


def _normalization_steps(preprocessing: Preprocessing, task: Task) -> tuple[str, ...]:
    return tuple(
        f"Channel {channel.name}: {_normalization_text(normalization)}"
        for channel, normalization in zip(task.channels, preprocessing.normalizations, strict=True)
    )


def _normalization_text(normalization: Normalization) -> str:
    match normalization.kind:
        case "ct":
            return (
                f"clip to {normalization.lower:g} .. {normalization.upper:g}, subtract "
                f"{normalization.mean:g}, divide by {normalization.std:g}."
            )
        case "zscore":
            return "subtract the mean of all voxels, divide by their standard deviation."
        case "zscore_nonzero":
            return (
                "subtract the mean of the voxels where any channel is not 0, divide by their "
                "standard deviation; the other voxels become 0."
            )


def _spacing_step(preprocessing: Preprocessing) -> str:
    spacing = " x ".join(f"{mm:g}" for mm in preprocessing.spacing_mm)
    return (
        f"Resize to {spacing} mm over the same field of view with cubic splines (nearest voxel "
        "along an axis more than three times as long as the shortest); an axis within 1 % of it "
        "keeps its voxels."
    )


def _decision_step(task: Task) -> str:
    if not task.regions:
        return "Take the class with the largest output; of equal ones the first."
    painted = ", then ".join(f"{r.name} as {r.paints}" for r in task.regions)
    return f"A region is where its output is above 0; paint {painted}."


def _cleanup_step(rule: CleanupRule) -> str:
    match rule.kind:
        case "keep_largest":
            return f"{rule.class_name}: keep the largest piece (26-connected)."
        case "remove_islands":
            return f"{rule.class_name}: remove pieces smaller than {rule.min_ml or 0:g} ml."
        case "fill_holes":
            return f"{rule.class_name}: fill background that it encloses."


def _value_text(label_class: LabelClass) -> str:
    return f"{label_class.name} as {label_class.source_values[0]}"
