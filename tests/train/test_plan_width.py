"""Width of the network by the length of the training."""

import pytest

from pipeline.train.config import TrainConfig
from pipeline.train.plan_width import MIN_STEPS_WIDE, StepSize, planned_base

HIPPOCAMPUS = StepSize(n_cases=166, batch_size=2, patch_size=(40, 56, 40))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"budget_minutes": 5}, 8),
        ({"budget_minutes": 15}, 16),
        ({"budget_minutes": 60}, 16),
        ({"steps": MIN_STEPS_WIDE - 1}, 8),
        ({"steps": MIN_STEPS_WIDE}, 16),
        ({"epochs": 10}, 8),
        ({"epochs": 100}, 16),
        # Half an hour, if nothing is configured.
        ({}, 16),
    ],
)
def test_a_long_training_on_a_cpu_gets_the_wide_network(length, expected):
    assert planned_base(TrainConfig(**length), "cpu", HIPPOCAMPUS) == expected


def test_larger_steps_leave_less_of_them_in_the_same_minutes():
    large = StepSize(n_cases=30, batch_size=2, patch_size=(96, 96, 80))
    assert planned_base(TrainConfig(budget_minutes=30), "cpu", large) == 8
    assert planned_base(TrainConfig(budget_minutes=120), "cpu", large) == 16


def test_a_gpu_always_has_the_width_of_nnunet():
    assert planned_base(TrainConfig(budget_minutes=1), "cuda", HIPPOCAMPUS) == 32
