import pytest
from jinja2 import Environment, PackageLoader, TemplateNotFound, UndefinedError

from pipeline.reporting.page import format_number, format_percent, render_page

BASE = {"title": "Audit", "subtitle": "all well", "verdict": {"kind": "good", "text": "clean"}}


def test_page_is_complete_and_loads_nothing():
    page = render_page("base.html.j2", BASE)
    assert page.lstrip().startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert not any(word in page for word in ("http://", "https://", "<link", "src=", "@import"))
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_values_are_escaped():
    page = render_page("base.html.j2", BASE | {"title": "<script>alert('x')</script>"})
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_missing_value_is_an_error_not_a_gap():
    with pytest.raises(UndefinedError, match="verdict"):
        render_page("base.html.j2", {"title": "x", "subtitle": "y"})
    with pytest.raises(TemplateNotFound):
        render_page("nothing.html.j2", {})


def test_verdict_is_told_by_sign_and_word_not_by_color_alone():
    for kind, sign in (("good", "✓"), ("warn", "▲"), ("bad", "✕")):
        page = render_page("base.html.j2", BASE | {"verdict": {"kind": kind, "text": "word"}})
        assert sign in page
        assert "word" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (float("inf"), "\N{EN DASH}"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-1234.5, "-1,234"),
        (12.345, "12.3"),
        (0.03125, "0.0312"),
        (0.000012345, "1.23e-05"),
        (3.0, "3"),
        ("text", "text"),
        (True, "True"),
    ],
)
def test_numbers_read_as_people_write_them(value, text):
    assert format_number(value) == text


def test_percent():
    assert format_percent(0.1234) == "12.3 %"
    assert format_percent(None) == "\N{EN DASH}"


def test_tables_hold_every_row_without_script():
    table = {"columns": [{"name": "Fold"}, {"name": "n", "is_number": True}]}
    rows = [["first", 3], [{"text": "error", "kind": "bad", "sort": 0}, None]]
    source = (
        '{% import "macros.html.j2" as ui %}{{ ui.table("t", "A caption", columns, rows, '
        'search=true, choices=["error"]) }}'
    )
    environment = _environment()
    html = environment.from_string(source).render(columns=table["columns"], rows=rows)
    assert html.count("<tr>") == 3
    assert 'data-sort="0"' in html
    assert "A caption" in html
    assert 'data-choice="error"' in html


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.reporting", "templates"), autoescape=True
    )
    environment.filters["number"] = format_number
    return environment
