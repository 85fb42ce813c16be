import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.stratify import stratified_folds


def alone(n):
    return {f"case_{i:03d}": [f"case_{i:03d}"] for i in range(n)}


@st.composite
def cohorts(draw):
    """Groups of one to four cases; each case shows some of two classes."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=5, max_size=25))
    members = {f"g{n}": [f"g{n}_{v}" for v in range(size)] for n, size in enumerate(sizes)}
    volume = st.one_of(st.just(0.0), st.floats(0.01, 500.0))
    volumes = {
        case: {"a": draw(volume), "b": draw(volume)} for cases in members.values() for case in cases
    }
    return members, volumes


@given(cohorts(), st.integers(2, 5), st.integers(0, 5))
def test_every_group_is_in_one_fold_and_no_fold_is_empty(cohort, n_folds, seed):
    members, volumes = cohort
    folds = stratified_folds(members, volumes, n_folds, seed)
    assert sorted(case for fold in folds for case in fold) == sorted(
        case for cases in members.values() for case in cases
    )
    for cases in members.values():
        assert sum(bool(fold & set(cases)) for fold in folds) == 1
    assert all(folds)


@given(cohorts(), st.randoms())
def test_order_does_not_matter(cohort, random):
    members, volumes = cohort
    names = random.sample(sorted(members), len(members))
    shuffled = {name: members[name] for name in names}
    turned = {case: volumes[case] for case in random.sample(sorted(volumes), len(volumes))}
    assert stratified_folds(members, volumes, 4, 7) == stratified_folds(shuffled, turned, 4, 7)


@given(st.lists(st.booleans(), min_size=5, max_size=60), st.integers(2, 5), st.integers(0, 5))
def test_cases_and_one_patchy_class_are_within_one_of_even(shows, n_folds, seed):
    members = alone(len(shows))
    volumes = {i: {"lesion": 5.0 * s} for i, s in zip(members, shows, strict=True)}
    folds = stratified_folds(members, volumes, n_folds, seed)
    sizes = [len(fold) for fold in folds]
    present = [sum(volumes[i]["lesion"] > 0 for i in fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert max(present) - min(present) <= 1


def test_many_classes_are_far_more_even_than_by_chance():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.1, 0.9, 6)
    members = alone(120)
    volumes = {i: {str(c): float(rng.random() < p) for c, p in enumerate(shares)} for i in members}
    folds = stratified_folds(members, volumes, 5, 12345)
    counts = np.array([[sum(volumes[i][str(c)] > 0 for i in f) for c in range(6)] for f in folds])
    assert np.ptp(counts, axis=0).max() <= 2


def test_volumes_are_balanced_where_presence_is():
    rng = np.random.default_rng(1)
    members = alone(50)
    volumes = {i: {"tumor": float(np.exp(rng.normal(2.0, 1.5)))} for i in members}
    folds = stratified_folds(members, volumes, 5, 12345)
    logs = [np.mean([np.log(volumes[i]["tumor"]) for i in fold]) for fold in folds]
    assert [len(fold) for fold in folds] == [10] * 5
    assert np.ptp(logs) < 0.3  # 1.5 standard deviations of ten cases would be 1.1


def test_the_largest_group_does_not_drag_others_into_its_fold():
    members = {"big": [f"big_{n}" for n in range(8)], **alone(8)}
    folds = stratified_folds(members, {}, 2, 0)
    assert sorted(len(fold) for fold in folds) == [8, 8]


def test_without_volumes_the_folds_are_even():
    folds = stratified_folds(alone(23), {}, 5, 12345)
    assert sorted(len(fold) for fold in folds) == [4, 4, 5, 5, 5]
