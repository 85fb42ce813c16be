"""Everything one stage leaves on disk for another: frozen, versioned, plain JSON."""

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from pipeline.core.artifact import Artifact as Artifact
from pipeline.core.artifact import read_artifact as read_artifact
from pipeline.core.config import StrictModel
from pipeline.core.file_facts import FileFacts as FileFacts
from pipeline.core.file_facts import Matrix4 as Matrix4
from pipeline.core.file_facts import SourceStamp as SourceStamp
from pipeline.core.file_facts import StoredArray as StoredArray
from pipeline.core.geometry import Shape3, Spacing
from pipeline.core.likeness import CleanupRule as CleanupRule
from pipeline.core.likeness import QualityFlag as QualityFlag
from pipeline.core.likeness import Range as Range
from pipeline.core.likeness import TrainingRanges as TrainingRanges
from pipeline.core.task import Channel as Channel
from pipeline.core.task import LabelClass as LabelClass
from pipeline.core.task import Modality as Modality
from pipeline.core.task import Region as Region
from pipeline.core.task import Task as Task

Severity = Literal["error", "warning", "info"]
Verdict = Literal["clean", "warnings", "errors"]


# --- ingest ---------------------------------------------------------------------------------------


class Problem(StrictModel):
    """Why a case or a file could not be used; the audit turns it into a finding."""

    check_id: str
    file: str
    message: str
    fix: str
    severity: Severity = "error"


class CaseRecord(StrictModel):
    """One case of the dataset, readable or not."""

    case_id: str
    status: Literal["ready", "unreadable"]
    sources: tuple[SourceStamp, ...] = ()
    image_files: tuple[FileFacts, ...] = ()
    label_file: FileFacts | None = None
    image: StoredArray | None = None
    label: StoredArray | None = None
    problems: tuple[Problem, ...] = ()
    unannotated: tuple[str, ...] = Field(
        default=(), description="classes nobody drew in this case: missing there is not background"
    )


class DatasetManifest(Artifact):
    """`dataset.json`: every case of a dataset, also the unreadable ones with the reason."""

    name: str
    root: Path = Field(description="the dataset folder, absolute")
    source: Path | None = Field(
        default=None, description="what was named as the dataset, where not the folder: a list"
    )
    layout: str = Field(description="decathlon, nnunet, two_folders, ...")
    layout_reason: str
    layout_asked: str = Field(
        default="auto", description="ingest.layout: ingest without --data asks for it again"
    )
    task: Task
    cases: tuple[CaseRecord, ...]
    problems: tuple[Problem, ...] = Field(default=(), description="files without a partner")
    digest: str = Field(description="short hash over all case contents, order-independent")

    @property
    def ready_cases(self) -> tuple[CaseRecord, ...]:
        """Cases whose image and label could be read."""
        return tuple(c for c in self.cases if c.status == "ready")


# --- audit ----------------------------------------------------------------------------------------


class Finding(StrictModel):
    """One result of the audit."""

    check_id: str
    severity: Severity
    case_id: str | None = None
    class_name: str | None = None
    value: float | int | str | None = None
    threshold: float | int | str | None = None
    message: str
    fix: str
    evidence: dict[str, str | int | float | tuple[int, ...]] = Field(default_factory=dict)
    waived: str | None = Field(default=None, description="reason of the waiver, if waived")


class Findings(Artifact):
    """`findings.json`."""

    verdict: Verdict
    n_cases: int
    findings: tuple[Finding, ...]
    unused_waivers: tuple[str, ...] = ()


class AdviceItem(StrictModel):
    """One piece of advice drawn from the dataset, with the settings that follow it."""

    check_id: str = Field(pattern=r"^T[0-9]{2}$", description="T01 loss, ..., T08 validation")
    headline: str = Field(description="what to do, in one line")
    reason: str = Field(description="why, with the numbers it rests on")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="dotted key of the configuration to its value"
    )


