"""Batches of augmented patches. The batch of a step is a pure function of the seed and the step."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from jaxtyping import Bool, Float, Int64, Integer, Real
from torch import Tensor

from pipeline.artifacts import Plan
from pipeline.core.errors import DataError
from pipeline.core.geometry import Shape3
from pipeline.core.seeds import generator_for
from pipeline.train.config import TrainConfig
from pipeline.train.prepare import PreparedCase
from pipeline.transforms.augment import augment_intensity, draw_pose, read_patch

# Share of free memory that resident cases may take; the rest is for the network and the system.
RESIDENT_FRACTION = 0.5


@dataclass(frozen=True)
class Batch:
    """One optimization step's input.

    Args:
        image: Patches, float32.
        label: Class index per voxel, int64 as losses want it.
        case_ids: Where each patch comes from.
        is_annotated: Whether each class, background first, was drawn in the case of each patch;
            on the CPU. None if every class was drawn in every case of the training.
    """

    image: Float[Tensor, "batch channel i j k"]
    label: Integer[Tensor, "batch i j k"]
    case_ids: tuple[str, ...]
    is_annotated: Bool[Tensor, "batch class"] | None = None


@dataclass(frozen=True)
class _TensorCase:
    case: PreparedCase
    image: Tensor
    label: Tensor


class BatchSource:
    """Draws batches; asking twice for the same step gives the same batch, in any process.

    Args:
        cases: Prepared training cases.
        plan: Patch and batch size, mirror axes.
        config: Oversampling, augmentation and seed.
        device: Where batches are wanted; small datasets live there as a whole.
    """

    def __init__(
        self, cases: Sequence[PreparedCase], plan: Plan, config: TrainConfig, device: torch.device
    ) -> None:
        home = device if device.type == "cuda" and _fits_gpu(cases, device) else torch.device("cpu")
        in_memory = _n_bytes(cases) < RESIDENT_FRACTION * psutil.virtual_memory().available
        self._cases = [_to_tensors(case, home, in_memory=in_memory) for case in cases]
        self._plan, self._config, self._device = plan, config, device
        self._is_partial = any(case.unannotated for case in cases)
        self._order: tuple[int, Integer[np.ndarray, n]] = (-1, np.zeros(0, dtype=np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every case has given about one patch."""
        return max(1, round(len(self._cases) / self._plan.batch_size))

    def batch(self, step: int) -> Batch:
        """The batch of one step.

        Args:
            step: Number of the optimization step, from 0.

        Returns:
            Patches on the device.
        """
        size = self._plan.batch_size
        patches, labels, drawn = [], [], []
        # The last samples of a batch are the ones centred on foreground, as in nnU-Net.
        n_free = round(size * (1 - self._config.foreground_fraction))
        for position in range(size):
            source = self._cases[self._case_index(step * size + position)]
            rng = generator_for(self._config.seed, "patch", step, position)
            image, label = self._patch(source, rng, on_foreground=position >= n_free)
            patches.append(image)
            labels.append(label)
            drawn.append(source.case)
        image, label = torch.stack(patches), torch.stack(labels)
        label = _as_indices(label.to(self._device))
        return Batch(
            image.to(self._device),
            label,
            tuple(case.case_id for case in drawn),
            _annotations(drawn) if self._is_partial else None,
        )

    def _case_index(self, sample: int) -> int:
        """Every case once per epoch, in an order that depends on the seed and the epoch."""
        epoch, position = divmod(sample, len(self._cases))
        if self._order[0] != epoch:
            rng = generator_for(self._config.seed, "order", epoch)
            self._order = (epoch, rng.permutation(len(self._cases)))
        return int(self._order[1][position])

    def _patch(
        self, source: _TensorCase, rng: np.random.Generator, *, on_foreground: bool
    ) -> tuple[Tensor, Tensor]:
        shape = (int(source.label.shape[0]), int(source.label.shape[1]), int(source.label.shape[2]))
        center = _free_center(source.case, shape, self._plan.patch_size, rng)
        if on_foreground:
            center = _foreground_center(source.case, shape, self._plan.patch_size, rng, center)
        config = self._config.augmentation
        pose = draw_pose(center, source.case.spacing_mm, self._plan.mirror_axes, config, rng)
        image, label = read_patch(source.image, source.label, pose, self._plan.patch_size)
        return augment_intensity(image, config, rng), label


