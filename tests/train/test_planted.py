"""Faults planted in the real path from prepared case to loss: the preflight names each of them."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from workfolders import audited, quick

from pipeline.core.errors import DataError
from pipeline.core.workspace import Workspace
from pipeline.models.losses import LossParts, SegmentationLoss
from pipeline.train import data, preflight, prepare, selftest
from pipeline.train.data import Batch, BatchSource
from pipeline.train.select import Training, select_training
from pipeline.train.stage import check_only
from pipeline.transforms.pose import PatchPose


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("planted"), n_cases=5)


@pytest.fixture(scope="module")
def training(workspace) -> Training:
    # Long enough for every class to be seen often: no warning then hides a fault.
    return select_training(quick(steps=1000), workspace)


def named(training, workspace, severity="error") -> set[str]:
    found = check_only(training, workspace).findings
    return {f.check_id for f in found if f.severity == severity}


def change_batches(monkeypatch, change) -> None:
    drawn = BatchSource.batch
    monkeypatch.setattr(BatchSource, "batch", lambda self, step: change(drawn(self, step)))


def change_patches(monkeypatch, change) -> None:
    """Put a faulty reader of patches in the place of the sound one."""
    read = data.read_patch

    def faulty(image, label, pose, patch_size):
        return change(read, image, label, pose, patch_size)

    monkeypatch.setattr(data, "read_patch", faulty)


def test_a_sound_path_is_clean(training, workspace):
    assert check_only(training, workspace).verdict == "clean"


def bilinear_label(pose, label, patch_size):
    """The label as `read_patch` would read it with the interpolation of the image."""
    image = label[None].float()
    patch, _ = sound_read(image, label, pose, patch_size)
    return patch[0]


sound_read = data.read_patch


def test_a_label_left_as_float_is_refused_before_it_is_cut_off(training, workspace, monkeypatch):
    def change(read, image, label, pose, patch_size):
        patch, _ = read(image, label, pose, patch_size)
        return patch, bilinear_label(pose, label, patch_size)

    change_patches(monkeypatch, change)
    with pytest.raises(DataError, match="P01 the label that reaches the loss") as raised:
        check_only(training, workspace)
    assert "nearest neighbor" in raised.value.fix


def test_a_bilinear_label_that_is_rounded_to_classes_is_named(training, workspace, monkeypatch):
    def change(read, image, label, pose, patch_size):
        patch, _ = read(image, label, pose, patch_size)
        return patch, bilinear_label(pose, label, patch_size).round().to(torch.uint8)

    change_patches(monkeypatch, change)
    assert named(training, workspace) == {"P01"}


def test_a_label_that_is_not_mirrored_with_its_image_is_named(training, workspace, monkeypatch):
    def change(read, image, label, pose, patch_size):
        patch, _ = read(image, label, pose, patch_size)
        still = PatchPose(pose.center, np.abs(pose.matrix) if pose.is_plain else pose.matrix)
        return patch, read(image, label, still, patch_size)[1]

    change_patches(monkeypatch, change)
    assert named(training, workspace) == {"P02"}


def test_a_rescaled_label_is_named(training, workspace, monkeypatch):
    def change(batch):
        return Batch(batch.image, 255 * (batch.label > 0), batch.case_ids)

    change_batches(monkeypatch, change)
    assert "P01" in named(training, workspace)


def test_a_wrong_class_map_is_named_by_what_it_does_to_volumes(
    training, tmp_path, workspace, monkeypatch
):
    # Its own folder: prepared cases are kept.
    own = Workspace(tmp_path / "work")
    own.root.mkdir()
    for name in ("ingest", "audit"):
        (own.root / name).symlink_to(workspace.root / name)
    mapped = prepare.map_label_values

    def merged(label, task):
        indices = mapped(label, task)
        ijk = np.indices(indices.shape).sum(0)
        return np.where((indices == 2) & (ijk % 8 > 0), 1, indices).astype(indices.dtype)

    monkeypatch.setattr(prepare, "map_label_values", merged)
    # The organs of a phantom are small.
    monkeypatch.setattr(preflight, "MIN_COMPARED_VOXELS", 50)
    found = [f for f in check_only(training, own).findings if f.severity == "error"]
    assert [(f.check_id, f.class_name) for f in found] == [("P01", "liver")]
    assert "times the volume" in found[0].message


def test_a_patch_of_another_shape_than_planned_is_named(training, workspace, monkeypatch):
    def change(batch):
        return Batch(batch.image[..., :8], batch.label[..., :8], batch.case_ids)

    change_batches(monkeypatch, change)
    assert "P02" in named(training, workspace)


def test_raw_intensities_are_named(training, workspace, monkeypatch):
    def change(batch):
        return Batch(1000 * batch.image - 500, batch.label, batch.case_ids)

    change_batches(monkeypatch, change)
    assert "P05" in named(training, workspace)


def test_one_voxel_of_nan_is_named(training, workspace, monkeypatch):
    def change(batch):
        batch.image[0, 0, 0, 0, 0] = float("nan")
        return batch

    change_batches(monkeypatch, change)
    assert named(training, workspace) == {"P05"}


def test_a_loss_on_shifted_classes_is_named(training, workspace, monkeypatch):
    def forward(_self, logits, label) -> LossParts:
        loss = functional.cross_entropy(logits, (label + 1) % logits.shape[1])
        return LossParts(loss, loss, loss)

    monkeypatch.setattr(SegmentationLoss, "forward", forward)
    assert named(training, workspace) == {"P04"}


def test_a_metric_that_reads_another_grid_is_named(training, workspace, monkeypatch):
    score = selftest.score_label_maps

    def mirrored(case_id, *, prediction, **given):
        return score(case_id, prediction=prediction[::-1], **given)

    monkeypatch.setattr(selftest, "score_label_maps", mirrored)
    assert named(training, workspace) == {"P04"}
