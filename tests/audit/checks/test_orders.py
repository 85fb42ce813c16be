import tracemalloc

import numpy as np
import pytest
from audit_builders import dataset, record, row, task_of

from pipeline.audit.checks.orders import find_reversed
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measures import CaseMeasures, ClassMeasures

LIMITS = GridLimits()
SHAPE = (40, 30, 20)
# R, A, S as a fraction of the grid; classes 1 to 4.
PLACES = ((0.2, 0.3, 0.5), (0.8, 0.4, 0.5), (0.5, 0.8, 0.3), (0.35, 0.5, 0.8))


def class_at(index, fraction):
    start = tuple(int(f * n) for f, n in zip(fraction, SHAPE, strict=True))
    return ClassMeasures.model_construct(
        class_index=index,
        n_voxels=8,
        start=start,
        stop=tuple(n + 2 for n in start),
        centroid_fraction=tuple(float(f) for f in fraction),
    )


def cohort(places_of_cases):
    """A dataset of class centers; None where a case lacks the class."""
    rows, records = [], []
    for number, places in enumerate(places_of_cases):
        classes = tuple(class_at(n, p) for n, p in enumerate(places, 1) if p is not None)
        measures = CaseMeasures.model_construct(classes=classes)
        case_id = f"case_{number:03d}"
        rows.append(row(case_id, ()).model_copy(update={"measures": measures}))
        records.append(record(np.zeros(SHAPE, np.uint8), case_id))
    return dataset(rows, records, task_of("a", "b", "c", "d"))


def jittered(n_cases, places=PLACES, size=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return [[tuple(p + rng.uniform(-size, size, 3)) for p in places] for _ in range(n_cases)]


def mirrored(places, axis):
    return [tuple(1 - f if a == axis else f for a, f in enumerate(p)) for p in places]


def find(cases, agreement=0.95):
    return find_reversed(cohort(cases), LIMITS, agreement)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n_cases", [10, 25])
def test_one_mirrored_case_is_found_with_its_axis(axis, n_cases):
    cases = jittered(n_cases)
    assert find(cases) == {}
    cases[3] = mirrored(cases[3], axis)
    ((case_id, [turned]),) = find(cases).items()
    assert (case_id, turned.axis) == ("case_003", axis)
    assert turned.n_reversed == turned.n_pairs >= 3


def test_too_few_cases_show_no_usual_order():
    cases = jittered(9)
    cases[0] = mirrored(cases[0], 0)
    assert find(cases) == {}


@pytest.mark.parametrize(("n_cases", "n_found"), [(15, 0), (20, 1)])
def test_one_pair_needs_more_cases(n_cases, n_found):
    cases = jittered(n_cases, PLACES[:2])
    cases[0] = mirrored(cases[0], 0)
    assert len(find(cases)) == n_found


def test_one_pair_must_be_reversed_by_far():
    cases = jittered(25, PLACES[:2])
    cases[0] = [(0.52, 0.3, 0.5), (0.48, 0.4, 0.5)]  # hardly past each other
    assert find(cases) == {}


def test_lesions_on_either_side_are_no_order():
    rng = np.random.default_rng(2)
    cases = [
        [*p[:2], (float(rng.choice([0.1, 0.9])), float(rng.uniform(0.1, 0.9)), 0.5)]
        for p in jittered(30)
    ]
    assert find(cases) == {}


def test_a_wandering_class_does_not_turn_the_others():
    cases = jittered(20)
    cases[4][3] = (0.05, 0.05, 0.05)
    assert find(cases) == {}


def test_left_and_right_sides_in_one_dataset_need_another_witness():
    cases = [mirrored(p, 0) if n % 4 == 0 else p for n, p in enumerate(jittered(40))]
    assert find(cases) == {}
    assert len(find(cases, agreement=0.6)) == 10


def test_absent_classes_and_a_missing_label_pass():
    cases = [[p[0], None, p[2], None] if n % 2 else p for n, p in enumerate(jittered(24))]
    data = cohort(cases)
    lost = data.manifest.cases[0].model_copy(update={"label": None})
    manifest = data.manifest.model_copy(update={"cases": (lost, *data.manifest.cases[1:])})
    assert find_reversed(type(data)(manifest, data.rows), LIMITS, 0.95) == {}


def test_many_classes_take_little_memory():
    rng = np.random.default_rng(0)
    seen = cohort(jittered(60, tuple(tuple(p) for p in rng.uniform(0.1, 0.9, (40, 3)))))
    task = task_of(*(f"c{n}" for n in range(40)))
    many = dataset(list(seen.rows), list(seen.manifest.cases), task)
    tracemalloc.start()
    try:
        assert find_reversed(many, LIMITS, 0.95) == {}
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
