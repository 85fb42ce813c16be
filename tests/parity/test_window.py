"""The sliding window against MONAI's, at sizes where both make the same windows."""

import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference

from pipeline.models.window import WindowSettings, gaussian_importance, iterate_planes


def random_network():
    """Two convolutions: what a voxel gets depends on where in the window it lies."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 3, padding=1)
    ).eval()


@pytest.mark.parametrize(
    ("shape", "window", "overlap"),
    [
        ((24, 16, 20), (8, 8, 8), 0.5),
        ((26, 8, 14), (8, 8, 8), 0.25),
        ((16, 24, 8), (8, 8, 8), 0.0),
        ((5, 8, 12), (8, 8, 8), 0.5),  # padded along i
        ((3, 4, 5), (8, 7, 6), 0.5),  # padded along all axes
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_logits_agree_with_monai(shape, window, overlap, batch_size):
    network = random_network()
    image = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1))
    settings = WindowSettings(window, n_outputs=3, overlap=overlap, batch_size=batch_size)
    parts = [planes.clone() for _, planes in iterate_planes(network, image, settings)]
    own = torch.cat(parts, dim=1)
    with torch.inference_mode():
        peer = sliding_window_inference(
            image[None], window, 2, network, overlap=overlap, mode="gaussian", sigma_scale=0.125
        )[0]
    # float32 sums of the same terms in another order.
    torch.testing.assert_close(own, peer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [(8, 8, 8), (5, 40, 13), (1, 2, 3)])
def test_weights_agree_with_monai(window):
    peer = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_importance(window), peer, atol=1e-6, rtol=1e-5)
