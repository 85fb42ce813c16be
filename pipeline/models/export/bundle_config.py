"""`inference.json` of a MONAI bundle: our steps around a network in transforms of MONAI.

The text is data: nothing of this project is imported when a bundle runs.
"""

import json
from typing import Any

from pipeline.artifacts import ModelInfo, NetworkPlan, Normalization, Plan
from pipeline.core.errors import UsageError
from pipeline.core.geometry import Spacing
from pipeline.models.export.card import OVERLAP
from pipeline.models.networks import network_arguments, network_name
from pipeline.transforms.preprocess import (
    IMAGE_ORDER,
    MAX_ISOTROPIC_RATIO,
    SAME_SPACING_FRACTION,
)

Settings = dict[str, Any]
IMAGE = "image"
PREDICTION = "pred"
# A copy of the image as it was read: the grid that the prediction goes back to.
_SOURCE = "source"
MODEL_FILE = "models/model.pt"
# Connectivity in orthogonal steps, as scikit-image counts: 3 is 26 neighbors, 1 is 6.
_CORNERS, _FACES = 3, 1
# Voxels; breaks ties, and moves nothing that could be seen.
_UPWARD = 1e-6
# What MONAI's configuration parser takes for code, a reference, a file, or something to build.
_MARKS = ('"$', "@", "%", '"_')
_SLICES = "@slice_axis(x.pixdim.tolist())"


