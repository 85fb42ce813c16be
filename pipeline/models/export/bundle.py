"""A model as a MONAI bundle: a folder that MONAI and MONAI Label run without this project."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import LabelClass, ModelInfo, Task
from pipeline.core.workspace import write_text
from pipeline.models.checkpoint import Model
from pipeline.models.export.bundle_config import (
    IMAGE,
    MODEL_FILE,
    PREDICTION,
    Settings,
    inference_config,
)
from pipeline.models.export.card import steps_of, write_card
from pipeline.models.networks import plain_weights

# MONAI Label guesses what a bundle does from the name of its folder.
NAME_PART = "segmentation"
# What running the bundle imports beside MONAI itself; the last one only for clean-up rules.
_PACKAGES = ("nibabel", "scipy", "fire", "pytorch-ignite")
_CLEANUP_PACKAGE = "scikit-image"
# Written in tests; any newer one should do.
_KNOWN_VERSIONS = {"fire": "0.7.1", "pytorch-ignite": "0.5.5", "scikit-image": "0.26.0"}
_FORMATS = {"ct": "hounsfield", "mr": "magnitude", "pet": "magnitude", "other": "magnitude"}


def write_bundle(model: Model, folder: Path) -> tuple[str, ...]:
    """Write a bundle.

    Args:
        model: From `load_model`, on the CPU.
        folder: Gets configs/, models/, docs/ and voxline.json; exists.

    Returns:
        What the bundle does otherwise than Voxline, one sentence each.

    Raises:
        UsageError: If the model predicts regions, or channels need what MONAI cannot express.
    """
    config = inference_config(model.info)
    limits = limits_of(model.info)
    write_card(model, folder, "bundle")
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    _write_json(folder / "configs" / "inference.json", config)
    _write_json(folder / "configs" / "metadata.json", metadata(model.info))
    torch.save(plain_weights(model.network.state_dict()), folder / MODEL_FILE)
    write_text(folder / "docs" / "README.md", _readme(model.info, limits))
    return limits


def metadata(info: ModelInfo) -> Settings:
    """What MONAI's specification and MONAI Label expect in metadata.json.

    Args:
        info: The model.

    Returns:
        The content of configs/metadata.json.
    """
    names = ", ".join(info.task.class_names)
    modalities = sorted({channel.modality for channel in info.task.channels})
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/"
        "0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by Voxline {info.voxline_version}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": _packages(info),
        "name": f"{info.dataset_name} {NAME_PART}",
        "task": f"Segmentation of {names}",
        "description": f"Segments {names}; trained by Voxline on {info.dataset_name} "
        f"({info.plan.n_train_cases} cases, fold {info.fold}, data {info.dataset_digest}).",
        "authors": "trained with Voxline",
        "copyright": "belongs to whoever trained the model",
        "data_source": info.dataset_name,
        "data_type": "nibabel",
        "intended_use": "Research. Not a medical device.",
        "network_data_format": {
            "inputs": {IMAGE: _input_format(info, "+".join(modalities).upper())},
            "outputs": {PREDICTION: _output_format(info)},
        },
    }


def limits_of(info: ModelInfo) -> tuple[str, ...]:
    """What a bundle of this model does otherwise than Voxline, one sentence each."""
    removed = [rule.class_name for rule in info.cleanup if rule.kind == "remove_islands"]
    filled = [rule.class_name for rule in info.cleanup if rule.kind == "fill_holes"]
    limits = [
        "Where more than two windows lie along an axis (an image longer than one and a half "
        "windows), or a CT shows much air (which Voxline leaves out), MONAI's windows start a few "
        "voxels from ours and labels differ at some borders: in the worst case measured in 0.7 % "
        "of the voxels."
    ]
    if info.plan.mirror_axes:
        limits.append("On a GPU Voxline also averages over mirrored windows; a bundle does not.")
    if removed:
        limits.append(
            f"The removal of small pieces of {', '.join(removed)} is left out: MONAI cannot do it "
            "for one class by volume."
        )
    if filled and len(info.task.classes) > 1:
        limits.append(
            f"Holes in {', '.join(filled)} are filled also where another class lies inside."
        )
    return tuple(limits)


def label_values(task: Task) -> dict[int, str]:
    """Names by the value they have in the label maps that the bundle writes."""
    return {0: "background", **{_written_value(c): c.name for c in task.classes}}


def _written_value(label_class: LabelClass) -> int:
    return label_class.source_values[0]


def _input_format(info: ModelInfo, modality: str) -> Settings:
    return {
        "type": "image",
        "format": _FORMATS[info.task.channels[0].modality],
        "modality": modality,
        "num_channels": len(info.task.channels),
        "spatial_shape": list(info.plan.patch_size),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(i): channel.name for i, channel in enumerate(info.task.channels)},
    }


def _output_format(info: ModelInfo) -> Settings:
    return {
        "type": "image",
        "format": NAME_PART,
        "num_channels": info.plan.network.n_output_channels,
        "spatial_shape": list(info.plan.patch_size),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        # MONAI Label takes the keys for the values of the label map, which differ from the
        # channels where the training files did not count 1, 2, 3.
        "channel_def": {str(value): name for value, name in label_values(info.task).items()},
    }


def _packages(info: ModelInfo) -> dict[str, str]:
    names = (*_PACKAGES, _CLEANUP_PACKAGE) if info.cleanup else _PACKAGES
    return {name: _KNOWN_VERSIONS.get(name) or version(name) for name in names}


def _readme(info: ModelInfo, limits: tuple[str, ...]) -> str:
    packages = " ".join(_packages(info))
    files = (
        "one NIfTI file per case"
        if len(info.task.channels) == 1
        else "per case a 4-D NIfTI file, or files case_0000.nii.gz, case_0001.nii.gz, ... with "
        "one channel each"
    )
    values = "\n".join(f"- {value}: {name}" for value, name in label_values(info.task).items())
    return f"""# {info.dataset_name}: {NAME_PART}

Written by Voxline {info.voxline_version}; needs MONAI and a few packages, not Voxline.

    pip install monai=={version("monai")} {packages}
    python -m monai.bundle run --config_file configs/inference.json \\
        --meta_file configs/metadata.json --dataset_dir IMAGES --output_dir PREDICTIONS

Run it in this folder; IMAGES holds {files}. Channels in order: \
{", ".join(channel.name for channel in info.task.channels)}.

For MONAI Label, put this folder into the `model` folder of its `monaibundle` app; keep
"{NAME_PART}" in its name. A bundle is code that MONAI runs: load only bundles you trust.

## Values in the label maps

{values}

## Steps

{chr(10).join(f"{n}. {step}" for n, step in enumerate(steps_of(info), start=1))}

## Differences from Voxline

{chr(10).join(f"- {limit}" for limit in limits)}
"""


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=2) + "\n")
