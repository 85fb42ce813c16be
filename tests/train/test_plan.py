"""Planning rules, on fingerprints with known answers."""

import numpy as np
import pytest
import torch
from fingerprints import make_row, make_task
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import ConfigError
from pipeline.models.networks import build_network
from pipeline.train.config import NetworkConfig, OptimizerConfig, TrainConfig
from pipeline.train.plan import _topology, make_plan


def test_hippocampus_sized_cases_get_the_known_plan():
    rows = [make_row(shape=(36, 50, 35))] * 100
    config = TrainConfig(budget_minutes=5)
    plan = make_plan(rows, make_task("Anterior", "Posterior"), config, "cpu")
    assert plan.preprocessing.spacing_mm == (1.0, 1.0, 1.0)
    assert plan.patch_size == (40, 56, 40)
    assert plan.batch_size == 2
    assert plan.network.features == (8, 16, 32, 64)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert len(plan.reasons) >= 6


def test_a_far_coarser_axis_takes_its_tenth_percentile():
    spacings = [(1.0, 1.0, z) for z in np.linspace(4, 8, 21)]
    rows = [make_row(shape=(256, 256, 30), spacing_mm=s) for s in spacings]
    plan = make_plan(rows, make_task("x"), TrainConfig(), "cuda")
    assert plan.preprocessing.spacing_mm == pytest.approx((1.0, 1.0, 4.4), abs=1e-3)
    # The coarse axis is not convolved over, nor halved, until the others have caught up.
    assert plan.network.kernels[0] == (3, 3, 1)
    assert plan.network.strides[1] == (2, 2, 1)


def test_ct_is_clipped_to_the_pooled_foreground():
    rows = [
        make_row(values=np.linspace(0, 100, 5001)),
        make_row(values=np.linspace(100, 200, 5001)),
    ]
    plan = make_plan(rows, make_task("x", modality="ct"), TrainConfig(), "cpu")
    ct = plan.preprocessing.normalizations[0]
    pooled = np.linspace(0, 200, 10001)
    assert ct.kind == "ct"
    assert ct.lower == pytest.approx(np.quantile(pooled, 0.005), abs=0.5)
    assert ct.upper == pytest.approx(np.quantile(pooled, 0.995), abs=0.5)
    assert ct.mean == pytest.approx(pooled.mean(), abs=0.1)
    assert ct.std == pytest.approx(pooled.std(), rel=0.01)


def test_skull_stripped_images_are_normalized_inside_the_mask():
    rows = [make_row(nonzero=0.2)] * 3
    plan = make_plan(rows, make_task("x"), TrainConfig(), "cpu")
    assert plan.preprocessing.normalizations[0].kind == "zscore_nonzero"


def test_lateralized_classes_are_not_mirrored():
    rows = [make_row()] * 3
    plan = make_plan(rows, make_task("KidneyLeft", "KidneyRight"), TrainConfig(), "cpu")
    assert plan.mirror_axes == ()


def test_the_user_has_the_last_word_except_for_batch_one_on_a_cpu():
    config = TrainConfig(
        spacing_mm=(2.0, 2.0, 2.0),
        patch_size=(30, 33, 40),
        batch_size=1,
        mirror_axes=(0, 1),
        network=NetworkConfig(base_features=12, max_features=24),
        optimizer=OptimizerConfig(kind="sgd", learning_rate=0.5),
    )
    plan = make_plan([make_row()] * 3, make_task("x"), config, "cpu")
    assert plan.preprocessing.spacing_mm == (2.0, 2.0, 2.0)
    assert plan.patch_size == (32, 40, 40)  # made divisible by the strides
    assert plan.mirror_axes == (0, 1)
    assert plan.learning_rate == 0.5
    assert max(plan.network.features) == 24
    assert plan.batch_size == 2
    assert any("batch 2 instead of the configured 1" in reason for reason in plan.reasons)


