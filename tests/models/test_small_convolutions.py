"""Gradients of convolutions over few voxels are right, whatever torch makes of them."""

import pytest
import torch
from network_builders import small_network
from torch import nn

from pipeline.models.networks import build_network
from pipeline.models.small_convolutions import exact_small_convolutions

CPU = torch.device("cpu")
CONVOLUTIONS = {
    "3": (lambda: nn.Conv3d(8, 8, 3, padding=1), (2, 8, 8)),
    "3 depthwise": (lambda: nn.Conv3d(8, 8, 3, padding=1, groups=8), (2, 2, 2)),
    "flat": (lambda: nn.Conv3d(16, 16, (3, 3, 1), padding=(1, 1, 0)), (2, 2, 4)),
    "5": (lambda: nn.Conv3d(8, 8, 5, padding=2), (4, 6, 8)),
    "7 strided": (lambda: nn.Conv3d(8, 8, 7, 2, padding=3, groups=8), (4, 4, 8)),
    "7 transposed": (lambda: nn.ConvTranspose3d(16, 16, 7, 2, padding=3, groups=16), (4, 4, 8)),
}


def fill_memory() -> None:
    """Leave large numbers in the memory that the next tensors get."""
    for _ in range(2):
        blocks = [torch.full((200 * n,), 1e10) for n in range(1, 100)]
        del blocks


def gradients(make, shape, *, dtype, is_guarded=True):
    torch.manual_seed(0)
    layer = make().to(memory_format=torch.channels_last_3d)
    image = torch.randn((2, layer.in_channels, *shape))
    image = image.contiguous(memory_format=torch.channels_last_3d)
    if not is_guarded:
        layer, image = layer.double(), image.double()
    fill_memory()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        if is_guarded:
            with exact_small_convolutions(CPU):
                answer = layer(image)
        else:
            answer = layer(image)
    fill_memory()
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(answer.shape, generator=generator)
    (answer * weights.contiguous(memory_format=torch.channels_last_3d)).sum().backward()
    return answer.dtype, [p.grad.float() for p in layer.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_weights_of_convolutions_over_few_voxels_get_their_gradient(name, dtype):
    make, shape = CONVOLUTIONS[name]
    found_dtype, found = gradients(make, shape, dtype=dtype)
    _, expected = gradients(make, shape, dtype=torch.float64, is_guarded=False)
    assert found_dtype is torch.float32
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_larger_convolutions_keep_the_format_of_mixed_precision():
    layer, image = nn.Conv3d(2, 2, 3, padding=1), torch.zeros((2, 2, 4, 4, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16), exact_small_convolutions(CPU):
        assert layer(image).dtype is torch.bfloat16
        assert layer(image[..., :2]).dtype is torch.float32
        assert nn.Conv3d(2, 2, 1)(image[..., :1]).dtype is torch.bfloat16


def test_a_gpu_is_left_alone():
    layer, image = nn.Conv3d(2, 2, 3, padding=1), torch.zeros((2, 2, 2, 2, 2))
    device = torch.device("cuda")
    with torch.autocast("cpu", dtype=torch.bfloat16), exact_small_convolutions(device):
        assert layer(image).dtype is torch.bfloat16


def test_a_whole_network_with_two_voxels_at_the_bottom_has_the_gradient_of_float32():
    def gradient(*, is_mixed):
        torch.manual_seed(0)
        network = build_network(small_network()).to(memory_format=torch.channels_last_3d)
        image = torch.randn((2, 1, 16, 16, 16)).contiguous(memory_format=torch.channels_last_3d)
        fill_memory()
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed),
            exact_small_convolutions(CPU),
        ):
            logits = network(image)
        fill_memory()
        logits.float().square().mean().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    exact, mixed = gradient(is_mixed=False), gradient(is_mixed=True)
    # 0.06 is what rounding to bfloat16 makes; without the guard it was 1e8, from leftover memory.
    assert float((mixed - exact).norm()) < 0.15 * float(exact.norm())
