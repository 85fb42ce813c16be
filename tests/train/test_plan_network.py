"""The network of a plan fits its kind, its device and its patch."""

import numpy as np
import pytest
from fingerprints import make_row, make_task
from pydantic import ValidationError

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
        ({**BY_NAME, "args": {"channels": [4, 8], "strides": [2, 2]}}, None, 32),
    ],
)
def test_patches_are_divisible_for_every_kind(network, patch_size, divisor):
    plan = planned(patch_size=patch_size, **network)
    assert np.prod(np.array(plan.network.strides), axis=0).tolist() == [divisor] * 3
    assert all(n % divisor == 0 for n in plan.patch_size)


def test_a_network_by_name_gets_the_patch_that_is_configured_for_it():
    args = {"channels": [4, 8], "strides": [2]}
    plan = planned(patch_size=(20, 24, 20), **BY_NAME, args=args)
    assert plan.patch_size == (20, 24, 20)
    assert "as configured" in reason_with(plan, "patch 20 x 24 x 20")


@pytest.mark.parametrize("kind", ["dynunet", "unet"])
def test_channels_per_level_are_those_configured(kind):
    plan = planned(kind=kind, features=(6, 12, 16, 16))
    assert plan.network.features == (6, 12, 16, 16)
    assert "6-12-16-16 channels (as configured)" in reason_with(plan, "network:")


def test_a_number_of_channels_per_level_that_does_not_fit_the_plan_is_refused():
    with pytest.raises(ConfigError, match="3 numbers, but the planned network has 4 levels") as no:
        planned(features=(8, 16, 32))
    assert no.value.where == "train.network.features"
    assert no.value.fix.startswith("give 4 numbers, or set train.network.n_levels")
    assert planned(features=(8, 16, 32), n_levels=3).network.features == (8, 16, 32)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"features": (8, 16), "base_features": 8}, "not both"),
        ({"features": (8, 16), "max_features": 8}, "not both"),
        ({"base_features": 16, "max_features": 8}, "base_features 16 is above max_features 8"),
    ],
)
def test_widths_that_contradict_each_other_are_refused(widths, message):
    with pytest.raises(ValidationError, match=message):
        NetworkConfig(**widths)


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ({"args": {"filters": [4, 8, 8, 8]}}, "features"),
        ({"args": {"strides": [1, 2, 2, 2]}}, "n_levels"),
        ({"args": {"upsample_kernel_size": [2, 2, 2]}}, "n_levels"),
        ({"args": {"res_block": True}}, "residual"),
        ({"args": {"deep_supervision": True}}, "deep_supervision"),
        ({"kind": "unet", "args": {"channels": [4, 8, 8, 8]}}, "features"),
        ({"kind": "unet", "args": {"strides": [2, 2, 2]}}, "n_levels"),
        ({"kind": "segresnet", "args": {"init_filters": 8}}, "base_features"),
        ({"kind": "segresnet", "args": {"dsdepth": 2}}, "deep_supervision"),
        ({"kind": "segresnet", "args": {"blocks_down": [1, 1]}}, "n_levels"),
        ({"kind": "mednext", "args": {"init_filters": 8}}, "base_features"),
        ({"kind": "mednext", "args": {"blocks_up": [1, 1, 1, 1]}}, "n_levels"),
        ({"kind": "swinunetr", "args": {"feature_size": 24}}, "base_features"),
    ],
)
def test_arguments_that_would_contradict_the_plan_are_refused_with_the_key_that_decides(
    network, key
):
    """The card, the growth of patches and the estimate of memory read the plan."""
    name = next(iter(network["args"]))
    with pytest.raises(ConfigError) as error:
        planned(**network)
    assert error.value.where == f"train.network.args.{name}"
    assert f"train.network.{key}" in error.value.fix


def test_kernels_given_as_an_argument_are_not_said_to_be_planned():
    kernels = {"kernel_size": [1, 3, 3, 3]}
    plan = planned(args=kernels)
    assert not any("first block" in reason for reason in plan.reasons)
    assert "kernel_size as configured" in reason_with(plan, "network:")
    with pytest.raises(ConfigError, match="contradict each other"):
        planned(args=kernels, stem_kernel=3)


@pytest.mark.slow
def test_swinunetr_gets_patches_it_can_normalize():
    pytest.importorskip("einops")
    plan = planned(kind="swinunetr", patch_size=(16, 16, 16))
    assert plan.patch_size == (32, 32, 64)
    assert plan.network.features == (12, 12, 24, 48, 96, 192)
    assert len(plan.network.features) == len(plan.network.strides)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dynunet", "kernels of 1 and no pooling along an axis"),
        ("unet", "coarsest along S: no pooling along an axis"),
        ("segresnet", "segresnet are the same along all axes"),
    ],
)
def test_what_is_said_of_thick_slices_is_true_of_the_kind(kind, said):
    rows = [make_row(shape=(64, 64, 24), spacing_mm=(1.0, 1.0, 4.0))] * 3
    config = TrainConfig(network=NetworkConfig(kind=kind))
    plan = make_plan(rows, make_task("x", "y"), config, "cpu")
    assert said in reason_with(plan, "anisotropy 4.0")
    assert (plan.network.strides[1] == (2, 2, 1)) is (kind != "segresnet")


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
        ({"kind": "segresnet", "features": (8, 16, 32, 64)}, "features"),
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
