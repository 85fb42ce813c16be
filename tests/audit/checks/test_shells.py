import numpy as np
import pytest
from audit_builders import dataset, record, row, task_of
from phantoms import ball, case
from scipy import ndimage

from pipeline.audit.checks import shells
from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.classes import measure_classes
from pipeline.audit.measures import CaseMeasures

CONFIG = AuditConfig()
THREE = task_of("liver", "kidney", "lesion")
SHAPE = (40, 40, 32)
N_CASES = 6


def label_of(seed, n_classes=3):
    return case(seed, SHAPE, (2.0, 2.0, 2.0), n_classes=n_classes)[1]


def cohort(labels, task=THREE):
    """A dataset of these label maps, all their classes measured."""
    rows, records = [], []
    for number, label in enumerate(labels):
        name = f"case_{number:03d}"
        classes = measure_classes(
            label.astype(np.int16),
            len(task.classes),
            np.eye(4),
            image=None,
            body_threshold=None,
            is_ct=False,
        )
        values = tuple(int(v) for v in np.unique(label))
        seen = {"measures": CaseMeasures(classes=classes), "label_values": values}
        rows.append(row(name, (1,)).model_copy(update=seen))
        records.append(record(label, name))
    return dataset(rows, records, task)


def labels_of(n=N_CASES, n_classes=3):
    return [label_of(seed, n_classes) for seed in range(n)]


def interpolated(label, how="shift"):
    soft = label.astype(np.float32)
    if how == "shift":
        soft = ndimage.shift(soft, (0.5, 0.5, 0.5), order=1)
    elif how == "smooth":
        soft = ndimage.gaussian_filter(soft, 0.6)
    else:
        soft = ndimage.rotate(soft, 8, order=1, reshape=False)
    return np.rint(soft).astype(np.uint8)


def run(view):
    found = shells.check_interpolation(view, CONFIG) + shells.check_shells(view, CONFIG)
    return [(f.check_id, f.severity, f.case_id, f.class_name) for f in found]


def test_sound_labels_are_silent():
    assert run(cohort(labels_of())) == []


@pytest.mark.parametrize("how", ["shift", "smooth", "rotate"])
def test_one_interpolated_case_is_named(how):
    labels = labels_of()
    labels[3] = interpolated(labels[3], how)
    (finding,) = shells.check_interpolation(cohort(labels), CONFIG)
    assert (finding.check_id, finding.severity) == ("E04", "error")
    assert finding.case_id == "case_003"
    assert finding.value > finding.threshold
    assert "nearest-neighbor" in finding.fix


def test_nearest_neighbor_leaves_no_shells():
    labels = labels_of()
    labels[3] = ndimage.rotate(labels[3], 8, order=0, reshape=False)
    labels[4] = ndimage.zoom(labels[4], 1.3, order=0)
    assert run(cohort(labels)) == []


def test_structures_that_always_touch_are_no_shells():
    """Layers, as in a brain: 1 around 2 around 3, in every case."""
    labels = []
    for n in range(N_CASES):
        center = (20, 20, 16)
        label = np.zeros(SHAPE, np.uint8)
        for value, radius in ((1, 14 + n % 2), (2, 11), (3, 6)):
            label[ball(SHAPE, center, radius)] = value
        labels.append(label)
    assert run(cohort(labels)) == []


def test_a_case_cut_by_the_edge_of_the_image_is_no_interpolation():
    # Two parts of one structure, one before the other; the crop leaves a rest of the second part.
    whole = np.zeros((24, 40, 24), np.uint8)
    whole[6:18, 6:20, 6:18], whole[6:18, 20:34, 6:18] = 1, 2
    labels = [whole.copy() for _ in range(N_CASES)]
    labels[0] = whole[:, :22]
    assert run(cohort(labels, task_of("head", "tail"))) == []


def test_a_class_missing_elsewhere_is_no_interpolation():
    labels = [np.where(label == 2, 0, label) for label in labels_of()]
    labels[2] = label_of(2)
    assert run(cohort(labels)) == []


def test_a_class_that_is_only_a_shell_is_a_warning():
    """All cases interpolated, so no case stands out; class 1 is nothing but shells of class 2."""
    labels = [np.where(label == 2, 2, 0).astype(np.uint8) for label in labels_of()]
    wrapped = cohort([interpolated(label) for label in labels], task_of("liver", "kidney"))
    assert run(wrapped) == [("E04", "warning", None, "liver")]
    few = cohort([interpolated(labels[0])], task_of("liver", "kidney"))
    assert run(few) == [("E04", "warning", None, "liver")]


def test_a_membrane_with_a_neighboring_number_is_no_shell():
    """Real: 49 is the rim of vertebra 50. Interpolation would leave 1 to 48 as well."""
    task = task_of(*(f"part {n}" for n in range(1, 51)))
    label = np.zeros(SHAPE, np.int16)
    label[ball(SHAPE, (20, 20, 16), 9)] = 49
    label[ball(SHAPE, (20, 20, 16), 8)] = 50
    assert run(cohort([label], task)) == []


def test_thin_structures_between_nothing_are_no_shells():
    """A vessel in the background, a membrane whose value lies above both sides."""
    label = np.zeros(SHAPE, np.uint8)
    label[20, 20, 4:28] = 1
    label[ball(SHAPE, (10, 10, 16), 7)] = 3
    label[ball(SHAPE, (10, 10, 16), 6)] = 2
    assert run(cohort([label])) == []


def test_thin_structures_beside_thin_ones_are_no_shells():
    """At a coarse resolution everything is border; nothing follows from that."""
    label = np.zeros(SHAPE, np.uint8)
    label[18:22, 10:30, 10:20] = 1
    label[19:21, 10:30, 10:20] = 2
    assert run(cohort([label], task_of("liver", "kidney"))) == []


def test_too_few_cases_for_a_cohort():
    labels = labels_of(4)
    labels[3] = interpolated(labels[3])
    assert shells.check_interpolation(cohort(labels), CONFIG) == []
    assert run(dataset([], [], THREE)) == []


def test_a_single_tumor_that_lies_inside_its_organ_is_no_error():
    labels = []
    for number in range(14):
        label = ball(SHAPE, (20, 20, 16), 11).astype(np.uint8)
        label[ball(SHAPE, (24 if number == 5 else 31, 20, 16), 5)] = 2
        labels.append(label)
    assert run(cohort(labels, task_of("kidney", "tumor"))) == [
        ("E04", "warning", "case_005", "tumor")
    ]


@pytest.mark.parametrize("how", ["shift", "smooth"])
def test_interpolation_of_two_classes_is_an_error_by_the_thin_shell(how):
    labels = labels_of(n_classes=2)
    labels[3] = interpolated(labels[3], how)
    found = shells.check_interpolation(cohort(labels, task_of("liver", "kidney")), CONFIG)
    assert [(f.severity, f.case_id) for f in found] == [("error", "case_003")]
