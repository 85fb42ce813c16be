"""The network of a plan fits its kind, its device and its patch."""

import numpy as np
import pytest
from fingerprints import make_row, make_task

from pipeline.core.errors import ConfigError
from pipeline.train.config import NetworkConfig, TrainConfig
from pipeline.train.plan import make_plan
from pipeline.train.plan_network import Topology

BY_NAME = {"kind": "monai", "name": "AttentionUnet"}


def planned(device="cpu", shape=(32, 40, 32), patch_size=None, **network):
    config = TrainConfig(network=NetworkConfig(**network), patch_size=patch_size)
    return make_plan([make_row(shape=shape)] * 3, make_task("x", "y"), config, device)


def reason_with(plan, word):
    return next(reason for reason in plan.reasons if word in reason)


@pytest.mark.parametrize(
    ("network", "patch_size", "divisor"),
    [
        ({"kind": "unet"}, None, 8),
        ({"kind": "segresnet"}, None, 8),
        ({"kind": "segresnet"}, (20, 18, 21), 4),
        ({"kind": "mednext"}, None, 8),
        ({**BY_NAME, "args": {"channels": [4, 8], "strides": [2, 2]}}, (20, 20, 20), 32),
    ],
)
def test_patches_are_divisible_for_every_kind(network, patch_size, divisor):
    plan = planned(patch_size=patch_size, **network)
    assert np.prod(np.array(plan.network.strides), axis=0).tolist() == [divisor] * 3
    assert all(n % divisor == 0 for n in plan.patch_size)


@pytest.mark.slow
def test_swinunetr_gets_patches_it_can_normalize():
    pytest.importorskip("einops")
    plan = planned(kind="swinunetr", patch_size=(16, 16, 16))
    assert plan.patch_size == (32, 32, 64)
    assert plan.network.features == (12, 12, 24, 48, 96, 192)
    assert len(plan.network.features) == len(plan.network.strides)


def test_other_kinds_halve_all_axes_of_thick_slices():
    anisotropic = Topology(((3, 3, 1), (3, 3, 3)), ((1, 1, 1), (2, 2, 1)))
    assert anisotropic.of_kind("dynunet") == anisotropic
    assert anisotropic.of_kind("segresnet").strides == ((1, 1, 1), (2, 2, 2))
    assert anisotropic.of_kind("swinunetr").divisor == (32, 32, 32)


@pytest.mark.parametrize(
    ("device", "configured", "kernel"), [("cpu", None, 1), ("cuda", None, 3), ("cpu", 3, 3)]
)
def test_the_first_block_is_small_on_a_cpu(device, configured, kernel):
    plan = planned(device, stem_kernel=configured)
    assert plan.network.kernels[0] == (kernel,) * 3
    assert plan.network.kernels[1] == (3, 3, 3)
    assert f"size {kernel}" in reason_with(plan, "first block")


@pytest.mark.parametrize(
    ("device", "network", "n_deep"),
    [
        ("cpu", {}, 0),
        ("cpu", {"deep_supervision": True}, 2),
        ("cuda", {"deep_supervision": False}, 0),
        ("cuda", {"kind": "unet"}, 0),
        ("cuda", {"kind": "segresnet", "base_features": 8}, 0),
        ("cpu", {"kind": "segresnet", "deep_supervision": True}, 2),
        ("cpu", {"kind": "mednext", "deep_supervision": True}, 3),
    ],
)
def test_coarser_outputs_are_planned_on_a_gpu_and_where_asked_for(device, network, n_deep):
    assert planned(device, **network).network.n_deep_outputs == n_deep


def test_nnunet_on_a_gpu_has_three_coarser_outputs():
    plan = planned("cuda", shape=(96, 96, 96))
    assert plan.network.n_deep_outputs == min(3, len(plan.network.strides) - 2)
    assert "as in nnU-Net" in reason_with(plan, "deep supervision")


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ({"kind": "unet", "deep_supervision": True}, "deep_supervision"),
        ({"kind": "swinunetr", "deep_supervision": True}, "deep_supervision"),
        ({"kind": "unet", "residual": True}, "residual"),
        ({"kind": "mednext", "stem_kernel": 1}, "stem_kernel"),
        ({"kind": "segresnet", "max_features": 64}, "max_features"),
        ({**BY_NAME, "base_features": 8}, "base_features"),
        ({"kind": "swinunetr", "base_features": 16}, "base_features"),
        ({"args": {"deep_supervision": True}}, "deep_supervision"),
        ({"kind": "segresnet", "args": {"dsdepth": 2}}, "dsdepth"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(network, key):
    with pytest.raises(ConfigError) as error:
        planned(**network)
    assert error.value.where.startswith("train.network.")
    assert error.value.where.endswith(key)


def test_missing_and_unknown_arguments_are_refused_when_planning():
    with pytest.raises(ConfigError, match="AttentionUnet needs channels, strides"):
        planned(**BY_NAME)
    with pytest.raises(ConfigError, match="UNet has no argument 'chanels'"):
        planned(kind="unet", args={"chanels": [1]})


def test_a_network_that_wants_the_size_of_the_patch_gets_it():
    args = {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2}
    plan = planned(kind="monai", name="UNETR", args=args, patch_size=(32, 32, 32))
    assert plan.network.args == {**args, "img_size": list(plan.patch_size)}
    assert "UNETR of MONAI" in reason_with(plan, "network:")


def test_arguments_and_residual_blocks_are_named_in_the_reason():
    plan = planned(residual=True, args={"trans_bias": True})
    assert "residual dynunet" in reason_with(plan, "network:")
    assert "trans_bias as configured" in reason_with(plan, "network:")
