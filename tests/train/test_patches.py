"""Patches in numbers, drawn without disturbing the training."""

import numpy as np
import pytest
import torch
from workfolders import audited, quick

from pipeline.train.data import BatchSource
from pipeline.train.patches import N_PATCHES, describe_patches, draw_sample
from pipeline.train.prepare import prepare_cases
from pipeline.train.select import select_training


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> BatchSource:
    workspace = audited(tmp_path_factory.mktemp("patches"), n_cases=12)
    training = select_training(quick(fold="all"), workspace)
    preprocessing, task = training.plan.preprocessing, training.info.task
    cases = prepare_cases(training.train_records, preprocessing, task, workspace)
    return BatchSource(cases, training.plan, training.config, torch.device("cpu"))


def test_a_sample_shows_every_case_of_a_small_set_and_changes_no_batch(source):
    before = source.batch(3)
    sample = draw_sample(source)
    assert len(sample.patches) == N_PATCHES
    assert len({patch.case_id for patch in sample.patches}) == 12
    after = source.batch(3)
    assert torch.equal(before.image, after.image)
    assert torch.equal(before.label, after.label)
    assert torch.equal(sample.first.image, source.batch(0).image)
    assert all(patch.is_integral and patch.is_finite for patch in sample.patches)


def test_patches_are_described_one_by_one():
    image = torch.zeros((2, 1, 2, 2, 2))
    image[1, 0, 0] = 2.0
    image[1, 0, 0, 0, 0] = float("nan")
    label = torch.zeros((2, 2, 2, 2), dtype=torch.int64)
    label[1, 0, 0, 0] = 3
    flat, other = describe_patches(image, label, ("a", "b"))
    assert (flat.case_id, flat.label_values, flat.is_finite) == ("a", (0,), True)
    assert flat.stds == (0.0,)
    assert (other.case_id, other.label_values, other.is_finite) == ("b", (0, 3), False)
    assert other.stds[0] == pytest.approx(np.std([0, 2, 2, 2, 0, 0, 0, 0]))


def test_values_between_integers_are_told_from_integers_kept_as_floats():
    image, label = torch.zeros((2, 1, 2, 2, 2)), torch.zeros((2, 2, 2, 2))
    label[0], label[1, 0, 0, 0] = 1.0, 0.5
    whole, between = describe_patches(image, label, ("a", "b"))
    assert whole.is_integral
    assert whole.label_values == (1,)
    assert not between.is_integral
