"""Coarser outputs come from their own levels, at their own size, and only in training."""

import torch
from network_builders import small_network

from pipeline.models.deep_dynunet import DeepDynUNet
from pipeline.models.networks import network_arguments


def deep_network(n_deep_outputs=2):
    torch.manual_seed(0)
    return DeepDynUNet(network_arguments(small_network()), n_deep_outputs)


def test_outputs_halve():
    outputs = deep_network()(torch.zeros(2, 1, 16, 16, 32))
    assert [tuple(o.shape[2:]) for o in outputs] == [(16, 16, 32), (8, 8, 16), (4, 4, 8)]


def test_each_coarser_output_is_its_head_on_its_level():
    network, seen = deep_network(), []
    for block in network.upsamples:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        outputs = network(torch.randn(2, 1, 16, 16, 16))
        expected = [network.deep_heads[0](seen[-2]), network.deep_heads[1](seen[-3])]
    assert all(torch.equal(one, other) for one, other in zip(outputs[1:], expected, strict=True))


def test_evaluation_does_not_compute_the_heads():
    network = deep_network().eval()
    for head in network.deep_heads:
        head.register_forward_hook(lambda *_: pytest_fail())
    with torch.no_grad():
        assert isinstance(network(torch.zeros(1, 1, 16, 16, 16)), torch.Tensor)


def pytest_fail():
    raise AssertionError("a head was computed")