@given(
    shape=st.tuples(*[st.integers(3, 400)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 8)] * 3),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_every_plan_can_be_built_and_fits(shape, spacing_mm, device):
    rows = [make_row(shape=shape, spacing_mm=spacing_mm)] * 5
    plan = make_plan(rows, make_task("x"), TrainConfig(), device)
    divisor = np.prod(np.array(plan.network.strides), axis=0)
    assert not np.any(np.array(plan.patch_size) % divisor)
    assert np.all(np.array(plan.patch_size) // divisor >= 1)
    assert plan.batch_size >= 2
    # A norm over one voxel has no variance: the bottleneck keeps more than one.
    assert np.prod(np.array(plan.patch_size) // divisor) > 1
    assert len(plan.network.features) == len(plan.network.strides) == len(plan.network.kernels)
    assert len(plan.network.strides) >= 3  # MONAI's DynUNet refuses fewer


@pytest.mark.parametrize("shape", [(3, 3, 3), (6, 9, 7), (12, 12, 12), (64, 64, 5)])
def test_tiny_volumes_get_a_network_that_runs(shape):
    plan = make_plan([make_row(shape=shape)] * 3, make_task("x"), TrainConfig(), "cpu")
    network = build_network(plan.network)
    assert network(torch.zeros(2, 1, *plan.patch_size)).shape == (2, 2, *plan.patch_size)


@pytest.mark.parametrize("spacing", [0.01, 1.0, 5.0])
def test_the_voxel_budget_holds_at_any_spacing(spacing):
    rows = [make_row(shape=(400, 400, 400), spacing_mm=(spacing,) * 3)] * 3
    plan = make_plan(rows, make_task("x"), TrainConfig(), "cpu")
    # Rounding up to the strides may add a little.
    assert np.prod(plan.patch_size) < 1.3 * 96_000


def test_mirroring_needs_a_gpu_and_classes_without_sides():
    rows = [make_row()] * 3
    assert make_plan(rows, make_task("liver"), TrainConfig(), "cuda").mirror_axes == (0,)
    assert make_plan(rows, make_task("liver"), TrainConfig(), "cpu").mirror_axes == ()
    assert make_plan(rows, make_task("left"), TrainConfig(), "cuda").mirror_axes == ()


def test_class_weights_follow_the_order_of_the_task_and_refuse_unknown_names():
    rows, task = [make_row()], make_task("liver", "tumor")
    config = TrainConfig.model_validate({"loss": {"class_weights": {"tumor": 3.0}}})
    plan = make_plan(rows, task, config, "cpu")
    assert plan.class_weights == (1.0, 1.0, 3.0)
    assert any("tumor 3" in reason for reason in plan.reasons)
    assert make_plan(rows, task, TrainConfig(), "cpu").class_weights is None
    wrong = TrainConfig.model_validate({"loss": {"class_weights": {"tumour": 3.0}}})
    with pytest.raises(ConfigError, match="no class 'tumour'") as raised:
        make_plan(rows, task, wrong, "cpu")
    assert "tumor" in raised.value.fix


def test_class_weights_without_a_term_per_voxel_are_refused():
    with pytest.raises(ValidationError, match="has neither"):
        TrainConfig.model_validate({"loss": {"kind": "dice", "class_weights": {"a": 2.0}}})


def test_a_term_per_voxel_without_weight_is_none():
    loss = TrainConfig.model_validate({"loss": {"kind": "dice_ce", "ce_weight": 0.0}}).loss
    # Nothing but Dice would then teach what background is.
    assert loss.has_background_dice
    for wrong in (
        {"kind": "ce", "ce_weight": 0.0},
        {"kind": "dice_focal", "ce_weight": 0.0, "class_weights": {"a": 2.0}},
    ):
        with pytest.raises(ValidationError, match="ce_weight of 0"):
            TrainConfig.model_validate({"loss": wrong})


def planned(device="cpu", n_channels=1, config=None, n_classes=1, **row):
    task = make_task(*[f"x{i}" for i in range(n_classes)], n_channels=n_channels)
    rows = [make_row(**row)] * 20
    rows = [r.model_copy(update={"foreground": r.foreground * n_channels}) for r in rows]
    return make_plan(rows, task, config or TrainConfig(), device)


def reason_with(plan, word):
    return next((reason for reason in plan.reasons if word in reason), "")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("slice_mm", [0.5, 1.0, 8.0])
def test_single_slices_are_convolved_within_whatever_their_thickness(device, slice_mm):
    plan = planned(device, shape=(256, 256, 1), spacing_mm=(1.5, 1.5, slice_mm))
    # Level 0 of a CPU has a small kernel in any case.
    assert set(plan.network.kernels[1:]) == {(3, 3, 1)}
    assert all(stride[2] == 1 for stride in plan.network.strides)
    assert "no kernels across" in reason_with(plan, "anisotropy")
    assert "only within slices across S" in reason_with(plan, "augmentation")


def test_an_axis_that_is_too_short_to_pool_takes_no_kernel_from_the_others():
    """The long axes become coarser than it; they must go on looking at their neighbors."""
    plan = planned("cuda", shape=(12, 200, 200))
    assert plan.network.strides[2:] == ((1, 2, 2),) * 4
    assert set(plan.network.kernels) == {(3, 3, 3)}


@given(
    patch=st.tuples(*[st.integers(1, 300)] * 3).filter(lambda patch: max(patch) > 1),
    spacing_mm=st.tuples(*[st.floats(0.3, 8)] * 3),
    n_levels=st.integers(3, 7),
)
def test_an_axis_that_was_convolved_stays_so(patch, spacing_mm, n_levels):
    topology = _topology(spacing_mm, np.array(patch, dtype=float), n_levels)
    kernels, strides = np.array(topology.kernels), np.array(topology.strides)
    assert (np.diff(kernels, axis=0) >= 0).all()
    assert (kernels == 3).any(axis=1).all()
    assert (kernels[strides == 2] == 3).all()
    assert (kernels[:, np.array(patch) == 1] == 1).all()


def test_a_patch_that_shows_little_says_which_spacing_shows_more():
    assert "up to [2.4, 2.4, 2.4]" in reason_with(
        planned("cuda", shape=(512, 512, 800), spacing_mm=(0.8, 0.8, 0.8)), "a patch shows"
    )
    assert not reason_with(planned("cuda", shape=(130, 130, 130)), "a patch shows")
    # Half the voxels at least, as nnU-Net has it: else the coarse look is hardly another one.
    assert not reason_with(planned("cuda", shape=(240, 240, 155)), "a patch shows")


def test_many_channels_and_many_classes_are_planned_for():
    brain = planned("cuda", n_channels=4, shape=(240, 240, 155))
    assert (brain.network.n_input_channels, len(brain.preprocessing.normalizations)) == (4, 4)
    assert brain.patch_size == (128, 128, 128)
    body = planned("cpu", n_classes=104, shape=(120, 120, 120))
    assert body.network.n_output_channels == 105
    assert "wide enough for 105 outputs" in reason_with(body, "network")


def test_every_choice_has_a_reason_whether_planned_or_configured():
    config = {
        "spacing_mm": [2.0, 2.0, 2.0],
        "normalization": {"c0": "zscore_nonzero"},
        "patch_size": [30, 32, 40],
        "batch_size": 3,
        "mirror_axes": [0],
        "steps": 77,
        "optimizer": {"learning_rate": 0.01},
        "network": {"n_levels": 3, "base_features": 12},
        "augmentation": {"within_slices": True},
    }
    chosen = TrainConfig.model_validate(config, strict=False)
    words = "spacing", "channel", "patch", "batch", "mirroring", "length", "learning rate"
    words = (*words, "network", "augmentation")
    for plan in (planned(), planned(config=chosen)):
        assert all(reason_with(plan, word) for word in words[:-1])
    for word in words:
        assert "configured" in reason_with(plan, word)
    assert plan.preprocessing.normalizations[0].kind == "zscore_nonzero"
    assert plan.network.features == (12, 24, 48)
    assert "30 x 32 x 40 as configured, made divisible by (4, 4, 4)" in reason_with(plan, "patch")
    assert "77 steps" in reason_with(plan, "length")


def test_levels_that_the_patch_does_not_bear_are_named():
    plan = planned(config=TrainConfig(network=NetworkConfig(n_levels=6)), shape=(32, 32, 32))
    assert len(plan.network.strides) == 4
    assert "4 levels instead of the configured 6" in reason_with(plan, "levels")


def test_the_length_is_told_in_steps_or_minutes():
    assert "30 minutes, as nothing is configured" in reason_with(planned(), "length")
    plan = planned(config=TrainConfig(epochs=10.0))
    assert "100 steps, the configured 10 passes over 20 cases" in reason_with(plan, "length")
    plan = planned(config=TrainConfig(budget_minutes=5.0))
    assert "the configured 5 minutes" in reason_with(plan, "length")
