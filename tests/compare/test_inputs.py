import os
from pathlib import Path

import pytest
from compare_builders import cases_of, write_table

from pipeline.compare.inputs import has_table, read_runs, split_name, unique_labels
from pipeline.core.errors import DataError, MissingInputError, UsageError

CASES = cases_of(a=[0.5, 0.6])


def descriptions(*names):
    return [run.table.description for run in read_runs([str(n) for n in names])]


def evaluated(work, dataset, time_s=None):
    file = write_table(work / "evaluate" / dataset, CASES) / "scores.csv"
    if time_s is not None:
        os.utime(file, (time_s, time_s))


def test_work_folders_meet_on_the_newest_data_both_were_scored_on(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    evaluated(a, "old", 1000)
    evaluated(a, "new", 2000)
    evaluated(a, "alone", 3000)
    evaluated(b, "old", 1500)
    evaluated(b, "new", 1000)
    write_table(b / "train" / "fold_0" / "validation", CASES)
    assert descriptions(a, b) == ["scores on new", "scores on new"]
    assert descriptions(f"{a}:old", b) == ["scores on old", "scores on old"]
    assert descriptions(f"{a}:alone", f"{b}:old") == ["scores on alone", "scores on old"]
    labels = [run.label for run in read_runs([str(a), str(b)])]
    assert labels == ["a", "b"]


def test_validation_folds_are_taken_when_nothing_was_evaluated(tmp_path):
    for name in "ab":
        write_table(tmp_path / name / "train" / "fold_0" / "validation", CASES)
        write_table(tmp_path / name / "train" / f"fold_{name}" / "validation", CASES)
    assert descriptions(tmp_path / "a", tmp_path / "b") == ["validation cases of fold_0"] * 2
    assert read_runs([str(tmp_path / "a"), str(tmp_path / "b")])[0].table.work == tmp_path / "a"


def test_a_folder_or_a_file_with_scores_is_a_run(tmp_path):
    folder = write_table(tmp_path / "theirs", CASES)
    evaluated(tmp_path / "ours", "x")
    theirs, ours = read_runs([str(folder / "scores.csv"), str(tmp_path / "ours")])
    assert (theirs.label, ours.label) == ("theirs", "ours")
    assert theirs.table.kind == "table"
    assert [c.case_id for c in ours.cases] == ["c00", "c01"]


def test_a_table_inside_a_work_folder_knows_its_place(tmp_path):
    evaluated(tmp_path / "w", "x")
    inside = tmp_path / "w" / "evaluate" / "x"
    table = read_runs([str(inside), str(inside)])[0].table
    assert (table.kind, table.dataset, table.work) == ("evaluate", "x", tmp_path / "w")


def test_two_tables_of_one_work_folder_are_named_by_their_data(tmp_path):
    for dataset in ("x", "y"):
        evaluated(tmp_path / "w", dataset)
    labels = [run.label for run in read_runs([f"{tmp_path / 'w'}:x", f"{tmp_path / 'w'}:y"])]
    assert labels == ["x", "y"]


def test_runs_on_different_data_are_refused_with_what_there_is(tmp_path):
    evaluated(tmp_path / "a", "x")
    evaluated(tmp_path / "a", "y")
    evaluated(tmp_path / "b", "z")
    evaluated(tmp_path / "b", "w")
    with pytest.raises(UsageError, match="not scored on the same data") as raised:
        descriptions(tmp_path / "a", tmp_path / "b")
    assert "scores on x" in raised.value.where


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a"], UsageError, "nothing to compare"),
        (["a", "nowhere"], MissingInputError, "no such run"),
        (["a", "empty"], MissingInputError, "no scores of this run"),
        (["a", "a:other"], UsageError, "no scores on 'other'"),
        (["a", "bad.csv"], DataError, "no table of scores"),
    ],
)
def test_what_is_no_run_is_named(tmp_path, monkeypatch, names, error, message):
    monkeypatch.chdir(tmp_path)
    evaluated(tmp_path / "a", "x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n")
    with pytest.raises(error, match=message):
        read_runs(names)


def test_a_path_that_exists_is_never_cut(tmp_path):
    odd = tmp_path / "a:b"
    write_table(odd, CASES)
    assert split_name(str(odd)) == (odd, "")
    assert split_name(f"{tmp_path}:b") == (tmp_path, "b")
    assert has_table(str(odd))
    assert not has_table(str(tmp_path / "nothing"))


def test_labels_are_as_short_as_they_can_be_and_differ():
    assert unique_labels([Path("/r/a"), Path("/r/b")]) == ["a", "b"]
    assert unique_labels([Path("/x/w"), Path("/y/w")]) == ["x/w", "y/w"]
    assert unique_labels([Path("/x/w"), Path("/x/w")]) == ["w (1)", "w (2)"]
