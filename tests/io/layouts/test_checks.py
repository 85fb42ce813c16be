"""Links, twins and names that are none."""

import pytest
from trees import found, touch

from pipeline.core.errors import DataError
from pipeline.io.discover import discover
from pipeline.io.layouts.checks import checked_cases
from pipeline.io.pairing import CaseFiles


def test_links_out_of_the_folder_are_refused_unless_allowed(tmp_path):
    outside = touch(tmp_path / "out", "x.nii") / "x.nii"
    root = touch(tmp_path / "set", "images/a.nii", "labels/a.nii", "labels/b.nii")
    (root / "images" / "b.nii").symlink_to(outside)
    folder = discover(root)
    assert [case.case_id for case in folder.cases] == ["a"]
    (problem,) = folder.problems
    assert (problem.check_id, problem.file) == ("F01", "images/b.nii")
    assert "ingest.allow_links" in problem.fix
    assert len(discover(root, allow_links=True).cases) == 2
    (root / "images" / "a.nii").unlink()
    (root / "labels" / "a.nii").unlink()
    with pytest.raises(DataError, match="leads out") as caught:
        discover(root)
    assert "ingest.allow_links" in caught.value.fix


def test_links_inside_and_a_linked_root_are_fine(tmp_path):
    root = touch(tmp_path / "set", "raw/a.nii", "labels/a.nii", "images/readme.txt")
    (root / "images" / "a.nii").symlink_to(root / "raw" / "a.nii")
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        folder = discover(place)
        assert folder.problems == ()
        assert len(folder.cases) == 1


def test_ids_that_differ_in_case_alone(tmp_path):
    touch(
        tmp_path, *(f"{d}/{n}.nii" for d in ("images", "labels") for n in ("Case1", "case1", "b"))
    )
    folder = found(tmp_path)
    assert [case.case_id for case in folder.cases] == ["b"]
    assert [problem.file for problem in folder.problems] == ["images/Case1.nii", "images/case1.nii"]
    assert all("Case1, case1" in problem.message for problem in folder.problems)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\\b", "a\0", "a\nb", "x" * 151])
def test_ids_that_are_no_file_names(tmp_path, name):
    with pytest.raises(DataError, match="cannot be called"):
        checked_cases([CaseFiles(name, (tmp_path / "a.nii",), None)], tmp_path, allow_links=True)


def test_the_same_id_twice(tmp_path):
    cases = [CaseFiles("a", (tmp_path / f"{n}.nii",), None) for n in range(2)]
    with pytest.raises(DataError, match="two cases are called 'a'"):
        checked_cases(cases, tmp_path, allow_links=True)
