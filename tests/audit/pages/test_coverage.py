from audit_builders import dataset, row

from pipeline.artifacts import Finding, Findings
from pipeline.audit.measures import AlignmentProfile, CaseMeasures
from pipeline.audit.pages.coverage import checks_table, not_assessable


def findings(*found):
    return Findings(verdict="clean", n_cases=1, findings=found)


def test_every_check_has_a_line_and_later_ones_say_so():
    one = Finding(check_id="E01", severity="error", message="", fix="")
    table = checks_table(findings(one, one, one.model_copy(update={"waived": "x"})))
    results = {cells[0]: cells[3] for cells in table["rows"]}
    assert results["E01"] == {"text": "2 error, 1 waived", "kind": "bad", "sort": 0}
    assert results["E02"]["text"] == "nothing found"
    assert results["P01"]["text"] == "at the start of train"


def test_a_check_that_the_catalog_does_not_know_is_shown_too():
    table = checks_table(findings(Finding(check_id="Z99", severity="info", message="", fix="")))
    assert table["rows"][-1][:3] == ["Z99", "", "Z99"]


def test_silence_is_explained():
    weak = AlignmentProfile(
        is_assessable=False,
        reason="label too small",
        ratio=1.0,
        shift_ratios=(),
        shifts=(),
        flip_ratios=(),
        flips=(),
        border_voxel=None,
    )
    rows = [row(name, (1, 1)) for name in "abc"]
    fingerprint = {"case_id": "b", "shape": (9, 9, 9), "spacing_mm": (1.0, 1.0, 1.0)}
    usable = rows[1].model_copy(
        update={"fingerprint": fingerprint, "measures": CaseMeasures(alignment=weak)}
    )
    table = not_assessable(dataset([rows[0], usable, rows[2]], []))
    found = {(cells[0][:10], cells[1]): cells[2]["text"] for cells in table["rows"]}
    assert found["Everything", "the case cannot be used"] == "2 of 3"
    assert found["Shift and ", "label too small"] == "1 of 3"
    assert found["Second rea", "the files were not read a second time"] == "1 of 3"
    assert any("fewer than 10" in why for _, why in found)


def test_nothing_is_missing_where_everything_was_looked_at():
    assert all(cells[2]["sort"] == 0 for cells in not_assessable(dataset([], []))["rows"])
