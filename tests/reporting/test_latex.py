import pytest

from pipeline.reporting.latex import escape_latex


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a_b", r"a\_b"), ("50 %", r"50 \%"), ("\\input{x}", r"\textbackslash{}input\{x\}")],
)
def test_names_cannot_become_commands(text, escaped):
    assert escape_latex(text) == escaped
