"""Validation is done on the source grid, against the labels as they were read."""

import numpy as np
import pytest
import torch
from torch import nn
from workfolders import audited, quick

from pipeline.metrics.scores import score_label_maps
from pipeline.train.prepare import prepare_cases
from pipeline.train.select import select_training
from pipeline.train.validate import ValidationCase, Validator, pooled_dice, predicted_shares

CPU = torch.device("cpu")


def scores(prediction, reference, case_id="a"):
    return score_label_maps(
        case_id,
        prediction=np.array(prediction, dtype=np.uint8).reshape(1, 1, -1),
        reference=np.array(reference, dtype=np.uint8).reshape(1, 1, -1),
        class_names=("one", "two"),
        spacing_mm=(1.0, 1.0, 1.0),
    )


def test_pooled_dice_adds_voxels_before_dividing():
    # Class one: 2 * 3 / (4 + 4); class two: in no case at all, left out.
    cases = [scores([1, 1, 0, 0], [1, 1, 1, 0]), scores([1, 1, 0], [1, 0, 0], "b")]
    assert pooled_dice(cases, ("one", "two")) == pytest.approx(2 * 3 / 8)
    assert pooled_dice([scores([0], [0])], ("one", "two")) == 0.0


class Oracle(nn.Module):
    """Knows the prepared label and answers with it."""

    def __init__(self, label):
        super().__init__()
        self.label = torch.from_numpy(np.array(label)).long()

    def forward(self, image):
        one_hot = nn.functional.one_hot(self.label, 3).movedim(-1, 0).float()
        return one_hot.expand(image.shape[0], *one_hot.shape)


def test_a_perfect_network_scores_one_on_its_own_spacing(tmp_path):
    # One window that is as large as the padded case.
    workspace = audited(tmp_path, n_cases=3, orientations=("LPI",), shape=(16, 16, 16))
    training = select_training(quick(), workspace)
    records = training.validation_records
    prepared = prepare_cases(records, training.plan.preprocessing, training.info.task, workspace)
    validator = Validator(training.plan, training.info.task, workspace.root, 0.5, CPU)
    case = ValidationCase(records[0], prepared[0])
    result = validator.score(Oracle(prepared[0].label), case)
    assert [c.dice.value for c in result.classes] == [1.0, 1.0]
    assert validator.picture(Oracle(prepared[0].label), case).startswith(b"\x89PNG")


def test_pictures_show_the_same_cuts_whatever_is_predicted(tmp_path, monkeypatch):
    workspace = audited(tmp_path, n_cases=3, orientations=("LPI",), shape=(16, 16, 16))
    training = select_training(quick(), workspace)
    records = training.validation_records
    (prepared,) = prepare_cases(records, training.plan.preprocessing, training.info.task, workspace)
    validator = Validator(training.plan, training.info.task, workspace.root, 0.5, CPU)
    case, truth, points = ValidationCase(records[0], prepared), np.array(prepared.label), []
    elsewhere = np.zeros_like(truth)
    elsewhere[0, 0, :] = elsewhere[:, 0, 0] = 2

    def drawn(*_, point, **__):
        points.append(point)
        return b""

    monkeypatch.setattr("pipeline.train.validate.overlay_figure", drawn)
    for answer in (truth, elsewhere, np.zeros_like(truth)):
        validator.picture(Oracle(answer), case)
    assert len(set(points)) == 1


def test_ignored_and_undrawn_parts_of_a_reference_are_not_scored(tmp_path):
    workspace = audited(tmp_path, n_cases=3, orientations=("LPI",), shape=(16, 16, 16))
    training = select_training(quick(), workspace)
    records = training.validation_records
    prepared = prepare_cases(records, training.plan.preprocessing, training.info.task, workspace)
    # The kidney becomes what is to be ignored, and the liver was drawn in other cases only.
    task = training.info.task
    liver, kidney = task.classes
    empty = kidney.model_copy(update={"source_values": (7,)})
    task = task.model_copy(update={"classes": (liver, empty), "ignore_values": (2,)})
    validator = Validator(training.plan, task, workspace.root, 0.5, CPU)
    case = ValidationCase(records[0], prepared[0])
    network = Oracle(prepared[0].label)
    found, missing = validator.score(network, case).classes
    assert (found.dice.value, missing.status) == (1.0, "absent")
    assert validator.picture(network, case).startswith(b"\x89PNG")
    record = records[0].model_copy(update={"unannotated": ("liver",)})
    scored = validator.score(network, ValidationCase(record, prepared[0]))
    assert [s.class_name for s in scored.classes] == ["kidney"]
    assert pooled_dice([scored], task.class_names) == 0.0
    shares = predicted_shares([scored], [ValidationCase(record, prepared[0])], task.class_names)
    assert shares["liver"].predicted == shares["liver"].reference == 0.0
