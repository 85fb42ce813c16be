from audit_builders import dataset, row

from pipeline.artifacts import Finding
from pipeline.audit.pages.findings import (
    Card,
    choose_cards,
    filter_choices,
    line_of,
    make_groups,
    state_of,
)

NOTHING = dataset([row("a", (1, 1))], [])


def finding(check_id="E01", severity="error", case_id="a", **changes):
    known = {"message": f"message of {case_id}", "fix": "how"}
    return Finding(
        **(known | {"check_id": check_id, "severity": severity, "case_id": case_id} | changes)
    )


def test_groups_are_ordered_worst_first_and_hold_every_finding():
    findings = [
        finding("G08", "info", None),
        finding("S03", "warning", "a"),
        finding("E01", "error", "a"),
        finding("S03", "warning", "b"),
        finding("E01", "error", "c", waived="seen"),
    ]
    groups = make_groups(findings, {}, NOTHING)
    assert [group.key for group in groups] == [
        "E01-error",
        "S03-warning",
        "G08-info",
        "E01-waived",
    ]
    assert sum(len(group.lines) for group in groups) == len(findings)
    assert [group.kind for group in groups] == ["bad", "warn", "info", "plain"]
    assert groups[1].concerned == "a, b"
    assert groups[1].message == "message of a"
    assert groups[3].fix == "Waived: seen"


def test_a_fix_is_said_once_if_all_say_the_same():
    same = make_groups([finding(case_id=c) for c in "abcde"], {}, NOTHING)[0]
    assert (same.fix, same.concerned) == ("how", "a, b, c and 2 more")
    differing = [finding(case_id="a", fix="one"), finding(case_id="b", fix="two")]
    other = make_groups(differing, {}, NOTHING)[0]
    assert other.fix == ""
    assert [line.fix for line in other.lines] == ["one", "two"]


def test_cards_go_to_the_worst_of_each_check_and_hide_none():
    findings = [finding("S03", "warning", f"c{n}", value=float(n), threshold=1.0) for n in range(9)]
    findings += [finding("E01", "error", "x"), finding("E01", "error", "x"), finding("G08", "info")]
    findings.append(finding("D05", "error", None))
    chosen = choose_cards(findings, 12)
    assert [(f.check_id, f.case_id) for f in chosen] == [("E01", "x"), ("S03", "c8"), ("S03", "c7")]
    assert len(choose_cards(findings, 1)) == 1


def test_every_check_has_its_turn_before_a_second_card():
    findings = [finding("E01", "error", c) for c in "ab"] + [finding("S03", "warning", "a")]
    order = [(f.check_id, f.case_id) for f in choose_cards(findings, 9)]
    assert order == [("E01", "a"), ("S03", "a"), ("E01", "b")]


def test_cards_appear_in_their_group():
    one, other = finding(), finding("S03", "warning", "a")
    groups = make_groups([one, other], {id(other): Card(other, line_of(other))}, NOTHING)
    assert [len(group.cards) for group in groups] == [0, 1]
    assert groups[1].cards[0].chart is None  # one case is no distribution


def test_a_line_says_what_where_and_how_much():
    line = line_of(
        finding(
            class_name="liver",
            value=0.123456,
            threshold=5,
            evidence={"voxel_ras": (1, 2, 3), "same_as": "b", "file": "labels/a.nii", "n": 4},
        )
    )
    assert (line.measured, line.limit) == ("0.123", "5")
    assert line.place == "voxel 1, 2, 3; like b; labels/a.nii"
    empty = line_of(finding(case_id=None, value=None))
    assert (empty.case_id, empty.measured, empty.place) == ("", "", "")


def test_odd_values_do_not_break_the_order():
    for value, threshold in ((0, 1), (-3.0, 2.0), ("text", 3), (float("inf"), 1.0), (None, None)):
        assert choose_cards([finding(value=value, threshold=threshold)], 3)


def test_choices_list_what_occurs_with_counts():
    groups = make_groups(
        [finding(), finding(case_id="b"), finding("S03", "warning", waived="x")], {}, NOTHING
    )
    choices = filter_choices(groups)
    assert choices["states"] == [("error", "error 2"), ("waived", "waived 1")]
    assert [letter for letter, _ in choices["families"]] == ["E", "S"]
    assert [check for check, _ in choices["checks"]] == ["E01", "S03"]
    assert state_of(finding(waived="x")) == "waived"