def inference_config(info: ModelInfo) -> Settings:
    """Everything `python -m monai.bundle run` and MONAI Label need.

    Args:
        info: Task, plan and clean-up.

    Returns:
        The content of configs/inference.json.

    Raises:
        UsageError: If ready-made transforms cannot express the model.
    """
    return {
        "imports": [
            *(f"$import {name}" for name in ("glob", "math", "os", "re", "torch")),
            "$import numpy as np",
            "$from monai.inferers import sliding_window_inference",
            "$from monai.transforms.utils import scale_affine",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predictions'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_config(info.plan.network),
        "network": "$@network_def.to(@device)",
        **spacing_config(info.plan.preprocessing.spacing_mm),
        "preprocessing": _compose(preprocessing_config(info)),
        "files": "$sorted(f for f in glob.glob(os.path.join(@dataset_dir, '*')) "
        "if f.endswith(('.nii', '.nii.gz')))",
        "dataset": {
            "_target_": "Dataset",
            "data": _cases(info.plan.network.n_input_channels),
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        **inferer_config(info.plan),
        "postprocessing": _compose(postprocessing_config(info)),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": f"$@bundle_root + '/{MODEL_FILE}'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": [],
        "run": ["$@evaluator.run()"],
    }


def inferer_config(plan: Plan) -> Settings:
    """Windows of the training patch size, spread as evenly over an image as MONAI can.

    MONAI steps by a fixed number of voxels and lets the last window overlap more; the step is
    chosen per image so that no window starts more than a few voxels from where ours does.

    Args:
        plan: Window and batch size.

    Returns:
        Entries of the configuration.
    """
    half = 1 - OVERLAP
    return {
        "window": list(plan.patch_size),
        "n_steps": f"$lambda n, w: max(1, math.ceil((n - w) / (w * {half}) - 1e-6))",
        # Half a voxel more: MONAI rounds the step down.
        "overlap": "$lambda n, w: 1 - (math.ceil((n - w) / @n_steps(n, w)) + 0.5) / w "
        f"if n > w else {OVERLAP}",
        "inferer": "$lambda inputs, network: sliding_window_inference(inputs, @window, "
        f"{max(2, plan.batch_size)}, network, mode='gaussian', padding_mode='constant', "
        "overlap=[@overlap(n, w) for n, w in zip(inputs.shape[2:], @window)])",
    }


def network_config(plan: NetworkPlan) -> Settings:
    """The network as MONAI's configuration parser builds it.

    Args:
        plan: Architecture.

    Returns:
        Its class and arguments, without outputs that only training uses.

    Raises:
        UsageError: If an argument would be read as a program or as a reference.
    """
    # Tuples become lists, as they do in the file.
    arguments: Settings = json.loads(json.dumps(network_arguments(plan)))
    for name, value in arguments.items():
        if any(mark in json.dumps(value) for mark in _MARKS):
            raise UsageError(
                f"argument '{name}' of the network means something else in a MONAI bundle: {value}",
                where="voxline export --to bundle",
                fix="use --to pt2, onnx or mlflow",
            )
    return {"_target_": f"monai.networks.nets.{network_name(plan)}", **arguments}


def preprocessing_config(info: ModelInfo) -> list[Settings]:
    """From a file to what the network sees: RAS, normalized, at the spacing of the training.

    Args:
        info: Task and plan.

    Returns:
        Transforms in order.

    Raises:
        UsageError: If the normalization cannot be expressed.
    """
    return [
        _step(
            "LoadImaged",
            IMAGE,
            reader="NibabelReader",
            image_only=True,
            ensure_channel_first=True,
            dtype="$torch.float32",
        ),
        _step("CopyItemsd", IMAGE, times=1, names=_SOURCE),
        _step("Orientationd", IMAGE, axcodes="RAS", labels=None),
        *normalization_config(info.plan.preprocessing.normalizations),
        # In the plane of the slices first, then across them, by the functions beside.
        _step("Lambdad", IMAGE, func=f"$lambda x: @resize(x, @size(x, {_SLICES}), {IMAGE_ORDER})"),
        _step("Lambdad", IMAGE, func="$lambda x: @resize(x, @size(x, -1), 0)"),
    ]


def postprocessing_config(info: ModelInfo) -> list[Settings]:
    """From logits to a label map on the voxels of the file.

    Args:
        info: Task and clean-up.

    Returns:
        Transforms in order.

    Raises:
        UsageError: If the model predicts overlapping regions.
    """
    if info.task.regions:
        raise UsageError(
            "this model predicts overlapping regions, which the transforms of a MONAI bundle "
            "cannot paint into a label map",
            where="voxline export --to bundle",
            fix="use --to mlflow, or --to onnx or pt2 and paint the regions yourself",
        )
    indices = {c.name: c.index for c in info.task.classes}
    values = {c.index: c.source_values[0] for c in info.task.classes}
    steps = [
        _step(
            "ResampleToMatchd",
            PREDICTION,
            key_dst=_SOURCE,
            mode="bilinear",
            padding_mode="border",
            dtype="$torch.float32",
        ),
        _step("AsDiscreted", PREDICTION, argmax=True),
    ]
    for rule in info.cleanup:
        labels = [indices[rule.class_name]]
        if rule.kind == "keep_largest":
            name = "KeepLargestConnectedComponentd"
            steps.append(_step(name, PREDICTION, applied_labels=labels, connectivity=_CORNERS))
        elif rule.kind == "fill_holes":
            steps.append(
                _step("FillHolesd", PREDICTION, applied_labels=labels, connectivity=_FACES)
            )
    if any(index != value for index, value in values.items()):
        steps.append(
            _step(
                "MapLabelValued",
                PREDICTION,
                orig_labels=[0, *values],
                target_labels=[0, *values.values()],
                dtype="$torch.float32",
            )
        )
    saved_as = "uint8" if max(values.values()) <= 255 else "uint16"
    saving = _step("SaveImaged", PREDICTION, output_dir="@output_dir", output_postfix="")
    return [
        *steps,
        {**saving, "output_dtype": saved_as, "resample": False, "separate_folder": False},
    ]


def normalization_config(normalizations: tuple[Normalization, ...]) -> list[Settings]:
    """Normalize every channel by its own rule.

    Args:
        normalizations: One per channel.

    Returns:
        Transforms in order.

    Raises:
        UsageError: If only some of several channels are normalized where they are not 0.
    """
    kinds = {n.kind for n in normalizations}
    if len(normalizations) == 1:
        return [_normalization_step(IMAGE, normalizations[0])]
    if kinds == {"zscore"}:
        return [_step("NormalizeIntensityd", IMAGE, channel_wise=True)]
    if "zscore_nonzero" in kinds:
        if len(kinds) > 1:
            raise UsageError(
                "channels that are normalized where any is not 0, beside channels that are not, "
                "cannot be expressed in transforms of MONAI",
                where="voxline export --to bundle",
                fix="use --to mlflow, onnx or pt2",
            )
        return [_step("Lambdad", IMAGE, func=_NONZERO_ZSCORE)]
    keys = [f"{IMAGE}_{channel}" for channel in range(len(normalizations))]
    return [
        _step("SplitDimd", IMAGE, dim=0, keepdim=True),
        *(_normalization_step(key, n) for key, n in zip(keys, normalizations, strict=True)),
        {"_target_": "ConcatItemsd", "keys": keys, "name": IMAGE},
        {"_target_": "DeleteItemsd", "keys": keys},
    ]


# MONAI's NormalizeIntensityd looks at each channel alone: 0 in one of them may be a measurement.
_NONZERO_ZSCORE = (
    "$lambda x: torch.where((x != 0).any(0), "
    "(x - x[:, (x != 0).any(0)].mean(1)[:, None, None, None]) "
    "/ x[:, (x != 0).any(0)].std(1, correction=0).clamp(min=1e-8)[:, None, None, None], 0)"
)


def spacing_config(spacing_mm: Spacing) -> Settings:
    """Small functions that resize an image as `preprocess_image` does.

    MONAI's Spacingd keeps the centers of the outer voxels in place and one spline order for all
    axes; ours keeps the outer faces and never interpolates across thick slices.

    Args:
        spacing_mm: Target spacing along R, A, S, in mm.

    Returns:
        Entries of the configuration, by the names that `preprocessing_config` refers to.
    """
    same, thick = SAME_SPACING_FRACTION, MAX_ISOTROPIC_RATIO
    return {
        "spacing_mm": list(spacing_mm),
        "long_axis": f"$lambda mm: mm.index(max(mm)) if max(mm) > {thick} * min(mm) "
        f"and sum(edge > max(mm) * (1 - {same}) for edge in mm) == 1 else -1",
        "slice_axis": f"$lambda mm: @long_axis(mm if max(mm) > {thick} * min(mm) else @spacing_mm)",
        "size": "$lambda x, kept: [n if axis == kept or abs(mm / goal - 1) < "
        f"{same} else max(1, round(n * mm / goal)) for axis, (n, mm, goal) "
        "in enumerate(zip(x.shape[1:], x.pixdim.tolist(), @spacing_mm))]",
        "resample": {"_target_": "SpatialResample", "padding_mode": "nearest"},
        # Where two slices are equally near, ours takes the upper one: up by a millionth.
        "upward": [[0, 0, 0, _UPWARD]] * 3 + [[0, 0, 0, 0]],
        # "@" is a reference here, never a matrix product.
        "resize": "$lambda x, size, order: @resample(x, dst_affine=x.affine.matmul("
        "torch.as_tensor(scale_affine(x.shape[1:], size) + (order == 0) * np.array(@upward))), "
        "spatial_size=size, mode=order)",
    }


def _normalization_step(key: str, normalization: Normalization) -> Settings:
    if normalization.kind == "ct":
        ends = (normalization.lower, normalization.upper)
        lower, upper = ((end - normalization.mean) / normalization.std for end in ends)
        scaling = {"a_min": ends[0], "a_max": ends[1], "b_min": lower, "b_max": upper}
        return _step("ScaleIntensityRanged", key, **scaling, clip=True)
    is_nonzero = normalization.kind == "zscore_nonzero"
    return _step("NormalizeIntensityd", key, nonzero=is_nonzero, channel_wise=True)


def _cases(n_channels: int) -> str:
    """Cases of the folder: files, or groups of files _0000, _0001, ... for several channels."""
    if n_channels == 1:
        return f"$[{{'{IMAGE}': f}} for f in @files]"
    group = f"[f.replace('_0000.', '_%04d.' % c) for c in range({n_channels})]"
    return (
        f"$[{{'{IMAGE}': {group} if '_0000.' in f else f}} for f in @files "
        "if not re.search(r'_(?!0000)\\d{4}\\.', f)]"
    )


def _compose(steps: list[Settings]) -> Settings:
    return {"_target_": "Compose", "transforms": steps}


def _step(name: str, key: str, **settings: Any) -> Settings:
    return {"_target_": name, "keys": key, **settings}
