import pytest
from audit_builders import label_of, record

from pipeline.audit.config import GroupConfig
from pipeline.audit.groups import find_groups
from pipeline.core.errors import ConfigError


def cases_of(*case_ids, file="image.nii"):
    known = record(label_of())
    facts = known.image_files[0].model_copy(update={"file": file})
    return [known.model_copy(update={"case_id": i, "image_files": (facts,)}) for i in case_ids]


def groups_of(cases, config=None):
    return find_groups(cases, config or GroupConfig()).groups


def test_groups_by_pattern():
    cases = cases_of("p1_a", "p1_b", "q_c")
    found = find_groups(cases, GroupConfig(pattern="^(p[0-9]+)_"))
    assert found.groups == {"p1_a": "p1", "p1_b": "p1"}
    assert "^(p[0-9]+)_" in found.source
    assert find_groups(cases, GroupConfig()).source == ""


@pytest.mark.parametrize("pattern", ["(", "p[0-9]+", "(a)(b)"])
def test_a_pattern_needs_one_group(pattern):
    with pytest.raises(ConfigError, match="cannot use the group pattern"):
        find_groups(cases_of("p1"), GroupConfig(pattern=pattern))


def test_groups_and_sites_by_file(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("case_id,group,site\nc1,p1,Bern\nc2, p1,\nc3,,Graz\nc4\n", encoding="utf-8-sig")
    found = find_groups(cases_of("c1"), GroupConfig(file=file))
    assert found.groups == {"c1": "p1", "c2": "p1"}
    assert found.sites == {"c1": "Bern", "c3": "Graz"}
    assert "groups.csv" in found.source


def test_a_file_may_tell_only_sites(tmp_path):
    file = tmp_path / "sites.csv"
    file.write_text("case_id,site\nc1,Bern\n")
    found = find_groups(cases_of("c1"), GroupConfig(file=file))
    assert (found.groups, found.sites, found.source) == ({}, {"c1": "Bern"}, "")


@pytest.mark.parametrize("content", [None, "", "id,patient\na,b\n", "case_id,age\na,4\n"])
def test_a_bad_group_file_is_named(tmp_path, content):
    file = tmp_path / "groups.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as error:
        find_groups(cases_of("c1"), GroupConfig(file=file))
    assert "case_id,group" in error.value.fix


def test_a_file_that_contradicts_itself_is_refused(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("case_id,group\nc1,p1\nc1,p2\n")
    with pytest.raises(ConfigError, match="case c1 has two entries"):
        find_groups(cases_of("c1"), GroupConfig(file=file))


def test_bids_names_are_patients():
    cases = cases_of("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
    found = find_groups(cases, GroupConfig())
    assert found.groups == {"sub-01_ses-1": "01", "sub-01_ses-2": "01", "sub-02_ses-1": "02"}
    assert "BIDS" in found.source
    assert groups_of(cases, GroupConfig(bids=False)) == {}


def test_bids_folders_are_patients():
    cases = [
        *cases_of("a", file="sub-x/ses-1/a.nii"),
        *cases_of("b", file="raw/sub-x/b.nii"),
        *cases_of("c", file="sub-y/c.nii"),
    ]
    assert groups_of(cases) == {"a": "x", "b": "x", "c": "y"}


@pytest.mark.parametrize(
    "case_ids",
    [("sub-01_a", "case_2"), ("sub-volume_1", "sub-volume_2"), ("sub-1+2", "sub-3+4"), ()],
)
def test_other_names_are_no_patients(case_ids):
    assert groups_of(cases_of(*case_ids)) == {}


def test_a_file_or_pattern_wins_over_bids_names():
    cases = cases_of("sub-01_a", "sub-02_a")
    assert groups_of(cases, GroupConfig(pattern="_(a)$")) == {"sub-01_a": "a", "sub-02_a": "a"}
