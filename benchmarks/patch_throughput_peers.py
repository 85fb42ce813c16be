"""Augmented patches of nnU-Net's batchgeneratorsv2, MONAI or TorchIO; runs in their Python.

Started by patch_throughput.py, see there:

    PEERS/bin/python benchmarks/patch_throughput_peers.py {nnunet|monai|torchio} WORK SECONDS SIZES

All cut the same oversized crop that nnU-Net cuts, move it, and keep its middle. nnU-Net runs its
own list of transforms. MONAI and TorchIO have the same chances of a rotation and scaling,
mirroring, noise, blur, low resolution and gamma; TorchIO has neither brightness nor contrast, and
its low resolution acts along one axis.
"""

import importlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Sample = Callable[[int], tuple[Any, Any]]
_DEGREES, _SCALE = 30.0, (0.7, 1.4)


def main() -> None:
    """Print one JSON line."""
    tool, work, seconds, sizes = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make = {"nnunet": _nnunet, "monai": _monai, "torchio": _torchio}[tool]
    results = {}
    for data, size in json.loads(sizes).items():
        cases = []
        for file in sorted(work.glob(f"{data}-*.npz")):
            arrays = np.load(file)
            cases.append((arrays["image"].astype(np.float32)[None], arrays["label"][None]))
        for recipe in ("nnU-Net", "always"):
            sample = make(cases, tuple(size), is_always=recipe == "always")
            results[f"{data} {recipe}"] = _measure(sample, seconds)
    print(json.dumps(results))


def _measure(sample: Sample, seconds: float) -> dict[str, float]:
    for step in range(3):
        sample(step)
    spent, n, sums = 0.0, 0, np.zeros(4)
    while spent < seconds:
        start_s = time.process_time()
        image, label = sample(n)
        spent += time.process_time() - start_s
        label = np.asarray(label)
        sums += float(image.mean()), float(image.std()), (label == 1).mean(), (label == 2).mean()
        n += 1
    mean, std, one, two = (sums / n).tolist()
    return {"per_s": n / spent, "mean": mean, "std": std, "class_1": one, "class_2": two}


def _initial_size(size: tuple[int, ...]) -> tuple[int, ...]:
    module: Any = importlib.import_module(
        "nnunetv2.training.data_augmentation.compute_initial_patch_size"
    )
    limit = (-math.radians(_DEGREES), math.radians(_DEGREES))
    return tuple(int(n) for n in module.get_patch_size(size, limit, limit, limit, (0.85, 1.25)))


def _first_voxel(
    shape: tuple[int, ...], size: tuple[int, ...], large: tuple[int, ...], rng: np.random.Generator
) -> list[int]:
    """Of an oversized crop whose middle is a patch uniformly inside the volume."""
    first = []
    for n, patch, crop in zip(shape, size, large, strict=True):
        start = rng.integers(0, n - patch + 1) if n > patch else (n - patch) // 2
        first.append(int(start) - (crop - patch) // 2)
    return first


def _cropper(cases: list[Any], size: tuple[int, ...]) -> Callable[[int], tuple[Any, Any]]:
    """The crop of nnU-Net's loader."""
    crop_and_pad: Any = importlib.import_module(
        "acvl_utils.cropping_and_padding.bounding_boxes"
    ).crop_and_pad_nd
    large, rng = _initial_size(size), np.random.default_rng(0)

    def crop(step: int) -> tuple[Any, Any]:
        image, label = cases[step % len(cases)]
        first = _first_voxel(image.shape[1:], size, large, rng)
        box = [[a, a + n] for a, n in zip(first, large, strict=True)]
        return (
            torch.from_numpy(crop_and_pad(image, box, 0)),
            torch.from_numpy(crop_and_pad(label, box, 0)),
        )

    return crop


def _nnunet(cases: list[Any], size: tuple[int, ...], *, is_always: bool) -> Sample:
    trainer: Any = importlib.import_module(
        "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
    ).nnUNetTrainer
    limit = (-math.radians(_DEGREES), math.radians(_DEGREES))
    transforms = trainer.get_training_transforms(
        size, limit, None, (0, 1, 2), do_dummy_2d_data_aug=False
    )
    if is_always:
        spatial = transforms.transforms[0]
        spatial.p_rotation = spatial.p_scaling = 1.0
        transforms.transforms = [
            t
            for t in transforms.transforms
            if type(t).__name__ in ("SpatialTransform", "MirrorTransform")
        ]
    crop = _cropper([(image, label.astype(np.int16)) for image, label in cases], size)

    def sample(step: int) -> tuple[Any, Any]:
        image, label = crop(step)
        done = transforms(image=image, segmentation=label)
        return done["image"], done["segmentation"]

    return sample


def _monai(cases: list[Any], size: tuple[int, ...], *, is_always: bool) -> Sample:
    t: Any = importlib.import_module("monai.transforms")
    importlib.import_module("monai.data").set_track_meta(False)
    angle = math.radians(_DEGREES)
    both = ["image", "label"]
    steps = [
        t.RandAffined(
            both,
            prob=1.0 if is_always else 0.36,
            rotate_range=(angle,) * 3,
            # MONAI adds 1, and its factor enlarges the grid, not the anatomy.
            scale_range=((1 / _SCALE[1] - 1, 1 / _SCALE[0] - 1),) * 3,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        t.CenterSpatialCropd(both, size),
        *(t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
    ]
    if not is_always:
        steps += [
            t.RandGaussianNoised("image", prob=0.1, std=0.3),
            t.RandGaussianSmoothd(
                "image", prob=0.1, sigma_x=(0.5, 1), sigma_y=(0.5, 1), sigma_z=(0.5, 1)
            ),
            t.RandScaleIntensityd("image", factors=0.25, prob=0.15),
            t.RandScaleIntensityFixedMeand("image", factors=0.25, prob=0.15),
            t.RandSimulateLowResolutiond("image", prob=0.125, zoom_range=(0.5, 1)),
            t.RandAdjustContrastd(
                "image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True
            ),
            t.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        ]
    transforms = t.Compose(steps).set_random_state(0)
    crop = _cropper(cases, size)

    def sample(step: int) -> tuple[Any, Any]:
        image, label = crop(step)
        done = transforms({"image": image, "label": label})
        return done["image"], done["label"]

    return sample


def _torchio(cases: list[Any], size: tuple[int, ...], *, is_always: bool) -> Sample:
    tio: Any = importlib.import_module("torchio")
    steps = [
        tio.RandomAffine(
            scales=_SCALE,
            degrees=_DEGREES,
            isotropic=True,
            default_pad_value=0,
            p=1.0 if is_always else 0.36,
        ),
        tio.CropOrPad(size),
        tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
    ]
    if not is_always:
        steps += [
            tio.RandomNoise(std=(0, 0.3), p=0.1),
            tio.RandomBlur(std=(0.5, 1.0), p=0.1),
            tio.RandomAnisotropy(downsampling=(1, 2), p=0.125),
            tio.RandomGamma(log_gamma=(math.log(0.7), math.log(1.5)), p=0.37),
        ]
    transforms = tio.Compose(steps)
    crop = _cropper(cases, size)

    def sample(step: int) -> tuple[Any, Any]:
        image, label = crop(step)
        subject = tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))
        done = transforms(subject)
        return done["image"].data, done["label"].data

    return sample


if __name__ == "__main__":
    main()
