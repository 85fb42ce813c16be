"""Networks are built as planned and keep the size of their input."""

import pytest
import torch

from pipeline.artifacts import NetworkPlan
from pipeline.models.networks import build_network, count_parameters


def network_plan(kind="dynunet", **changes) -> NetworkPlan:
    values = {
        "kind": kind,
        "n_input_channels": 2,
        "n_output_channels": 4,
        "features": (4, 8, 16),
        "kernels": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2)),
    }
    return NetworkPlan(**{**values, **changes})


@pytest.mark.parametrize("kind", ["dynunet", "unet"])
def test_output_has_the_size_of_the_input_and_a_channel_per_class(kind):
    network = build_network(network_plan(kind))
    output = network(torch.zeros(2, 2, 16, 12, 8))
    assert output.shape == (2, 4, 16, 12, 8)
    assert count_parameters(network) > 1000


def test_the_seed_decides_the_weights():
    torch.manual_seed(3)
    one = build_network(network_plan()).state_dict()
    torch.manual_seed(3)
    two = build_network(network_plan()).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_planned_hippocampus_network_has_the_published_size():
    plan = network_plan(
        n_input_channels=1,
        n_output_channels=3,
        features=(8, 16, 32, 64),
        kernels=((3, 3, 3),) * 4,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    )
    assert 0.3e6 < count_parameters(build_network(plan)) < 0.4e6
