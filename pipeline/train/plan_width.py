"""How wide a network learns most in the time it has.

On a CPU the channels at full resolution decide both what a network can learn and what a step costs.
With few steps the narrow network is ahead, because it takes twice as many; later its accuracy
levels off and the wide one passes it (benchmarks/ladder.md).
"""

from dataclasses import dataclass
from math import prod

from pipeline.core.geometry import Shape3
from pipeline.train import schedule
from pipeline.train.config import TrainConfig

BASE_FEATURES = {"cpu": 8, "cuda": 32}
WIDE_FEATURES = 16
# Measured on Hippocampus: as wide a network is ahead from about here on.
MIN_STEPS_WIDE = 1_500
# A step of it on 2 cores with bfloat16, per voxel of the batch. The same on every machine: a
# training that moves to another one must not be planned anew, and begin again, for its speed.
STEP_S_PER_VOXEL = 1.5e-6


@dataclass(frozen=True)
class StepSize:
    """What a step trains on.

    Args:
        n_cases: Training cases it is drawn from.
        batch_size: Patches.
        patch_size: Voxels.
    """

    n_cases: int
    batch_size: int
    patch_size: Shape3


def planned_base(config: TrainConfig, device: str, size: StepSize) -> int:
    """Channels at full resolution, where nothing is configured.

    Args:
        config: Length of the training.
        device: "cpu" or "cuda".
        size: Of a step.

    Returns:
        On a CPU the wide network if it gets the steps it needs, else the narrow one.
    """
    if device != "cpu":
        return BASE_FEATURES[device]
    n_steps = schedule.fixed_steps(config, schedule.epoch_steps(size.n_cases, size.batch_size))
    if n_steps is None:
        step_s = STEP_S_PER_VOXEL * size.batch_size * prod(size.patch_size)
        n_steps = int(schedule.budget_seconds(config) / step_s)
    return WIDE_FEATURES if n_steps >= MIN_STEPS_WIDE else BASE_FEATURES[device]
