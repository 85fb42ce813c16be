from pipeline.artifacts import Finding, Findings
from pipeline.audit.terminal import (
    count_findings,
    group_findings,
    print_findings,
    verdict_line,
)


def finding(check_id, severity, case_id=None, waived=None):
    return Finding(
        check_id=check_id,
        severity=severity,
        case_id=case_id,
        message=f"message of {check_id}",
        fix=f"fix of {check_id}",
        waived=waived,
    )


FOUND = (
    finding("S02", "info"),
    finding("G02", "warning", "a"),
    *(finding("E01", "error", f"case_{n}") for n in range(7)),
    finding("F03", "error", "b"),
    finding("G08", "error", "c", waived="seen"),
)
FINDINGS = Findings(verdict="errors", n_cases=9, findings=FOUND)


def test_groups_come_worst_first_and_waived_last():
    groups = [(group[0].check_id, len(group)) for group in group_findings(FOUND)]
    assert groups == [("E01", 7), ("F03", 1), ("G02", 1), ("S02", 1), ("G08", 1)]


def test_table_goes_to_stdout_with_counts_cases_and_fix(capsys):
    print_findings(FINDINGS)
    captured = capsys.readouterr()
    assert captured.err == ""
    for text in ("E01", "case_0, case_1, case_2", "and 3 more", "fix of E01", "waived: seen"):
        assert text in captured.out
    assert "fix of S02" not in captured.out  # information asks for nothing
    assert captured.out.splitlines()[-1].startswith("9 cases: 8 errors, 1 warning, 1 waived")


def test_markup_in_names_is_printed_as_it_is(capsys):
    odd = finding("E01", "error", "[bold]case[/]")
    print_findings(Findings(verdict="errors", n_cases=1, findings=(odd,)))
    assert "[bold]case[/]" in capsys.readouterr().out


def test_clean_is_one_line(capsys):
    print_findings(Findings(verdict="clean", n_cases=1, findings=()))
    assert capsys.readouterr().out == "1 case: clean\n"


def test_waived_findings_are_not_counted():
    assert count_findings(FINDINGS, "error") == 8
    assert "refuse" in verdict_line(FINDINGS)
    assert "refuse" not in verdict_line(FINDINGS.model_copy(update={"findings": FOUND[:2]}))


def test_label_files_alone_are_not_said_to_stop_a_training(capsys):
    assert "refuse" in verdict_line(FINDINGS)
    print_findings(FINDINGS, is_training=False)
    assert "refuse" not in capsys.readouterr().out
