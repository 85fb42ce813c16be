"""Batches of augmented patches. The batch of a step is a pure function of the seed and the step."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer, Real
from torch import Tensor

from pipeline.artifacts import GrowthStage, Plan
from pipeline.core.errors import DataError
from pipeline.core.geometry import Shape3
from pipeline.core.seeds import generator_for
from pipeline.models.memory import free_memory
from pipeline.train.config import TrainConfig
from pipeline.train.growth import field_of_view
from pipeline.train.prepare import PreparedCase
from pipeline.train.ranks import Ranks
from pipeline.train.schedule import epoch_steps
from pipeline.transforms.intensity import (
    IntensityChange,
    change_intensities,
    draw_intensity_change,
)
from pipeline.transforms.patch_reader import read_patch, read_patches
from pipeline.transforms.pose import PatchFrame, PatchPose, draw_pose, slice_axis_of

logger = logging.getLogger(__name__)

# Share of free memory that resident cases may take; the rest is for the network and the system.
RESIDENT_FRACTION = 0.35


@dataclass(frozen=True)
class Batch:
    """One optimization step's input.

    Args:
        image: Patches, float32.
        label: Class index per voxel, int64 as losses want it.
        case_ids: Where each patch comes from, those of other processes included.
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
        fits_gpu = device.type == "cuda" and _fits(cases, free_memory(device).vram or 0)
        home = device if fits_gpu else torch.device("cpu")
        # What goes to a GPU passes through RAM case by case.
        in_memory = home.type == "cuda" or _fits(cases, free_memory(home).ram)
        self._cases = [_to_tensors(case, home, in_memory=in_memory) for case in cases]
        self._plan, self._config, self._device = plan, config, device
        # Of the planned batch, for good: the length of a training must not change on its way.
        self._steps_per_epoch = epoch_steps(len(cases), plan.batch_size)
        # Likewise: smaller patches on the way may have other proportions.
        self._slice_axis = slice_axis_of(plan.patch_size, config.augmentation)
        self._is_partial = any(case.unannotated for case in cases)
        self._order: tuple[int, Integer[np.ndarray, n]] = (-1, np.zeros(0, dtype=np.int64))
        # Set where several processes train together; each then reads its share of a batch.
        self.ranks: Ranks | None = None
        # A CPU that draws the next batch does not compute the present step meanwhile.
        self.draws_ahead = device.type == "cuda"
        self._ahead: tuple[int, GrowthStage | None, Batch] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every case has given about one patch."""
        return self._steps_per_epoch

    def resize(self, batch_size: int, patch_size: Shape3) -> None:
        """Draw smaller batches from here on, because memory ran out.

        Args:
            batch_size: Patches per step.
            patch_size: Largest patch; stages of growth stay below it too.
        """
        self._plan = self._plan.model_copy(
            update={"batch_size": batch_size, "patch_size": patch_size}
        )
        self._ahead = None

    def draw_ahead(self, step: int, stage: GrowthStage | None = None) -> None:
        """Draw the batch that is likely to be asked for next, while a GPU is busy.

        Args:
            step: Number of the step.
            stage: As for `batch`.
        """
        if not self.draws_ahead:
            return
        try:
            self._ahead = (step, stage, self._drawn(step, stage))
        except Exception as error:  # noqa: BLE001  # it comes again, in its place, when the batch is asked for
            logger.debug("batch %d was not drawn ahead: %s", step, error)

    def batch(self, step: int, stage: GrowthStage | None = None) -> Batch:
        """The batch of one step.

        Args:
            step: Number of the optimization step, from 0.
            stage: Patches to read, where they grow; None reads those of the plan.

        Returns:
            Patches on the device.
        """
        if self.ranks is not None:
            self.ranks.tell("batch", step, stage)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (step, stage):
            return ahead[2]
        return self._drawn(step, stage)

    def _drawn(self, step: int, stage: GrowthStage | None) -> Batch:
        """The batch of one step, or the share of this process."""
        size = self._plan.batch_size
        positions = range(size) if self.ranks is None else self.ranks.share_of(size)
        stage = _at_most(self._plan.patch_size, stage)
        sources, poses, changes = [], [], []
        for position in positions:
            sample = step * size + position
            source = self._cases[self._case_index(sample)]
            rng = generator_for(self._config.seed, "patch", step, position)
            on_foreground = _is_on_foreground(sample, self._config.foreground_fraction)
            pose, change = self._draw(source, stage, rng, on_foreground=on_foreground)
            sources.append(source)
            poses.append(pose)
            changes.append(change)
        image, label = _read(sources, poses, stage.patch_size, self._device)
        image = change_intensities(image.to(self._device), changes)
        label = _as_indices(label.to(self._device))
        drawn = [source.case for source in sources]
        return Batch(
            image,
            label,
            # Of the whole batch: a loss that is not finite may come from another process's share.
            tuple(self._case_of(step * size + position).case_id for position in range(size)),
            _annotations(drawn) if self._is_partial else None,
        )

    def _case_of(self, sample: int) -> PreparedCase:
        return self._cases[self._case_index(sample)].case

    def _case_index(self, sample: int) -> int:
        """Every case once per epoch, in an order that depends on the seed and the epoch."""
        epoch, position = divmod(sample, len(self._cases))
        if self._order[0] != epoch:
            rng = generator_for(self._config.seed, "order", epoch)
            self._order = (epoch, rng.permutation(len(self._cases)))
        return int(self._order[1][position])

    def _draw(
        self,
        source: _TensorCase,
        stage: GrowthStage,
        rng: np.random.Generator,
        *,
        on_foreground: bool,
    ) -> tuple[PatchPose, IntensityChange]:
        shape = (int(source.label.shape[0]), int(source.label.shape[1]), int(source.label.shape[2]))
        seen = field_of_view(stage)
        center = _free_center(source.case, shape, seen, rng)
        if on_foreground:
            center = _foreground_center(source.case, shape, seen, rng, center)
        config = self._config.augmentation
        i, j, k = (one / stage.zoom for one in source.case.spacing_mm)
        frame = PatchFrame(stage.patch_size, (i, j, k), self._plan.mirror_axes, self._slice_axis)
        pose = draw_pose(center, frame, config, rng)
        if stage.zoom < 1:
            pose = replace(pose, matrix=pose.matrix / stage.zoom)
        return pose, draw_intensity_change(config, rng, slice_axis=self._slice_axis)


def _read(
    sources: Sequence[_TensorCase],
    poses: Sequence[PatchPose],
    patch_size: Shape3,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """For a GPU all at once, there; on a CPU one after another, which is faster there."""
    if device.type == "cuda":
        volumes = [(one.image, one.label) for one in sources]
        return read_patches(volumes, poses, patch_size, device)
    pairs = [
        read_patch(source.image, source.label, pose, patch_size)
        for source, pose in zip(sources, poses, strict=True)
    ]
    return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])


def _at_most(largest: Shape3, stage: GrowthStage | None) -> GrowthStage:
    """A stage of growth, held below the size that memory has left."""
    if stage is None:
        return GrowthStage(until=1.0, patch_size=largest)
    i, j, k = (min(n, most) for n, most in zip(stage.patch_size, largest, strict=True))
    return stage.model_copy(update={"patch_size": (i, j, k)})


def _is_on_foreground(sample: int, fraction: float) -> bool:
    """Spread the share evenly over the samples: rounded per batch, 1 of 2 would stand for a third.

    Args:
        sample: Number of the patch since training began.
        fraction: Share of patches to be centred on a labelled voxel.
    """
    return math.floor((sample + 1) * fraction + 1e-9) > math.floor(sample * fraction + 1e-9)


def _as_indices(label: Real[Tensor, "batch i j k"]) -> Int64[Tensor, "batch i j k"]:
    """Class indices as losses want them; a fraction must not be cut off unseen."""
    if label.is_floating_point():
        raise DataError(
            "P01 the label that reaches the loss is not made of integers: a transform has "
            "interpolated or rescaled it",
            where="pipeline/transforms/patch_reader.py, read_patch",
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


def _fits(cases: Sequence[PreparedCase], n_free_bytes: int) -> bool:
    return _n_bytes(cases) < RESIDENT_FRACTION * n_free_bytes


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
