"""Keys that were changed and do nothing: whoever set them believes in another training."""

from collections.abc import Iterator

from pipeline.core.config import StrictModel
from pipeline.models.loss_kinds import OVERLAP, VOXELWISE
from pipeline.train.config import TrainConfig


def idle_keys(config: TrainConfig) -> list[str]:
    """Name the changed keys that nothing will read.

    They are no error: one file serves a sweep over kinds of losses, and each kind has its keys.

    Args:
        config: The section `train`.

    Returns:
        One line for each, in the order of the sections.
    """
    return [
        *_idle_in("train", config, _uses_of_training(config)),
        *_idle_in("train.loss", config.loss, _uses_of_loss(config)),
        *_idle_in("train.optimizer", config.optimizer, _uses_of_optimizer(config)),
        *_idle_in("train.augmentation", config.augmentation, _uses_of_augmentation(config)),
    ]


# Key to what makes it idle; None where it is read.
Uses = dict[str, str | None]


def _idle_in(section: str, values: StrictModel, uses: Uses) -> Iterator[str]:
    for key, reason in uses.items():
        value = getattr(values, key)
        if reason is not None and value != type(values).model_fields[key].default:
            yield f"{section}.{key} {value} does nothing with {reason}"


def _uses_of_training(config: TrainConfig) -> Uses:
    has_collapse = config.loss.kind in OVERLAP and not config.loss.has_voxel_term
    return {
        "growth_stages": "train.growth off" if config.growth == "off" else None,
        "memory_gb": None if config.probe else "train.probe false",
        "on_collapse": None if has_collapse else f"loss {config.loss.kind}",
    }


def _uses_of_loss(config: TrainConfig) -> Uses:
    kind = config.loss.kind
    overlap, voxelwise = OVERLAP.get(kind), VOXELWISE.get(kind)
    has_prices = overlap in {"tversky", "focal_tversky"}
    is_focal = voxelwise == "focal" and config.loss.has_voxel_term
    uses = {
        "dice_weight": overlap is not None,
        "batch_dice": overlap is not None,
        "include_background": overlap is not None,
        "ce_weight": voxelwise is not None,
        "focal_gamma": is_focal,
        "tversky_alpha": has_prices,
        "tversky_beta": has_prices,
        "tversky_gamma": overlap == "focal_tversky",
    }
    without = " and a ce_weight of 0" if voxelwise == "focal" and not is_focal else ""
    return {key: None if is_used else f"loss {kind}{without}" for key, is_used in uses.items()}


def _uses_of_optimizer(config: TrainConfig) -> Uses:
    optimizer = config.optimizer
    schedule = f"schedule {optimizer.schedule}"
    is_plateau = optimizer.schedule == "plateau"
    anneals_early = is_plateau or config.early_stop_rounds is not None
    return {
        "momentum": None if optimizer.kind == "sgd" else f"optimizer {optimizer.kind}",
        "plateau_rounds": None if is_plateau else schedule,
        "plateau_factor": None if is_plateau else schedule,
        "anneal_fraction": None if anneals_early else f"{schedule} and no early stop",
    }


def _uses_of_augmentation(config: TrainConfig) -> Uses:
    augmentation = config.augmentation
    readers = {
        "affine_probability": ("rotation_degrees", "scale"),
        "elastic_probability": ("elastic_scale_mm", "elastic_magnitude_mm"),
        "noise_probability": ("noise_std",),
        "blur_probability": ("blur_sigma_voxels",),
        "brightness_probability": ("brightness", "shift_std"),
        "contrast_probability": ("contrast",),
        "gamma_probability": ("gamma",),
        "low_resolution_probability": ("low_resolution_zoom",),
    }
    return {
        key: None if getattr(augmentation, probability) else f"{probability} 0"
        for probability, keys in readers.items()
        for key in keys
    }
