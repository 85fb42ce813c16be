"""From a prepared image to a label map on the source grid: shared by validation and inference."""

import logging
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt

from pipeline.core.geometry import Shape3
from pipeline.models.decode import Grid, ProbabilitySink, decode_planes
from pipeline.models.device import is_out_of_memory
from pipeline.models.memory import Decision, choose_path, estimate_memory, free_memory
from pipeline.models.predictor import FlipTally, Predictor
from pipeline.models.window import iterate_planes, n_windows
from pipeline.transforms.body import Box, body_box, whole_box

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segmentation:
    """What a model says of one image.

    Args:
        labels: Class indices on the source grid, RAS.
        flip_disagreement: 1 minus the Dice between the answers to mirrored and plain windows; None
            without mirroring or without foreground.
        computed_on: "cpu", "cuda", "cuda+cpu" or "openvino", and why where it was not the first
            choice.
    """

    labels: UInt[np.ndarray, "i j k"]
    flip_disagreement: float | None
    computed_on: str


def segment_prepared(
    predictor: Predictor,
    image: Float[np.ndarray, "channel i j k"],
    source_shape: Shape3,
    *,
    sink: ProbabilitySink | None = None,
) -> Segmentation:
    """Predict the class of every voxel of the source grid.

    Where it is computed follows from an estimate of the memory needed. Should memory run out on a
    GPU all the same, the next path is taken: sums on the CPU, then everything on the CPU.

    Args:
        predictor: From `make_predictor` or `ensemble_predictor`.
        image: Prepared image (normalized, at target spacing, RAS).
        source_shape: Shape of the RAS source grid to restore.
        sink: Gets the probabilities plane by plane; after a fall-back it starts again at plane 0.

    Returns:
        Class indices, and how they came about.

    Raises:
        DataError: If the case cannot fit into the memory of this machine.
    """
    shape = image.shape[1], image.shape[2], image.shape[3]
    grid = Grid(shape, _visited(predictor, image), source_shape)
    i, j, k = (part.stop - part.start for part in grid.box)
    estimate = estimate_memory(predictor, shape, source_shape, visited=(i, j, k))
    free = free_memory(predictor.device)
    decision = choose_path(estimate, free, predictor.device, n_held_bytes=estimate.image)
    while True:
        try:
            return _segment_on(decision, predictor, image, grid, sink)
        except (RuntimeError, MemoryError) as error:
            if decision.path == "cpu" or not is_out_of_memory(error):
                raise
        # Outside of the handler: the frames of the failed try, and what they hold, are gone.
        decision = decision.after_out_of_memory()
        logger.warning("%s: going on with %s", decision.reason, decision.path)
        torch.cuda.empty_cache()


def _segment_on(
    decision: Decision,
    predictor: Predictor,
    image: Float[np.ndarray, "channel i j k"],
    grid: Grid,
    sink: ProbabilitySink | None,
) -> Segmentation:
    cpu = torch.device("cpu")
    if decision.path == "cpu" and predictor.device != cpu:
        moved = predictor.on(cpu)
        try:
            return _segment_on(decision, moved, image, grid, sink)
        finally:
            # The networks are the same ones: the next case finds them where they were.
            predictor.on(predictor.device)
    storage = predictor.device if decision.path == "cuda" else cpu
    part = np.ascontiguousarray(image[(slice(None), *grid.box)], dtype=np.float32)
    tally = FlipTally() if predictor.mirror_axes else None
    planes = iterate_planes(
        partial(predictor, tally=tally), torch.from_numpy(part).to(storage), predictor.windows
    )
    decoding = predictor.decoding.on(storage)
    labels = decode_planes(planes, decoding, grid, sink)
    disagreement = tally.disagreement if tally is not None else None
    return Segmentation(labels, disagreement, _computed_on(decision, predictor))


def _computed_on(decision: Decision, predictor: Predictor) -> str:
    backend = predictor.options.backend
    where = decision.path if backend == "torch" else backend
    return f"{where} ({decision.reason})" if decision.reason else where


def _visited(predictor: Predictor, image: Float[np.ndarray, "channel i j k"]) -> Box:
    """The box of the patient, but only where it saves windows: every crop moves them."""
    shape = image.shape[1], image.shape[2], image.shape[3]
    if predictor.options.crop == "off":
        return whole_box(shape)
    body = body_box(image, predictor.plan.preprocessing)
    window = predictor.plan.patch_size
    box = [_at_least(*one) for one in zip(body, window, shape, strict=True)]
    inside = [part.stop - part.start for part in box]
    saves = n_windows((inside[0], inside[1], inside[2]), predictor.windows) < n_windows(
        shape, predictor.windows
    )
    return (box[0], box[1], box[2]) if saves else whole_box(shape)


def _at_least(part: slice, window: int, n_voxels: int) -> slice:
    """Widen a range to a window: real voxels are better than padding."""
    missing = max(0, min(window, n_voxels) - (part.stop - part.start))
    start = min(max(0, part.start - missing // 2), n_voxels - (part.stop - part.start) - missing)
    return slice(start, start + (part.stop - part.start) + missing)
