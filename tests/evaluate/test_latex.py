from dataclasses import replace

from evaluate_builders import cases_of, classes_of, evaluation_of, spread, with_surfaces

from pipeline.evaluate.latex import latex_table
from pipeline.metrics.regions import region_overlap


def lines_of(given):
    return latex_table(given, classes_of(given)).splitlines()


def test_every_row_has_the_columns_of_the_head():
    cases = tuple(
        with_surfaces(replace(c, classes=(*c.classes, region_overlap(c, "all", ("a", "b")))))
        for c in cases_of(a=spread(12), b=["missed"] * 6 + spread(6))
    )
    lines = lines_of(evaluation_of(cases, regions={"all": ("a", "b")}))
    n = next(line for line in lines if "Halluc. " in line and "&" in line).count("&")
    rows = [line for line in lines if "&" in line and line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {n}
    assert len(rows) == 5
    assert rows[1].startswith("a & $0.750\\ [")
    assert rows[3].startswith("Foreground mean & $0.56")
    assert rows[3].endswith("& 0 & 6 & 0 \\\\")
    assert rows[-1].startswith("all (union) & ")
    assert "tolerance of 2 mm" in "\n".join(lines)


def test_few_cases_have_no_interval_and_no_surfaces_no_columns():
    text = "\n".join(lines_of(evaluation_of(cases_of(a=[0.5, 0.6, "absent"]))))
    assert "bootstrap" not in text
    assert "HD95" not in text
    assert "a & $0.550$ & 2 & 1 & 0 & 0" in text
