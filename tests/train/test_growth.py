"""Patches grow to the planned size through sizes that the network bears."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from workfolders import audited, quick

from pipeline.artifacts import GrowthStage
from pipeline.core.errors import ConfigError
from pipeline.train.data import BatchSource
from pipeline.train.growth import (
    divisor_of,
    field_of_view,
    mean_cost,
    plan_growth,
    stage_at,
    with_growth,
)
from pipeline.train.prepare import prepare_cases
from pipeline.train.select import select_training

CPU = torch.device("cpu")
MULTIPLES = st.tuples(*[st.integers(1, 9)] * 3)
DIVISORS = st.tuples(*[st.sampled_from([1, 2, 4, 8, 16])] * 3)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("growth"))


@pytest.mark.parametrize("growth", ["patch", "resize"])
@given(divisor=DIVISORS, multiples=MULTIPLES, n_stages=st.integers(2, 16))
def test_every_size_fits_the_network_and_the_last_is_the_planned_one(
    growth, divisor, multiples, n_stages
):
    patch = tuple(d * m for d, m in zip(divisor, multiples, strict=True))
    stages = plan_growth(divisor, patch, growth, n_stages)
    if not stages:
        assert all(m <= 2 for m in multiples) or growth == "resize"
        return
    sizes = np.array([s.patch_size for s in stages])
    assert 2 <= len(stages) <= n_stages
    assert tuple(sizes[-1]) == patch
    assert stages[-1].zoom == 1
    assert (sizes % divisor == 0).all()
    assert (np.diff(sizes, axis=0) >= 0).all()
    assert (np.diff(sizes.prod(axis=1)) > 0).all()
    assert (sizes[0] >= np.minimum(patch, 2 * np.array(divisor))).all()


@given(n_stages=st.integers(2, 16))
def test_the_last_stage_has_half_and_the_others_share_the_rest(n_stages):
    stages = plan_growth((2, 2, 2), (64, 64, 64), "patch", n_stages)
    ends = [0.0, *(s.until for s in stages)]
    shares = np.diff(ends)
    assert ends[-1] == 1
    assert shares[-1] == pytest.approx(0.5)
    assert np.allclose(shares[:-1], shares[0])


def test_patches_grow_axis_by_axis_and_keep_their_zoom():
    stages = plan_growth((8, 8, 4), (32, 24, 8), "patch", 4)
    assert [s.patch_size for s in stages] == [(16, 16, 8), (24, 16, 8), (24, 24, 8), (32, 24, 8)]
    assert {s.zoom for s in stages} == {1.0}


def test_resizing_keeps_the_field_of_view():
    stages = plan_growth((4, 4, 4), (64, 64, 64), "resize", 3)
    assert [s.patch_size for s in stages] == [(32, 32, 32), (48, 48, 48), (64, 64, 64)]
    assert {field_of_view(s) for s in stages} == {(64, 64, 64)}


def test_a_patch_that_cannot_be_smaller_does_not_grow(workspace):
    plan = select_training(quick(), workspace).plan
    smallest = tuple(2 * d for d in divisor_of(plan))
    plan = with_growth(plan.model_copy(update={"patch_size": smallest}), quick(growth="patch"))
    assert plan.growth == ()
    assert plan.reasons[-1].startswith("growth (patch): none")


def test_the_stage_of_a_step_and_its_cost(workspace):
    plan = select_training(quick(), workspace).plan
    assert stage_at(plan.growth, 0.3) is None
    assert mean_cost(plan, 0.0, 0.5) == 1
    small = GrowthStage(until=0.5, patch_size=(8, 16, 16))
    full = GrowthStage(until=1.0, patch_size=plan.patch_size)
    plan = plan.model_copy(update={"growth": (small, full)})
    found = [stage_at(plan.growth, p) for p in (0.0, 0.49, 0.5, 1.0)]
    assert found == [small, small, full, full]
    share = 8 * 16 * 16 / np.prod(plan.patch_size)
    assert mean_cost(plan, 0.0, 0.5) == pytest.approx(share)
    assert mean_cost(plan, 0.25, 0.75) == pytest.approx((share + 1) / 2)
    assert mean_cost(plan, 0.5, 1.0) == pytest.approx(1)


def test_a_network_by_name_does_not_tell_which_sizes_it_bears(workspace):
    plan = select_training(quick(), workspace).plan
    network = plan.network.model_copy(update={"kind": "monai", "name": "UNETR"})
    with pytest.raises(ConfigError, match="UNETR"):
        with_growth(plan.model_copy(update={"network": network}), quick(growth="patch"))


def test_swinunetr_halves_five_times(workspace):
    plan = select_training(quick(), workspace).plan
    network = plan.network.model_copy(update={"kind": "swinunetr"})
    assert divisor_of(plan.model_copy(update={"network": network})) == (32, 32, 32)


@pytest.mark.parametrize("growth", ["patch", "resize"])
def test_batches_of_a_stage_are_of_its_size_and_always_the_same(workspace, growth):
    # 64 voxels are more than the phantoms have: what lies outside is filled.
    config = quick(growth=growth, patch_size=[64, 64, 64], growth_stages=3)
    training = select_training(config, workspace)
    records, task = training.train_records, training.info.task
    cases = prepare_cases(records, training.plan.preprocessing, task, workspace)
    first, second = (BatchSource(cases, training.plan, config, CPU) for _ in range(2))
    assert len(training.plan.growth) == 3
    for stage in training.plan.growth:
        batch, again = first.batch(5, stage), second.batch(5, stage)
        assert batch.image.shape == (training.plan.batch_size, 1, *stage.patch_size)
        assert torch.equal(batch.image, again.image)
        assert torch.equal(batch.label, again.label)
        assert batch.case_ids == first.batch(5).case_ids
        second.batch(2, stage)


def test_resizing_shows_the_same_anatomy_more_coarsely(workspace):
    config = quick(
        growth="resize",
        patch_size=[32, 32, 32],
        growth_stages=2,
        augmentation={"affine_probability": 0, "mirror_probability": 0},
        foreground_fraction=1,
    )
    training = select_training(config, workspace)
    records, task = training.train_records, training.info.task
    cases = prepare_cases(records, training.plan.preprocessing, task, workspace)
    source = BatchSource(cases, training.plan, config, CPU)
    coarse, fine = (source.batch(0, stage) for stage in training.plan.growth)
    share = [(b.label > 0).float().mean().item() for b in (coarse, fine)]
    assert coarse.label.numel() < fine.label.numel()
    assert share[0] == pytest.approx(share[1], rel=0.2)
