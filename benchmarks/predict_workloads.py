"""Images and a quickly trained model for predict.py."""

import json
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import ModelInfo, NetworkPlan, Normalization, Plan, Preprocessing, Task
from pipeline.core.geometry import Shape3
from pipeline.core.task import Channel, LabelClass
from pipeline.models.checkpoint import save_model
from pipeline.models.networks import build_network

# What our planner chooses for the hippocampus on a CPU.
_FEATURES = (8, 16, 32, 64)
Voxels = NDArray[Any]
_N_STRUCTURES = 29
_SHAPES: dict[str, Shape3] = {
    "ct": (320, 320, 300),
    "ct-aligned": (336, 336, 288),
    "ct-small": (160, 160, 150),
    "ct-small-aligned": (144, 144, 144),
}
WORKLOADS = ("hippocampus", *_SHAPES)
_CT = Normalization(kind="ct", lower=-1000, upper=1000, mean=50, std=300)
# 29 structures are not learned in a minute: the phantoms get random weights of a fixed seed, whose
# answers show all of them.
_STEPS = {"hippocampus": 120, "ct": 0}
_TRAIN_SIZE = 32


def prepare(workload: str, folder: Path, dataset: Path, n_cases: int) -> None:
    """Write images/, model.pt, weights.pt and spec.json, which says everything a peer must know.

    Args:
        workload: One of WORKLOADS.
        folder: Where to.
        dataset: Hippocampus in Decathlon layout.
        n_cases: How many of it.
    """
    (folder / "images").mkdir(parents=True)
    torch.manual_seed(0)
    if workload == "hippocampus":
        plan, task = _plan((40, 56, 40), Normalization(kind="zscore"), 1.0, 3), _task("mr", 3)
        pairs = _copy_cases(dataset, folder / "images", n_cases)
        steps = _STEPS["hippocampus"]
    else:
        n_outputs = _N_STRUCTURES + 1
        plan, task = _plan((96, 96, 96), _CT, 1.5, n_outputs), _task("ct", n_outputs)
        image, label = _phantom(_SHAPES[workload])
        affine = np.diag([1.5, 1.5, 1.5, 1.0])
        nifti: Any = nib.Nifti1Image
        nib.save(nifti(image, affine), folder / "images" / "phantom.nii.gz")
        pairs = [((image.clip(-1000, 1000) - 50.0) / 300, label)]
        steps = _STEPS["ct"]
    weights = _train(plan.network, pairs, steps)
    info = ModelInfo(
        task=task,
        plan=plan,
        dataset_name="benchmark",
        dataset_digest="none",
        fold="all",
        voxline_version="benchmark",
    )
    save_model(folder / "model.pt", weights, info)
    torch.save(weights, folder / "weights.pt")
    (folder / "spec.json").write_text(json.dumps(_spec(plan)))


def _task(modality: Literal["ct", "mr"], n_outputs: int) -> Task:
    classes = tuple(
        LabelClass(name=f"structure {i}", index=i, source_values=(i,)) for i in range(1, n_outputs)
    )
    return Task(channels=(Channel(name="image", modality=modality),), classes=classes)


def _plan(window: Shape3, normalization: Normalization, spacing_mm: float, n_outputs: int) -> Plan:
    return Plan(
        preprocessing=Preprocessing(
            spacing_mm=(spacing_mm, spacing_mm, spacing_mm), normalizations=(normalization,)
        ),
        network=NetworkPlan(
            kind="dynunet",
            n_input_channels=1,
            n_output_channels=n_outputs,
            features=_FEATURES,
            kernels=((3, 3, 3),) * len(_FEATURES),
            strides=((1, 1, 1), *((2, 2, 2),) * (len(_FEATURES) - 1)),
        ),
        patch_size=window,
        batch_size=2,
        mirror_axes=(),
        learning_rate=1e-3,
        n_train_cases=1,
        median_shape=window,
        device="cpu",
        reasons=(),
    )


def _spec(plan: Plan) -> dict[str, object]:
    normalization, network = plan.preprocessing.normalizations[0], plan.network
    return {
        "window": plan.patch_size,
        "spacing_mm": plan.preprocessing.spacing_mm,
        "n_classes": network.n_output_channels,
        "normalization": normalization.model_dump(),
        "features": network.features,
        "kernels": network.kernels,
        "strides": network.strides,
    }


def _copy_cases(dataset: Path, folder: Path, n_cases: int) -> list[tuple[Voxels, Voxels]]:
    pairs = []
    for file in sorted((dataset / "imagesTr").glob("*.nii.gz"))[:n_cases]:
        (folder / file.name).write_bytes(file.read_bytes())
        image = _voxels(file).astype(np.float32)
        label = _voxels(dataset / "labelsTr" / file.name).astype(np.uint8)
        pairs.append(((image - image.mean()) / image.std(), label))
    return pairs


def _voxels(file: Path) -> Voxels:
    image: Any = nib.load(file)
    return np.asarray(image.dataobj)


def _phantom(shape: Shape3) -> tuple[Voxels, Voxels]:
    """A body in air with ellipsoids in rows, each of its own density: int16 HU, and their numbers.

    The body takes 90 % of the first axis, 64 % of the second and all of the third, as a trunk does.
    """
    rng = np.random.default_rng(0)
    at = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    is_body = (at[0] / 0.9) ** 2 + (at[1] / 0.64) ** 2 < 1
    label = np.zeros(shape, dtype=np.uint8)
    image = np.where(is_body, np.float32(0), np.float32(-1000))
    for number in range(1, _N_STRUCTURES + 1):
        row, column = divmod(number - 1, 6)
        center = (-0.55 + 0.22 * column, 0.25 * (-1) ** column, -0.8 + 0.4 * row)
        radii = rng.uniform(0.12, 0.22, 3)
        distance = sum(((at[a] - center[a]) / radii[a]) ** 2 for a in range(3))
        inside = (distance < 1) & is_body
        label[inside], image[inside] = number, -700 + 50 * number + 100 * (number > 13)
    image += rng.normal(0, 15, shape).astype(np.float32)
    return image.round().astype(np.int16), label


def _train(
    plan: NetworkPlan, pairs: list[tuple[Voxels, Voxels]], n_steps: int
) -> dict[str, torch.Tensor]:
    """A few steps on small windows: enough that most answers are sure."""
    rng = np.random.default_rng(0)
    network = build_network(plan).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(n_steps):
        drawn = [_window(*pairs[rng.integers(len(pairs))], rng, _TRAIN_SIZE) for _ in range(2)]
        image = torch.from_numpy(np.stack([image for image, _ in drawn]))[:, None]
        label = torch.from_numpy(np.stack([label for _, label in drawn])).long()
        logits = network(image.float())
        loss = torch.nn.functional.cross_entropy(logits, label)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def _window(
    image: Voxels, label: Voxels, rng: np.random.Generator, size: int
) -> tuple[Voxels, Voxels]:
    """A cube around a voxel, half of the time around one that is foreground."""
    inside = label if rng.random() < 0.5 else np.ones_like(label)
    places = np.flatnonzero(inside)
    middle = np.unravel_index(int(rng.choice(places)), label.shape)
    starts = [
        min(max(0, m - size // 2), n - size) for m, n in zip(middle, label.shape, strict=True)
    ]
    part = tuple(slice(int(s), int(s) + size) for s in starts)
    return image[part].astype(np.float32), label[part]