class Advice(Artifact):
    """`advice.json`; its settings are also written as `advice.yaml`."""

    items: tuple[AdviceItem, ...]
    patch_hits: dict[str, float] = Field(
        default_factory=dict, description="class to probability that a random patch shows it"
    )

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Every advised value by its dotted key, such as "train.loss.kind"."""
        return {key: value for item in self.items for key, value in item.settings.items()}


class ChannelStatistics(StrictModel):
    """Intensities of one channel of one case inside the foreground (whole image if empty)."""

    n_voxels: int
    mean: float
    std: float
    quantiles: tuple[float, ...] = Field(description="at QUANTILE_LEVELS")


# Dense at the tails, where clipping percentiles are read off.
QUANTILE_LEVELS: tuple[float, ...] = (
    *(0.0, 0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85),
    *(0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.9925, 0.995, 0.9975, 0.999, 0.9995, 1.0),
)


class CaseFingerprint(StrictModel):
    """What planning needs to know about one case."""

    case_id: str
    shape: Shape3 = Field(description="canonical RAS")
    spacing_mm: Spacing
    foreground: tuple[ChannelStatistics, ...] = Field(description="one per channel")
    nonzero_fraction: float = Field(description="share of voxels where any channel is not 0")
    n_class_voxels: tuple[int, ...] = Field(
        description="per foreground class, task order; 0 for those that were not annotated"
    )
    unannotated: tuple[str, ...] = Field(
        default=(), description="classes nobody drew in this case: their 0 is not an absence"
    )


class Fingerprint(Artifact):
    """`fingerprint.json`: rows per case; train aggregates those of its training fold."""

    cases: tuple[CaseFingerprint, ...]


class Fold(StrictModel):
    """One train/validation partition."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Splits(Artifact):
    """`splits.json`."""

    method: str
    seed: int
    folds: tuple[Fold, ...]
    groups: dict[str, str] = Field(default_factory=dict, description="case id to patient")
    sites: dict[str, str] = Field(default_factory=dict, description="case id to site, if known")


# --- train ----------------------------------------------------------------------------------------


class Normalization(StrictModel):
    """How one channel becomes network input."""

    kind: Literal["ct", "zscore", "zscore_nonzero"]
    lower: float = Field(default=0.0, description="clip, intensity units (ct only)")
    upper: float = Field(default=0.0, description="clip, intensity units (ct only)")
    mean: float = Field(default=0.0, description="subtracted after clipping (ct only)")
    std: float = Field(default=1.0, gt=0, description="divided by after clipping (ct only)")


class Preprocessing(StrictModel):
    """Everything that must match between training and inference. Stored in the checkpoint."""

    spacing_mm: Spacing = Field(
        description="target spacing along R, A, S; voxels may be off by <1 %"
    )
    normalizations: tuple[Normalization, ...] = Field(description="one per channel")


class NetworkPlan(StrictModel):
    """What is needed to build the network again."""

    kind: Literal["dynunet", "unet", "segresnet", "mednext", "swinunetr", "monai"]
    n_input_channels: int
    n_output_channels: int
    features: tuple[int, ...] = Field(description="channels per resolution level")
    kernels: tuple[Shape3, ...] = Field(description="convolution kernel per level")
    strides: tuple[Shape3, ...] = Field(description="stride into each level, first is 1")
    residual: bool = Field(default=False, description="dynunet: residual blocks")
    n_deep_outputs: int = Field(
        default=0, ge=0, description="coarser outputs trained beside the full one"
    )
    name: str | None = Field(default=None, description="monai: class in monai.networks.nets")
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="further arguments of the class"
    )


class GrowthStage(StrictModel):
    """Patches of one part of a training, when they grow."""

    until: float = Field(gt=0, le=1, description="progress at which the next stage begins")
    patch_size: Shape3 = Field(description="voxels the network sees")
    zoom: float = Field(default=1.0, gt=0, le=1, description="of the volume; below 1 is coarser")


class Plan(Artifact):
    """`plan.json`: every choice made for one training, with its reasons."""

    preprocessing: Preprocessing
    network: NetworkPlan
    patch_size: Shape3
    batch_size: int = Field(ge=1)
    mirror_axes: tuple[int, ...] = Field(description="axes of i j k flipped in augmentation")
    learning_rate: float = Field(gt=0, description="peak of the schedule")
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="factors in the loss per voxel, background first; None for 1"
    )
    n_train_cases: int
    median_shape: Shape3 = Field(description="at target spacing, voxels")
    device: Literal["cpu", "cuda"]
    growth: tuple[GrowthStage, ...] = Field(
        default=(), description="patches on the way to patch_size; empty: none"
    )
    peak_memory_mb: float | None = Field(default=None, description="of a step, measured, MiB")
    reasons: tuple[str, ...] = Field(description="one line per choice, for the reader")


