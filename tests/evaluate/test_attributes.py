import pytest

from pipeline.core.errors import ConfigError
from pipeline.evaluate.attributes import CaseAttributes, read_attributes

CASES = frozenset({"a", "b", "c"})


def table(tmp_path, text):
    file = tmp_path / "attributes.csv"
    file.write_text(text)
    return file


def test_patients_and_columns_of_the_scored_cases(tmp_path):
    file = table(tmp_path, "case_id,patient,sex\na,p1,F\nb,,M\nz,p9,F\n")
    found = read_attributes(file, CASES)
    assert found.patients == {"a": "p1"}
    assert found.columns == {"a": {"sex": "F"}, "b": {"sex": "M"}}
    assert found.unknown == ("z",)


def test_no_table_is_no_attributes():
    assert read_attributes(None, CASES) == CaseAttributes()


@pytest.mark.parametrize("text", ["", "name,sex\na,F\n", "case_id,sex\na,F\na,M\n"])
def test_tables_that_say_nothing_clear_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="case"):
        read_attributes(table(tmp_path, text), CASES)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_attributes(tmp_path / "none.csv", CASES)
