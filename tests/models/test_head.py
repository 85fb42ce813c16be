"""The last layer may be applied after blending and interpolating."""

import pytest
import torch
from models_builders import model_info
from network_builders import small_network

from pipeline.models.head import split_head
from pipeline.models.networks import build_network


def network_with(n_classes, kind="dynunet"):
    torch.manual_seed(0)
    info = model_info(source_values=tuple((value,) for value in range(1, n_classes)))
    return build_network(info.plan.network.model_copy(update={"kind": kind})).eval()


def test_body_and_head_are_the_network():
    network = network_with(9)
    body, head = split_head(network)
    windows = torch.randn((2, 1, 16, 16, 16))
    with torch.inference_mode():
        whole, channels = network(windows), body(windows)
    assert channels.shape[1] == 4
    logits = head.logits(channels.movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(logits, whole.movedim(1, -1).reshape(-1, 9), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["residual", "dynunet_deep"])
def test_the_head_of_every_dynunet_comes_off(name):
    torch.manual_seed(0)
    network = build_network(small_network(name, n_output_channels=9)).eval()
    body, head = split_head(network)
    windows = torch.randn((1, 1, 16, 16, 16))
    with torch.inference_mode():
        whole, channels = network(windows), body(windows)
    logits = head.logits(channels.movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(logits, whole.movedim(1, -1).reshape(-1, 9), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n_classes", "kind"), [(3, "dynunet"), (9, "unet")])
def test_a_head_that_saves_nothing_stays_on(n_classes, kind):
    network = network_with(n_classes, kind)
    body, head = split_head(network)
    assert body is network
    assert head is None


def test_blended_channels_give_the_blended_logits():
    _, head = split_head(network_with(9))
    one, other = torch.randn((2, 50, 4))
    blended = 0.3 * head.logits(one) + 0.7 * head.logits(other)
    torch.testing.assert_close(head.logits(0.3 * one + 0.7 * other), blended, atol=1e-5, rtol=1e-5)
