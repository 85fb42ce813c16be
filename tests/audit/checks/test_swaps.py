import numpy as np
import pytest
from audit_builders import dataset, record, row, task_of
from phantoms import case

from pipeline.audit.checks.swaps import check_swapped_classes
from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.classes import measure_classes
from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measures import CaseMeasures

CONFIG = AuditConfig()
SHAPE = (40, 40, 32)
NAMES = ("liver", "kidney", "lesion", "spleen", "pancreas")
N_CASES = 12


def cohort(change, n_cases=N_CASES, n_classes=5, numbers=(7,)):
    """Phantoms whose labels are changed in some cases; classes and images measured."""
    rows, records = [], []
    for number in range(n_cases):
        image, label, _ = case(number, SHAPE, (2.0, 2.0, 2.0), n_classes=n_classes)
        if number in numbers:
            image, label = change(image, label)
        name = f"case_{number:03d}"
        channel = measure_channel(image)
        classes = measure_classes(
            label.astype(np.int16),
            n_classes,
            np.eye(4),
            image=image,
            body_threshold=channel.body_threshold,
            is_ct=False,
        )
        measures = CaseMeasures(classes=classes, channels=(channel,))
        rows.append(row(name, (1,)).model_copy(update={"measures": measures}))
        records.append(record(label, name))
    return dataset(rows, records, task_of(*NAMES[:n_classes]))


def swap(*order):
    """Give class n + 1 the value `order[n]`."""
    return lambda image, label: (image, np.array([0, *order], np.uint8)[label])


def unchanged(image, label):
    return image, label


@pytest.mark.parametrize(
    ("order", "pairs"),
    [
        ((2, 1, 3, 4, 5), {("liver", "kidney"), ("kidney", "liver")}),
        ((1, 2, 3, 5, 4), {("spleen", "pancreas"), ("pancreas", "spleen")}),
        ((2, 3, 1, 4, 5), {("liver", "lesion"), ("kidney", "liver"), ("lesion", "kidney")}),
    ],
)
def test_swapped_values_are_named(order, pairs):
    (finding,) = check_swapped_classes(cohort(swap(*order)), CONFIG)
    assert (finding.check_id, finding.severity) == ("E11", "warning")
    assert finding.case_id == "case_007"
    for own, other in pairs:
        assert f"'{own}' looks like '{other}'" in finding.message
    assert finding.message.count("looks like") == len(pairs)


def test_two_classes_suffice():
    (finding,) = check_swapped_classes(cohort(swap(2, 1), n_classes=2), CONFIG)
    assert finding.case_id == "case_007"


def test_a_structure_under_the_name_of_an_absent_one():
    def rename(image, label):
        return image, np.where(label == 2, 0, np.where(label == 1, 2, label)).astype(np.uint8)

    (finding,) = check_swapped_classes(cohort(rename), CONFIG)
    assert "'kidney' looks like 'liver'" in finding.message
    assert finding.message.count("looks like") == 1


def test_sound_cohorts_are_silent():
    assert check_swapped_classes(cohort(unchanged), CONFIG) == []


def test_few_cases_prove_nothing():
    assert check_swapped_classes(cohort(swap(2, 1, 3, 4, 5), n_cases=9), CONFIG) == []


def test_another_field_of_view_or_contrast_is_no_swap():
    def moved(image, label):
        return np.roll(image, 6, axis=2) * 3 + 50, np.roll(label, 6, axis=2)

    assert check_swapped_classes(cohort(moved), CONFIG) == []


def test_a_strange_patient_is_no_swap():
    def without_liver(image, label):
        return image, np.where(label == 1, 0, label).astype(np.uint8)

    def small(image, label):
        keep = np.zeros(SHAPE, bool)
        keep[:, ::2] = True
        return image, np.where((label == 1) & ~keep, 0, label).astype(np.uint8)

    assert check_swapped_classes(cohort(without_liver), CONFIG) == []
    assert check_swapped_classes(cohort(small), CONFIG) == []


def test_no_labels_at_all():
    def empty(image, label):
        return image, np.zeros_like(label)

    assert check_swapped_classes(cohort(empty, numbers=range(N_CASES)), CONFIG) == []
