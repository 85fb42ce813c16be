"""Numbers of the patches that reach the loss, drawn from the batches of the training itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from pipeline.train.data import Batch, BatchSource
from pipeline.train.prepare import PreparedCase

# Enough cases to meet a systematic fault, enough patches to tell a share of 20 % from none.
N_CASES = 8
N_PATCHES = 32


@dataclass(frozen=True)
class PatchFacts:
    """One patch in numbers.

    Args:
        case_id: Where it comes from.
        label_values: Distinct values of the label, rounded down.
        is_integral: Whether the label holds integers only.
        is_finite: Whether every image voxel is finite.
        means: Mean per channel, voxels that are not finite counted as 0.
        stds: SD per channel, likewise.
    """

    case_id: str
    label_values: tuple[int, ...]
    is_integral: bool
    is_finite: bool
    means: tuple[float, ...]
    stds: tuple[float, ...]


@dataclass(frozen=True)
class PatchSample:
    """What the preflight looks at.

    Args:
        first: The first batch of the training, as a whole.
        patches: Every patch of the sample in numbers.
    """

    first: Batch
    patches: tuple[PatchFacts, ...]


def draw_sample(source: BatchSource) -> PatchSample:
    """Look at the first batches of a training; drawing them changes nothing for the training.

    Args:
        source: The batches of the training.

    Returns:
        At least N_PATCHES patches, or one epoch if that shows more cases.
    """
    first = source.batch(0)
    facts = list(describe_patches(first.image, first.label, first.case_ids))
    for step in _more_steps(first, source):
        batch = source.batch(step)
        facts += describe_patches(batch.image, batch.label, batch.case_ids)
    return PatchSample(first, tuple(facts))


def spread_cases(cases: Sequence[PreparedCase]) -> list[PreparedCase]:
    """A few cases, evenly spread over all.

    Args:
        cases: All cases of a training.

    Returns:
        At most N_CASES of them, in their order.
    """
    places = np.unique(np.linspace(0, len(cases) - 1, min(N_CASES, len(cases))).round().astype(int))
    return [cases[int(place)] for place in places]


def _more_steps(first: Batch, source: BatchSource) -> Iterator[int]:
    n_wanted = max(N_PATCHES, N_CASES)
    n_steps = -(-n_wanted // len(first.case_ids))
    # A set smaller than the sample would only be seen again and again.
    yield from range(1, min(n_steps, max(4 * source.steps_per_epoch, 2)))


def describe_patches(
    image: Float[Tensor, "batch channel i j k"],
    label: Real[Tensor, "batch i j k"],
    case_ids: Sequence[str],
) -> tuple[PatchFacts, ...]:
    """Reduce the patches of a batch to numbers.

    Args:
        image: Patches.
        label: Their labels; any number type, so that faults can be told.
        case_ids: Where they come from.

    Returns:
        One entry per patch.
    """
    return tuple(
        _describe(image[n].float(), label[n], case_id) for n, case_id in enumerate(case_ids)
    )


def _describe(
    image: Float[Tensor, "channel i j k"], label: Real[Tensor, "i j k"], case_id: str
) -> PatchFacts:
    finite = torch.isfinite(image)
    flat = torch.where(finite, image, image.new_zeros(())).flatten(1)
    values = torch.unique(label.floor() if label.is_floating_point() else label)
    is_integral = not label.is_floating_point() or bool((label == label.round()).all())
    return PatchFacts(
        case_id=case_id,
        label_values=tuple(int(v) for v in values.tolist()),
        is_integral=is_integral,
        is_finite=bool(finite.all()),
        means=tuple(float(m) for m in flat.mean(1).tolist()),
        stds=tuple(float(s) for s in flat.std(1, correction=0).tolist()),
    )
