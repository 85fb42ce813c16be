from dataclasses import replace

import numpy as np
import pytest
from audit_builders import TASK, label_of, task_of, view

from pipeline.audit.checks import encoding
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, foreground_values

CONFIG = AuditConfig()
CHECKS = (
    encoding.check_declared_values,
    encoding.check_binary_coding,
    encoding.check_integers,
    encoding.check_class_presence,
    encoding.check_image_like,
    encoding.check_empty,
    encoding.check_foreground_share,
)
ONE = task_of("organ")


def run(label, task=None, config=CONFIG):
    case = view(label) if task is None else view(label, task=task)
    return [f for check in CHECKS for f in check(case, config)]


def ids(label, task=None, config=CONFIG):
    return [(f.check_id, f.severity) for f in run(label, task, config)]


def binary(off, on):
    return np.where(label_of() > 0, on, off).astype(np.int16)


def test_a_good_label_is_silent():
    assert ids(label_of()) == []
    assert ids(label_of().astype(np.float64) + 1e-6) == []


def test_few_stray_voxels_are_listed_with_their_place():
    label = label_of()
    label[9, 11, 13] = 77
    (finding,) = run(label)
    assert finding.check_id == "E01"
    assert "(9, 11, 13)" in finding.message
    assert finding.evidence["voxel_ras"] == (9, 11, 13)


def test_many_stray_values_are_cut_short():
    label = label_of()
    label[9, :, 0] = np.arange(50, 62)
    (finding,) = run(label)
    assert "and 4 more" in finding.message


@pytest.mark.parametrize("coding", [(0, 255), (0, 128), (0, 254), (1, 2), (-1, 255)])
def test_binary_codings_are_named_alone(coding):
    found = run(binary(*coding), ONE)
    assert found[0].check_id == "E02"
    assert "E01" not in [f.check_id for f in found]
    assert str(coding[1]) in found[0].message


def test_the_remap_is_suggested():
    (finding,) = run(binary(0, 255), ONE)
    assert "write 255 as 1" in finding.fix
    assert "{organ: 255}" in finding.fix


def test_a_declared_255_and_a_case_with_one_of_two_classes_are_fine():
    declared = ONE.model_copy(
        update={"classes": (ONE.classes[0].model_copy(update={"source_values": (255,)}),)}
    )
    assert ids(binary(0, 255), declared) == []
    assert ids(binary(0, 2)) == [("E05", "info")]


def test_a_single_slip_is_no_coding():
    label = np.zeros((10, 12, 14), np.uint8)
    label[3, 3, 3] = 9
    assert ("E01", "error") in ids(label)
    assert "E02" not in [i for i, _ in ids(label)]


@pytest.mark.parametrize(
    ("noise", "fires"), [(1e-6, False), (9e-4, False), (2e-3, True), (0.4, True)]
)
def test_fractions(noise, fires):
    label = label_of().astype(np.float64)
    label[label == 1] += noise
    assert ids(label) == ([("E03", "error")] if fires else [])


def test_small_fractions_can_be_rounded():
    label = label_of().astype(np.float32)
    label[label == 1] += np.float32(0.0039)
    assert "round" in run(label)[0].fix
    label[label == 2] += np.float32(0.4)
    assert "nearest-neighbor" in run(label)[0].fix


def test_required_classes_are_errors():
    label = np.where(label_of() == 2, 0, label_of())
    config = AuditConfig(required_classes=("tumor",))
    (finding,) = run(label, config=config)
    assert (finding.check_id, finding.severity, finding.class_name) == ("E05", "error", "tumor")
    assert ids(np.zeros_like(label), config=config) == [("E08", "error")]


def test_an_empty_label_is_one_warning():
    assert ids(np.zeros((10, 12, 14), np.uint8)) == [("E08", "warning")]


@pytest.mark.parametrize(
    "label",
    [
        np.arange(10 * 12 * 14).reshape(10, 12, 14),
        np.arange(10 * 12 * 14).reshape(10, 12, 14) % 40 - 20,
    ],
    ids=["many values", "negative values"],
)
def test_an_image_in_place_of_a_label_is_said_once(label):
    assert ids(label) == [("E07", "error")]


def test_minus_one_beside_few_values_is_an_undeclared_value():
    label = label_of().astype(np.int16)
    label[0, :, 0] = -1
    label[1, :, 0] = 3
    (finding,) = run(label)
    assert (finding.check_id, finding.value) == ("E01", "-1, 3")


@pytest.mark.parametrize(
    ("n_values", "slope", "noise", "fires"),
    [(12, 1, 0.2, True), (12, -1, 0.2, True), (12, 1, 30.0, False), (8, 1, 0.2, False)],
)
def test_a_label_that_follows_its_image(n_values, slope, noise, fires):
    rng = np.random.default_rng(0)
    label = rng.integers(0, n_values, (10, 12, 14)).astype(np.uint8)
    image = (slope * label.astype(np.float32) + rng.normal(0, noise, label.shape)).astype(
        np.float32
    )
    case = view(label, image[None], task=task_of(*(f"c{n}" for n in range(n_values - 1))))
    found = [(f.check_id, f.severity) for check in CHECKS for f in check(case, CONFIG)]
    assert (("E07", "error") in found) is fires
    other = view(label, image[None, :-1])
    assert "E07" not in [f.check_id for f in encoding.check_image_like(other, CONFIG)]


def test_an_image_that_is_said_to_be_one_is_not_also_undeclared():
    label = np.random.default_rng(0).integers(0, 12, (10, 12, 14)).astype(np.uint8)
    case = view(label, label[None].astype(np.float32))
    assert [f.check_id for check in CHECKS for f in check(case, CONFIG)] == ["E07"]


@pytest.mark.parametrize(("share", "fires"), [(0.94, False), (0.96, True)])
def test_inverted_masks(share, fires):
    label = np.zeros((10, 10, 10), np.uint8)
    label.reshape(-1)[: round(share * label.size)] = 1
    assert (("E09", "error") in ids(label, ONE)) is fires


def test_without_a_label_nothing_is_said():
    case = CaseView(view(label_of()).record, ONE)
    assert [f for check in CHECKS for f in check(case, CONFIG)] == []
    assert foreground_values(ONE) == (1,)


def test_a_class_declared_as_not_annotated_is_not_missed_but_must_not_be_there():
    label = label_of()
    label[label == 2] = 0
    declared = {"unannotated": ("tumor",)}
    silent, drawn = view(label), view(label_of())
    assert [f.check_id for f in encoding.check_class_presence(silent, CONFIG)] == ["E05"]
    silent = replace(silent, record=silent.record.model_copy(update=declared))
    assert encoding.check_class_presence(silent, AuditConfig(required_classes=("tumor",))) == []
    drawn = replace(drawn, record=drawn.record.model_copy(update=declared))
    (finding,) = encoding.check_class_presence(drawn, CONFIG)
    assert (finding.check_id, finding.severity, finding.class_name) == ("E05", "warning", "tumor")


def test_values_to_be_ignored_are_neither_unknown_nor_a_class():
    label = label_of()
    label[0] = 255
    assert [f.check_id for f in run(label)] == ["E01"]
    assert run(label, TASK.model_copy(update={"ignore_values": (255,)})) == []
