"""CSV, TSV and JSON become rows."""

import json

import pytest

from pipeline.io.layouts.table import read_table


def table(tmp_path, text, name="x.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_table(file)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_quotes_and_empty_cells(tmp_path, separator):
    text = f'\ufeffimage{separator}label\n"a b.nii"{separator} m.nii \n\nc.nii{separator}\n'
    found = table(tmp_path, text)
    assert found is not None
    assert found.columns == ("image", "label")
    assert found.rows == ({"image": ("a b.nii",), "label": ("m.nii",)}, {"image": ("c.nii",)})


def test_json_forms(tmp_path):
    rows = [{"image": {"t1": "a"}, "label": "m", "age": 3, "note": None}, {"image": ["b", "c"]}]
    found = table(tmp_path, json.dumps({"cases": rows, "labels": {"x": 1}}), "x.json")
    assert found is not None
    assert found.rows == (
        {"t1": ("a",), "label": ("m",), "age": ("3",)},
        {"image": ("b", "c")},
    )
    assert found.description == {"labels": {"x": 1}}


@pytest.mark.parametrize(
    "text", ["[]", "{}", "3", "[1]", '{"training": ["a"]}', "[" * 100_000, '{"training": 1}']
)
def test_other_json_is_no_table(tmp_path, text):
    assert table(tmp_path, text, "x.json") is None


def test_unreadable_files_are_no_table(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    assert read_table(tmp_path / "x.csv") is None
    assert read_table(tmp_path / "gone.csv") is None
    assert table(tmp_path, 'image\n"open') is None
