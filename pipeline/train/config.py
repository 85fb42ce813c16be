"""Knobs of the train stage. Everything left at null is planned from the data and the device."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from pipeline.core.config import StrictModel
from pipeline.models.loss_kinds import VOXELWISE, LossKind
from pipeline.transforms.config import AugmentationConfig, Positive

DeviceName = Literal["auto", "cpu", "cuda"]
# YAML reads 0 as a number; both ways of writing a fold are accepted.
FoldName = Annotated[
    Literal["0", "1", "2", "3", "4", "all"],
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
NormalizationKind = Literal["ct", "zscore", "zscore_nonzero"]
Count = Annotated[int, Field(ge=1)]
Size3 = tuple[Count, Count, Count]


class LossConfig(StrictModel):
    """What training minimizes."""

    kind: Literal[LossKind, "monai"] = Field(
        default="dice_ce",
        description="overlap term (Dice, generalized Dice, Tversky or its root) and term per voxel "
        "(cross-entropy or focal loss), or one of them alone; monai: the one called name",
    )
    name: str | None = Field(default=None, description="monai: class in monai.losses")
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="monai: its arguments, checked against its signature"
    )
    dice_weight: float = Field(default=1.0, gt=0, description="factor of the Dice or Tversky term")
    ce_weight: float = Field(
        default=1.0, ge=0, description="factor of the cross-entropy or focal term"
    )
    class_weights: dict[str, Positive] | None = Field(
        default=None,
        description="class name, or background, to its factor in the term per voxel; 1 if not "
        "named. Do not combine with a high foreground_fraction",
    )
    batch_dice: bool = Field(
        default=True,
        description="overlap over the whole batch at once; per patch, an empty patch teaches "
        "nothing",
    )
    focal_gamma: float = Field(
        default=2.0, ge=0, le=10, description="dice_focal: 0 is cross-entropy, more looks harder"
    )
    tversky_alpha: float = Field(default=0.3, ge=0, description="cost of a false positive")
    tversky_beta: float = Field(default=0.7, ge=0, description="cost of a false negative")
    tversky_gamma: float = Field(
        default=4 / 3, ge=1, le=3, description="focal_tversky(_ce): root taken of the Tversky loss"
    )
    include_background: bool | None = Field(
        default=None,
        description="overlap of the background too; null: only where no cross-entropy trains it",
    )

    @property
    def has_voxel_term(self) -> bool:
        """Whether every voxel counts for itself, beside or instead of the overlap."""
        return self.ce_weight > 0 and self.kind in VOXELWISE

    @property
    def has_background_dice(self) -> bool:
        """Whether the overlap term counts the background.

        Without cross-entropy nothing else teaches what background is: one class then tends to
        swallow it (docs/decisions/0007-background-in-dice.md).
        """
        if self.include_background is not None:
            return self.include_background
        return not self.has_voxel_term

    @model_validator(mode="after")
    def _weights_have_a_use(self) -> "LossConfig":
        if self.kind == "ce" and self.ce_weight == 0:
            raise ValueError("with kind 'ce' and a ce_weight of 0 there is nothing to minimize")
        if self.class_weights and not self.has_voxel_term:
            raise ValueError(
                f"class_weights act on cross-entropy or focal loss, and '{self.kind}' has neither"
                f"{'' if self.ce_weight else ' with a ce_weight of 0'}"
            )
        if (self.kind == "monai") != (self.name is not None) or (self.args and not self.name):
            raise ValueError("name and args belong to kind 'monai', which needs a name")
        if self.kind == "monai" and (self.dice_weight, self.ce_weight) != (1.0, 1.0):
            raise ValueError(
                "dice_weight and ce_weight do nothing for kind 'monai': weights are among its "
                "args, such as lambda_dice and lambda_ce"
            )
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta cannot both be 0")
        return self


class OptimizerConfig(StrictModel):
    """How weights move."""

    kind: Literal["adamw", "sgd"] = Field(default="adamw", description="AdamW or Nesterov SGD")
    learning_rate: float | None = Field(
        default=None, gt=0, description="peak learning rate; null: planned"
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="decoupled (adamw) or L2 (sgd)")
    momentum: float = Field(default=0.99, ge=0, lt=1, description="sgd only")
    warmup_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="share of training with rising learning rate"
    )
    schedule: Literal["cosine", "poly", "one_cycle", "plateau"] = Field(
        default="cosine",
        description="how the learning rate falls to zero after warm-up; plateau: a step down "
        "whenever validation stops improving, annealed at the end",
    )
    plateau_rounds: int = Field(
        default=3, ge=1, description="plateau: rounds without a better validation before a step"
    )
    plateau_factor: float = Field(default=0.5, gt=0, lt=1, description="plateau: size of a step")
    anneal_fraction: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="plateau and early stop: share of the training in which the rate falls to zero",
    )
    clip_norm: float = Field(
        default=12.0, gt=0, description="largest gradient norm (12 as in nnU-Net)"
    )


class NetworkConfig(StrictModel):
    """Which network; sizes left at null are planned."""

    kind: Literal["dynunet", "unet", "segresnet", "mednext", "swinunetr", "monai"] = Field(
        default="dynunet",
        description="MONAI architecture; segresnet is SegResNetDS, monai the one called name",
    )
    name: str | None = Field(default=None, description="monai: class in monai.networks.nets")
    args: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="arguments of the class, checked against its signature; they overrule the plan",
    )
    residual: bool = Field(default=False, description="dynunet: residual blocks")
    deep_supervision: bool | None = Field(
        default=None,
        description="train coarser outputs too (dynunet, segresnet, mednext); null: planned",
    )
    stem_kernel: Literal[1, 3] | None = Field(
        default=None,
        description="dynunet: kernel of the first block, at full resolution; null: planned",
    )
    n_levels: int | None = Field(
        default=None,
        ge=3,
        le=8,
        description="resolutions, where the patch allows (not swinunetr, monai); null: planned",
    )
    base_features: int | None = Field(
        default=None, ge=4, description="channels at full resolution, doubled per level"
    )
    max_features: int | None = Field(default=None, ge=4, description="most channels at any level")
    features: tuple[Count, ...] | None = Field(
        default=None,
        description="dynunet, unet: channels per level, full resolution first, instead of "
        "base_features and max_features; null: planned",
    )

    @model_validator(mode="after")
    def _name_needs_monai(self) -> "NetworkConfig":
        if (self.kind == "monai") != (self.name is not None):
            raise ValueError("name belongs to kind 'monai', which needs a name")
        return self

    @model_validator(mode="after")
    def _widths_agree(self) -> "NetworkConfig":
        base, most = self.base_features, self.max_features
        if self.features is not None and (base is not None or most is not None):
            raise ValueError("give features, or base_features and max_features, not both")
        if base is not None and most is not None and base > most:
            raise ValueError(f"base_features {base} is above max_features {most}")
        return self


class TrainConfig(StrictModel):
    """Planning, optimization and safety of one training."""

    fold: FoldName = Field(default="0", description="validation fold; all trains on every case")
    device: DeviceName = Field(default="auto", description="auto takes a GPU when there is one")
    seed: int = Field(default=0, ge=0, description="seed of weights, batches and augmentation")
    budget_minutes: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="wall-clock time of the training and its validation rounds, which fit "
        "themselves to it; preparation comes before it, the final validation after it",
    )
    epochs: float | None = Field(
        default=None, gt=0, description="passes over the training cases, one patch per case"
    )
    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    n_validations: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="rounds; each ends with a validation and a checkpoint",
    )
    n_validation_cases: int | None = Field(
        default=None,
        ge=1,
        description="cases per validation round; null: planned. The last uses all",
    )
    checkpoint_minutes: float = Field(
        default=2.0, gt=0, description="longest time between two checkpoints"
    )
    spacing_mm: tuple[Positive, Positive, Positive] | None = Field(
        default=None, description="target spacing along R, A, S; null: planned"
    )
    normalization: dict[str, NormalizationKind] | None = Field(
        default=None,
        description="channel name to ct (clip to the foreground of the training cases), zscore or "
        "zscore_nonzero; null, or a channel that is not named: planned by modality",
    )
    patch_size: Size3 | None = Field(default=None, description="voxels; null: planned")
    batch_size: int | None = Field(default=None, ge=1, description="patches; null: planned")
    foreground_fraction: float = Field(
        default=1 / 3, ge=0, le=1, description="share of patches centred on a labelled voxel"
    )
    mirror_axes: tuple[Literal[0, 1, 2], ...] | None = Field(
        default=None, description="axes of R A S to mirror in augmentation; null: planned"
    )
    ema_decay: float = Field(
        default=0.998, ge=0, lt=1, description="decay of the averaged weights; 0 turns it off"
    )
    early_stop_rounds: int | None = Field(
        default=None,
        ge=1,
        description="rounds without a better validation after which the learning rate is annealed "
        "to zero and training ends; null: never",
    )
    growth: Literal["off", "patch", "resize"] = Field(
        default="off",
        description="begin with small patches (patch: PGPS) or coarse ones (resize) that grow to "
        "the planned size",
    )
    growth_stages: int = Field(default=4, ge=2, le=16, description="sizes on the way, with growth")
    on_collapse: Literal["warn", "dice_ce"] = Field(
        default="warn",
        description="dice_ce: when a class collapses under a loss without a term per voxel, "
        "cross-entropy is added from then on",
    )
    warm_start: Path | None = Field(
        default=None, description="model file whose fitting weights training begins with"
    )
    probe: bool = Field(
        default=True, description="measure the memory of a step to choose patch and batch"
    )
    memory_gb: float | None = Field(
        default=None, gt=0, description="memory a step may take, GiB; null: what is free"
    )
    deterministic: bool = Field(
        default=False, description="same result bit by bit on a GPU too, slower; a CPU always is"
    )
    amp: bool = Field(
        default=True,
        description="mixed precision: bfloat16 on a GPU or CPU that computes with it, float16 on "
        "any other GPU, none on any other CPU",
    )
    overlap: float = Field(default=0.5, ge=0, lt=1, description="window overlap in validation")
    cleanup: bool = Field(
        default=True,
        description="choose clean-up rules (largest piece, islands, holes) on the predictions of "
        "the final validation, where they help; inference applies them",
    )
    loss: LossConfig = Field(default_factory=LossConfig, description="loss")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="optimizer")
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="network")
    augmentation: AugmentationConfig = Field(
        default_factory=AugmentationConfig, description="augmentation"
    )

    @model_validator(mode="after")
    def _collapse_has_an_answer(self) -> "TrainConfig":
        if self.on_collapse == "dice_ce" and self.loss.kind == "monai":
            raise ValueError(
                "on_collapse 'dice_ce' adds cross-entropy to the built-in losses; of kind 'monai' "
                "nobody knows whether it has a term per voxel"
            )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        given = [k for k in ("budget_minutes", "epochs", "steps") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of budget_minutes, epochs and steps, not {given}")
        return self