def _as_indices(label: Real[Tensor, "batch i j k"]) -> Int64[Tensor, "batch i j k"]:
    """Class indices as losses want them; a fraction must not be cut off unseen."""
    if label.is_floating_point():
        raise DataError(
            "P01 the label that reaches the loss is not made of integers: a transform has "
            "interpolated or rescaled it",
            where="pipeline/transforms/augment.py, read_patch",
            fix="labels must be resampled with nearest neighbor and never be normalized; "
            "please report it, this is a defect of Voxline",
        )
    return label.long()


def _annotations(cases: Sequence[PreparedCase]) -> Bool[Tensor, "batch class"]:
    is_annotated = torch.ones((len(cases), len(cases[0].coordinates) + 1), dtype=torch.bool)
    for row, case in enumerate(cases):
        is_annotated[row, list(case.unannotated)] = False
    return is_annotated


def _to_tensors(case: PreparedCase, home: torch.device, *, in_memory: bool) -> _TensorCase:
    if in_memory:
        return _TensorCase(
            case,
            torch.from_numpy(np.array(case.image)).to(home),
            torch.from_numpy(np.array(case.label)).to(home),
        )
    with warnings.catch_warnings():
        # The maps are read-only and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return _TensorCase(case, torch.from_numpy(case.image), torch.from_numpy(case.label))


def _n_bytes(cases: Sequence[PreparedCase]) -> int:
    return sum(case.image.nbytes + case.label.nbytes for case in cases)


def _fits_gpu(cases: Sequence[PreparedCase], device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    return _n_bytes(cases) < RESIDENT_FRACTION * free


def _free_center(
    case: PreparedCase, shape: Shape3, patch_size: Shape3, rng: np.random.Generator
) -> Float[np.ndarray, "3"]:
    """Uniform over the positions inside the volume; a short axis is centred.

    Where most voxels are to be ignored, as around scribbles, few such patches would teach
    anything: then uniform over the voxels that count.
    """
    if case.counted is not None and len(case.counted):
        voxel = case.counted[rng.integers(len(case.counted))]
        return _center_near(voxel, shape, patch_size)
    center = np.empty(3)
    for axis, (n, size) in enumerate(zip(shape, patch_size, strict=True)):
        low, high = (size - 1) / 2, n - 1 - (size - 1) / 2
        center[axis] = rng.integers(0, n - size + 1) + low if high > low else (n - 1) / 2
    return center


def _foreground_center(
    case: PreparedCase,
    shape: Shape3,
    patch_size: Shape3,
    rng: np.random.Generator,
    otherwise: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "3"]:
    """A voxel of a class drawn uniformly among those present, moved so the patch stays inside."""
    present = [c for c in case.coordinates if len(c)]
    if not present:
        return otherwise
    chosen = present[rng.integers(len(present))]
    return _center_near(chosen[rng.integers(len(chosen))], shape, patch_size)


def _center_near(
    voxel: Integer[np.ndarray, "3"], shape: Shape3, patch_size: Shape3
) -> Float[np.ndarray, "3"]:
    """Center of a patch on a voxel, moved so that the patch stays inside."""
    center = np.empty(3)
    for axis, (n, size) in enumerate(zip(shape, patch_size, strict=True)):
        low, high = (size - 1) / 2, n - 1 - (size - 1) / 2
        offset = 0.5 if size % 2 == 0 else 0.0
        center[axis] = np.clip(voxel[axis] + offset, low, high) if high > low else (n - 1) / 2
    return center
