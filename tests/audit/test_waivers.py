from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Finding
from pipeline.audit.config import Waiver
from pipeline.audit.waivers import apply_waivers, describe_waiver, judge


def finding(check_id="E01", severity="error", case_id=None, waived=None):
    return Finding(
        check_id=check_id,
        severity=severity,
        case_id=case_id,
        message="m",
        fix="f",
        waived=waived,
    )


findings = st.builds(
    finding,
    st.sampled_from(["E01", "G02", "D01"]),
    st.sampled_from(["error", "warning", "info"]),
    st.sampled_from([None, "a", "b"]),
)


@given(st.lists(findings))
def test_verdict_is_that_of_the_worst(found):
    severities = {f.severity for f in found}
    expected = "clean"
    if "warning" in severities:
        expected = "warnings"
    if "error" in severities:
        expected = "errors"
    assert judge(found) == expected


@given(st.lists(findings))
def test_waiving_every_check_makes_it_clean_and_loses_nothing(found):
    waivers = [Waiver(check_id=c, reason="seen") for c in ("E01", "G02", "D01")]
    marked, unused = apply_waivers(found, waivers)
    assert judge(marked) == "clean"
    assert [f.model_copy(update={"waived": None}) for f in marked] == found
    assert len(unused) == 3 - len({f.check_id for f in found})


def test_a_waiver_for_one_case_leaves_the_others():
    found = [finding(case_id="a"), finding(case_id="b"), finding(case_id=None)]
    marked, unused = apply_waivers(
        found, [Waiver(check_id="E01", case_id="a", reason="drawn so on purpose")]
    )
    assert [f.waived for f in marked] == ["drawn so on purpose", None, None]
    assert unused == ()
    assert judge(marked) == "errors"


def test_a_waiver_that_matches_nothing_is_told():
    waiver = Waiver(check_id="E01", case_id="zzz", reason="old")
    assert apply_waivers([finding(case_id="a")], [waiver])[1] == (describe_waiver(waiver),)
    assert describe_waiver(waiver) == "E01 for zzz: old"
