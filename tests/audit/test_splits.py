import numpy as np
import pytest
from audit_builders import TASK, usable_row
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from pipeline.artifacts import Fingerprint
from pipeline.audit.config import AuditConfig
from pipeline.audit.groups import Grouping
from pipeline.audit.splits import make_splits, split_dataset
from pipeline.core.errors import DataError

case_ids = st.lists(
    st.text("abc012_", min_size=1, max_size=6), min_size=2, max_size=40, unique=True
)


@st.composite
def grouped(draw):
    ids = draw(case_ids)
    patients = draw(st.lists(st.sampled_from("PQRSTU"), min_size=len(ids), max_size=len(ids)))
    return ids, dict(zip(ids, patients, strict=True))


@given(case_ids, st.integers(2, 8), st.integers(0, 99))
def test_folds_partition_the_cases(ids, n_folds, seed):
    splits = make_splits(ids, {}, AuditConfig(n_folds=n_folds, fold_seed=seed))
    assert len(splits.folds) == min(n_folds, len(ids))
    held_out = [i for fold in splits.folds for i in fold.validation]
    assert sorted(held_out) == sorted(ids)
    for fold in splits.folds:
        assert set(fold.train) | set(fold.validation) == set(ids)
        assert not set(fold.train) & set(fold.validation)
        assert fold.train
        assert fold.validation


@given(case_ids, st.randoms())
def test_order_of_the_cases_does_not_matter(ids, random):
    shuffled = random.sample(ids, len(ids))
    assert make_splits(ids, {}, AuditConfig()) == make_splits(shuffled, {}, AuditConfig())


@given(grouped(), st.integers(0, 9))
def test_a_patient_is_never_on_both_sides(data, seed):
    ids, groups = data
    config = AuditConfig(fold_seed=seed)
    if len(set(groups.values())) < 2:
        with pytest.raises(DataError, match="one patient"):
            make_splits(ids, groups, config)
        return
    splits = make_splits(ids, groups, config)
    assert sorted(i for f in splits.folds for i in f.validation) == sorted(ids)
    for fold in splits.folds:
        assert not {groups[i] for i in fold.train} & {groups[i] for i in fold.validation}


def test_without_groups_these_are_the_folds_of_nnunet():
    ids = [f"case_{n:03d}" for n in range(23)]
    splits = make_splits(ids[::-1], {}, AuditConfig())
    reference = KFold(n_splits=5, shuffle=True, random_state=12345).split(np.arange(23))
    for fold, (train, validation) in zip(splits.folds, reference, strict=True):
        assert fold.train == tuple(ids[n] for n in train)
        assert fold.validation == tuple(ids[n] for n in validation)


def test_groups_of_one_give_the_ungrouped_folds():
    ids = [f"case_{n}" for n in range(12)]
    lone = make_splits(ids, {i: f"patient of {i}" for i in ids}, AuditConfig())
    assert lone.folds == make_splits(ids, {}, AuditConfig()).folds


def test_groups_spread_evenly():
    ids = [f"{patient}_{visit}" for patient in "abcdefghij" for visit in range(4)]
    splits = make_splits(ids, {i: i[0] for i in ids}, AuditConfig())
    assert [len(fold.validation) for fold in splits.folds] == [8] * 5
    assert splits.groups["a_0"] == "a"


def test_a_case_named_like_a_group_stands_alone():
    splits = make_splits(["a", "x1", "x2"], {"x1": "a", "x2": "a"}, AuditConfig())
    assert {frozenset(f.validation) for f in splits.folds} == {
        frozenset("a"),
        frozenset({"x1", "x2"}),
    }


@pytest.mark.parametrize("ids", [[], ["only"], ["only", "only"]])
def test_one_case_cannot_be_divided(ids):
    with pytest.raises(DataError, match="cannot be divided") as error:
        make_splits(ids, {}, AuditConfig())
    assert "--fold all" in error.value.fix


IDS = [f"case_{n:03d}" for n in range(40)]


def volumes_of(n_with_lesion):
    return {
        i: {"organ": 30.0, "lesion": 2.0 if n < n_with_lesion else 0.0} for n, i in enumerate(IDS)
    }


def test_a_patchy_class_is_spread_evenly_and_the_reason_is_told():
    volumes = volumes_of(10)
    splits = make_splits(IDS, {}, AuditConfig(), volumes_ml=volumes)
    assert "'lesion' is absent in 30 of 40 cases" in splits.method
    with_lesion = [sum(volumes[i]["lesion"] > 0 for i in f.validation) for f in splits.folds]
    assert with_lesion == [2] * 5
    assert [len(f.validation) for f in splits.folds] == [8] * 5


