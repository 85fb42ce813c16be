import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from pipeline.audit.config import AuditConfig, GroupConfig
from pipeline.audit.splits import find_groups, make_splits
from pipeline.core.errors import ConfigError, DataError

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


def test_groups_by_pattern():
    config = GroupConfig(pattern="^(p[0-9]+)_")
    assert find_groups(["p1_a", "p1_b", "q_c"], config) == {"p1_a": "p1", "p1_b": "p1"}
    assert find_groups(["p1_a"], GroupConfig()) == {}


@pytest.mark.parametrize("pattern", ["(", "p[0-9]+", "(a)(b)"])
def test_a_pattern_needs_one_group(pattern):
    with pytest.raises(ConfigError, match="cannot use the group pattern"):
        find_groups(["p1"], GroupConfig(pattern=pattern))


def test_groups_by_file(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("case_id,group,age\nc1,p1,40\nc2, p1,41\nc3,,42\n", encoding="utf-8-sig")
    assert find_groups(["c1"], GroupConfig(file=file)) == {"c1": "p1", "c2": "p1"}


@pytest.mark.parametrize("content", [None, "", "id,patient\na,b\n"])
def test_a_bad_group_file_is_named(tmp_path, content):
    file = tmp_path / "groups.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as error:
        find_groups(["c1"], GroupConfig(file=file))
    assert "case_id,group" in error.value.fix