class ModelInfo(Artifact):
    """What travels with the weights, so that inference cannot disagree with training."""

    task: Task
    plan: Plan
    dataset_name: str
    dataset_digest: str
    fold: str
    mlflow_run_id: str | None = None
    training_images: tuple[str, ...] = Field(
        default=(), description="content hashes; inference says when it meets a training case"
    )
    voxline_version: str
    n_annotated_cases: dict[str, int] = Field(
        default_factory=dict,
        description="class to training cases it was drawn in; classes drawn in all are not named",
    )
    cleanup: tuple[CleanupRule, ...] = Field(
        default=(), description="applied to every prediction, in this order"
    )
    training_ranges: TrainingRanges | None = None
    versions: dict[str, str] = Field(default_factory=dict, description="of packages in training")
    number_format: str | None = Field(default=None, description="of convolutions in training")


# --- infer and evaluate ---------------------------------------------------------------------------


class PredictionRecord(StrictModel):
    """One predicted case, or the reason why there is none."""

    case_id: str
    status: Literal["done", "failed"]
    file: str | None = Field(default=None, description="relative to the predictions folder")
    seconds: float | None = None
    n_class_voxels: tuple[int, ...] = ()
    seen_in_training: bool = False
    sources: tuple[SourceStamp, ...] = ()
    message: str = ""
    fix: str = ""
    content_hash: str = Field(default="", description="xxh3-128 of the image in RAS")
    volumes_ml: tuple[float, ...] = Field(default=(), description="per foreground class")
    quality: tuple[QualityFlag, ...] = Field(default=(), description="empty: nothing unusual")
    computed_on: str = Field(default="", description="cpu, cuda, cuda+cpu or openvino, and why")
    probabilities_file: str | None = None
    dicom_seg_file: str | None = None
    grid_hash: str = Field(default="", description="of the place of the voxels in the image file")
    file_hash: str = Field(default="", description="xxh3-128 of the bytes of the prediction file")
    model_digest: str = Field(default="", description="model it was made with")
    settings: str = Field(default="", description="hash of the model and all that decides labels")


class Predictions(Artifact):
    """`predictions.json`."""

    dataset_name: str
    model_file: str
    model_digest: str
    overlap: float = Field(description="window overlap they were made with")
    cases: tuple[PredictionRecord, ...]
    model_files: tuple[str, ...] = Field(default=(), description="all models that were averaged")
    mirror_axes: tuple[int, ...] = Field(default=(), description="axes mirrored in prediction")
    cleanup: tuple[CleanupRule, ...] = Field(default=(), description="applied to every prediction")


class Interval(StrictModel):
    """A score over cases; every mean stands beside the number of cases it is made of."""

    mean: float | None
    median: float | None
    ci95: tuple[float, float] | None = Field(description="of the mean; None below 3 values")
    n: int = Field(description="cases with a value")
    n_undefined: int
    t95: tuple[float, float] | None = Field(
        default=None, description="Student t interval beside ci95, for fewer than 20 patients"
    )
    n_patients: int | None = Field(
        default=None, description="patients with a value; None where every case is one"
    )

    @property
    def is_small(self) -> bool:
        """Fewer than 10 patients: look at the single values, an interval says little."""
        return (self.n if self.n_patients is None else self.n_patients) < 10


class ClassSummary(StrictModel):
    """Scores of one class over all cases."""

    dice: Interval
    iou: Interval
    volume_error_ml: Interval
    hd95_mm: Interval | None = Field(default=None, description="None where not computed")
    nsd: Interval | None = Field(default=None, description="None where not computed")
    assd_mm: Interval | None = Field(default=None, description="None where not computed")
    hd95_penalized_mm: Interval | None = Field(
        default=None, description="image diagonal where missed or hallucinated"
    )
    precision: Interval | None = None
    recall: Interval | None = None
    volume_error_percent: Interval | None = None
    lesion_f1: Interval | None = Field(default=None, description="None where not computed")
    n_missed: int = Field(description="in the reference, not predicted at all")
    n_hallucinated: int = Field(description="predicted, not in the reference")
    n_absent: int = Field(description="in neither")
    n_not_annotated: int = Field(
        default=0, description="cases in which nobody drew the class; in no other count"
    )


class FailedCase(StrictModel):
    """A case that could not be scored, and why."""

    case_id: str
    message: str
    fix: str


class Summary(Artifact):
    """`summary.json`."""

    policy: str
    n_cases: int
    classes: dict[str, ClassSummary]
    mean_foreground_dice: float | None
    mean_foreground_dice_policies: dict[str, float | None]
    failed_cases: tuple[FailedCase, ...] = ()


class ModelCard(Artifact):
    """`model_card.json`: what a model is and how well it did on cases it was not trained on."""

    info: ModelInfo
    run_key: str = Field(description="hash of data, plan and configuration")
    n_parameters: int
    n_steps: int
    training_minutes: float
    validation: Summary | None