@pytest.mark.parametrize("n_with_lesion", [0, 39, 40])
def test_a_class_in_nearly_all_or_no_cases_keeps_the_folds_of_nnunet(n_with_lesion):
    plain = make_splits(IDS, {}, AuditConfig())
    splits = make_splits(IDS, {}, AuditConfig(), volumes_ml=volumes_of(n_with_lesion))
    assert splits.folds == plain.folds
    assert "nnU-Net" in splits.method


def test_the_kind_of_folds_can_be_forced():
    volumes = volumes_of(10)
    plain = make_splits(IDS, {}, AuditConfig())
    nnunet = make_splits(IDS, {}, AuditConfig(split="nnunet"), volumes_ml=volumes)
    assert nnunet.folds == plain.folds
    stratified = make_splits(IDS, {}, AuditConfig(split="stratified"))
    assert stratified.folds != plain.folds
    assert "audit.split is stratified" in stratified.method


def test_folds_of_nnunet_ignore_patients_only_when_forced():
    groups = {i: i[:7] for i in IDS}  # ten cases each
    folds = make_splits(IDS, groups, AuditConfig(split="nnunet", n_folds=2)).folds
    assert {groups[i] for i in folds[0].train} & {groups[i] for i in folds[0].validation}
    assert make_splits(IDS, groups, AuditConfig(n_folds=2)).method.endswith("not cross folds")


def test_splitting_a_dataset_keeps_patients_sites_and_their_source():
    rows = [usable_row(f"p{n // 2}_{n % 2}") for n in range(12)]
    ids = [row.case_id for row in rows]
    fingerprint = Fingerprint(cases=tuple(row.fingerprint for row in rows))
    grouping = Grouping({i: i[:2] for i in ids}, dict.fromkeys([*ids, "other"], "Bern"), "a file")
    splits = split_dataset(fingerprint, TASK, grouping, AuditConfig())
    assert "a file" in splits.method
    assert set(splits.sites) == set(ids)
    assert len(splits.folds) == 5
    lone = split_dataset(
        fingerprint.model_copy(update={"cases": ()}), TASK, grouping, AuditConfig()
    )
    assert lone.folds == ()


def test_hippocampus_would_keep_the_published_folds():
    rows = [usable_row(f"hippocampus_{n:03d}", (1500, 1400 + n)) for n in range(208)]
    fingerprint = Fingerprint(cases=tuple(row.fingerprint for row in rows))
    splits = split_dataset(fingerprint, TASK, Grouping(), AuditConfig())
    ids = [row.case_id for row in rows]
    reference = KFold(n_splits=5, shuffle=True, random_state=12345).split(np.arange(208))
    assert [f.validation for f in splits.folds] == [
        tuple(ids[n] for n in places) for _, places in reference
    ]


def test_cases_of_one_patient_make_no_folds_but_do_not_stop_the_audit():
    fingerprint = Fingerprint(
        cases=tuple(usable_row(f"p1_{n}", (10, 10)).fingerprint for n in range(4))
    )
    groups = Grouping(groups={f"p1_{n}": "p1" for n in range(4)}, source="a file")
    splits = split_dataset(fingerprint, TASK, groups, AuditConfig())
    assert splits.folds == ()
    assert "one patient" in splits.method
    assert split_dataset(fingerprint, TASK, groups, AuditConfig(split="nnunet")).folds


def test_annotated_cases_are_spread_over_the_folds():
    """Which cases show the class is one thing, in which of them it was drawn another."""
    rows = [usable_row(f"case_{n:02d}", (100, 50 if n < 5 else 0)) for n in range(40)]
    cases = [row.fingerprint for row in rows]
    name = TASK.class_names[1]
    drawn = {case.case_id for case in cases[:15]}
    cases = [
        case if case.case_id in drawn else case.model_copy(update={"unannotated": (name,)})
        for case in cases
    ]
    grouping = Grouping(groups={}, sites={}, source="")
    splits = split_dataset(Fingerprint(cases=tuple(cases)), TASK, grouping, AuditConfig())
    assert "absent or not annotated in 35 of 40" in splits.method
    assert [len(drawn & set(fold.validation)) for fold in splits.folds] == [3] * 5
    with_class = {case.case_id for case in cases[:5]}
    assert [len(with_class & set(fold.validation)) for fold in splits.folds] == [1] * 5
