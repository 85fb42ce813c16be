"""The table of pseudonyms: stable, added to only, private, and without meaning."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.ingest.pseudonyms import Row, add_rows, new_rows, read_table

IDS = st.sets(st.text("abcXYZ019_-, \"'é", min_size=1).map(str.strip).filter(bool), max_size=8)


@given(first=IDS, second=IDS, other=IDS)
def test_pseudonyms_stay_when_cases_and_datasets_are_added(tmp_path_factory, first, second, other):
    file = tmp_path_factory.mktemp("table") / "pseudonyms.csv"
    tables = []
    for dataset, case_ids in (("a", first), ("a", first | second), ("b", other), ("a", second)):
        add_rows(file, new_rows(read_table(file), dataset, case_ids, {}))
        tables.append(read_table(file))
    for before, after in pairwise(tables):
        assert after[: len(before)] == before
    assert tables[2] == tables[3]
    rows = tables[-1]
    assert {r.case_id for r in rows if r.dataset == "a"} == first | second
    assert {r.case_id for r in rows if r.dataset == "b"} == other
    assert [r.pseudonym for r in rows] == [f"case_{n:04d}" for n in range(1, len(rows) + 1)]


def test_the_order_of_names_does_not_show():
    case_ids = [f"p{n:03d}" for n in range(60)]
    orders = [[row.case_id for row in new_rows((), "a", case_ids, {})] for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == case_ids
    assert len({tuple(case_ids), *map(tuple, orders)}) == 3


def test_cases_of_one_subject_stay_together():
    subjects = {"sub-anna_ses-1": "anna", "sub-anna_ses-2": "anna", "sub-bea": "bea"}
    rows = new_rows((), "a", subjects, subjects)
    prefix = {row.case_id: row.pseudonym.split("_", 1)[0] for row in rows}
    assert prefix["sub-anna_ses-1"] == prefix["sub-anna_ses-2"] != prefix["sub-bea"]
    assert set(prefix.values()) == {"sub-0001", "sub-0002"}
    subjects |= {"sub-anna_ses-3": "anna", "sub-cleo": "cleo"}
    later = {r.case_id: r.pseudonym for r in new_rows(rows, "a", subjects, subjects)}
    assert later["sub-anna_ses-3"].startswith(prefix["sub-anna_ses-1"])
    assert later["sub-cleo"].startswith("sub-0003_")
    # The same word in another dataset is another subject.
    (other,) = new_rows(rows, "b", ["sub-anna"], {"sub-anna": "anna"})
    assert other.pseudonym.startswith("sub-0003_")


def test_the_table_is_private_and_what_users_wrote_stays(tmp_path):
    file = tmp_path / "pseudonyms.csv"
    file.write_text("dataset,pseudonym,note,case_id\na,P-07,mine,anna")
    file.chmod(0o644)
    assert read_table(file) == (Row("P-07", "anna", "a"),)
    add_rows(file, new_rows(read_table(file), "a", ["anna", 'b"e,a'], {}))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("dataset,pseudonym,note,case_id\na,P-07,mine,anna\n")
    assert read_table(file)[1] == Row("case_0001", 'b"e,a', "a")
    file.chmod(0o644)
    add_rows(file, ())
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["pseudonyms.csv"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pseudonym,case_id\nx,secret\n", "line 2 lacks"),
        ("pseudonym,case_id,dataset\nx,secret\n", "line 2 lacks"),
        ("pseudonym,case_id,dataset\n../x,secret,a\n", "line 2 cannot be a file name"),
        ("pseudonym,case_id,dataset\nx,secret,a\nX,other,a\n", "line 2 and in line 3"),
        ("pseudonym,case_id,dataset\nx,secret,a\ny,secret,a\n", "a case stands in line 2"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_without_names(tmp_path, text, expected):
    file = tmp_path / "pseudonyms.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=expected) as raised:
        read_table(file)
    assert "secret" not in str(raised.value)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "pseudonyms.csv").write_bytes(
        "pseudonym,case_id,dataset\nx,ä,a\n".encode("latin-1")
    )
    with pytest.raises(ConfigError, match="UTF-8"):
        read_table(tmp_path / "pseudonyms.csv")
