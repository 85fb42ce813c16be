"""Displacement fields: bounded, smooth, in mm, and never folding tissue over."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.elastic import ElasticField, displacements, draw_elastic

CPU = torch.device("cpu")


def test_off_by_default_and_folding_magnitudes_are_refused():
    assert AugmentationConfig().elastic_probability == 0
    with pytest.raises(ValidationError, match="could fold tissue over"):
        AugmentationConfig(elastic_scale_mm=10, elastic_magnitude_mm=4)


def test_a_field_of_equal_nodes_is_a_shift_and_a_ramp_stays_a_ramp():
    step, size = (4.0, 2.5, 7.3), (20, 18, 16)
    nodes = [int((n - 1) // one) + 4 for n, one in zip(size, step, strict=True)]
    shift = np.ones((3, *nodes)) * np.array([1.0, -2.0, 0.5])[:, None, None, None]
    moved = displacements(ElasticField(shift, step), size, CPU)
    assert torch.allclose(moved, torch.tensor([1.0, -2.0, 0.5]).expand(*size, 3), atol=1e-5)
    # Cubic B-splines reproduce straight lines: node n lies at (n - 1) steps.
    ramp = np.zeros((3, *nodes))
    ramp[1] = ((np.arange(nodes[1]) - 1) * step[1])[None, :, None]
    moved = displacements(ElasticField(ramp, step), size, CPU)
    expected = torch.arange(18.0)[None, :, None].expand(*size)
    assert torch.allclose(moved[..., 1], expected, atol=1e-4)
    assert not moved[..., 0].any()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0)])
def test_the_strongest_field_stays_in_bounds_and_keeps_every_voxel_right_way_out(spacing_mm):
    config = AugmentationConfig(elastic_scale_mm=16, elastic_magnitude_mm=6.3)
    size = (40, 40, 24)
    for seed in range(5):
        field = draw_elastic(size, spacing_mm, config, np.random.default_rng(seed))
        # As strong as the configuration allows: every node at its limit.
        limit = 6.3 / np.array(spacing_mm)[:, None, None, None]
        field = ElasticField(np.sign(field.controls) * limit, field.step_voxels)
        moved = displacements(field, size, CPU).double().numpy()
        assert (np.abs(moved) <= field.reach_voxels + 1e-5).all()
        slopes = np.stack([np.stack(np.gradient(moved[..., c]), -1) for c in range(3)], -2)
        assert (np.linalg.det(slopes + np.eye(3)) > 0).all()


def test_displacements_are_as_large_in_mm_along_thick_slices():
    config = AugmentationConfig()
    spread = []
    for seed in range(40):
        field = draw_elastic((48, 48, 16), (1.0, 1.0, 3.0), config, np.random.default_rng(seed))
        moved = displacements(field, (48, 48, 16), CPU)
        spread.append((moved * torch.tensor([1.0, 1.0, 3.0])).std(dim=(0, 1, 2)))
    mean = torch.stack(spread).mean(dim=0)
    assert mean[2] == pytest.approx(float(mean[0]), rel=0.2)


def test_a_patch_of_one_slice_has_a_field():
    field = draw_elastic((8, 8, 1), (1.0, 1.0, 5.0), AugmentationConfig(), np.random.default_rng(0))
    assert displacements(field, (8, 8, 1), CPU).shape == (8, 8, 1, 3)
