import pytest
from compare_builders import cases_of, run

from pipeline.artifacts import Fold, Splits
from pipeline.compare.patients import check_patients, known_patients, read_patients
from pipeline.core.errors import DataError, UsageError
from pipeline.core.workspace import Workspace, write_json

CASES = cases_of(x=[0.5, 0.6])


def test_a_table_of_patients_is_read(tmp_path):
    file = tmp_path / "patients.csv"
    file.write_text("\ufeffpatient,case_id,age\np1, c00 ,50\np1,c01,51\np1,c01,51\n")
    assert read_patients(file) == {"c00": "p1", "c01": "p1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,patient\na,b\n", "no column case_id"),
        ("case_id,patient\na,b\na,c\n", "belongs to two patients"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path, text, message):
    file = tmp_path / "patients.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_patients(file)
    with pytest.raises(UsageError):
        read_patients(tmp_path / "nothing.csv")


def test_an_empty_cell_names_no_patient(tmp_path):
    file = tmp_path / "patients.csv"
    file.write_text("case_id,patient\nc00,\nc01\nc02,p1\n\n")
    assert read_patients(file) == {"c02": "p1"}


def test_a_table_about_other_cases_is_refused(caplog):
    with pytest.raises(DataError, match="names none of the cases"):
        check_patients({"other": "p1"}, [run("A", CASES)])
    check_patients({"c00": "p1"}, [run("A", CASES)])
    assert "1 of 2 cases are not in the table of patients" in caplog.text
    assert "c01" in caplog.text


def test_folds_know_patients_of_validation_cases_only(tmp_path):
    splits = Splits(
        method="grouped",
        seed=0,
        folds=(Fold(train=("c00",), validation=("c01",)),),
        groups={"c00": "p1", "c01": "p1"},
    )
    write_json(Workspace(tmp_path).splits_file, splits)
    validated = run("A", CASES, kind="validation", work=tmp_path)
    assert known_patients([validated]) == {"c00": "p1", "c01": "p1"}
    # Cases of other data may carry the same ids.
    assert known_patients([run("A", CASES, kind="evaluate", work=tmp_path)]) is None
    assert known_patients([run("A", CASES, kind="validation", work=tmp_path / "none")]) is None
    assert known_patients([run("A", CASES)]) is None
