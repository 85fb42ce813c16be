from audit_builders import dataset, row

from pipeline.artifacts import Finding, Fold, Splits
from pipeline.audit.pages.leakage import folds_table, group_facts, look_alikes

SPLITS = Splits(
    method="by patient",
    seed=7,
    folds=(
        Fold(train=("b", "c"), validation=("a", "d")),
        Fold(train=("a", "d"), validation=("b", "c")),
    ),
    groups={"a": "p1", "d": "p1", "b": "p2", "c": "p3"},
)


def twin(case_id, other, check_id="D01"):
    return Finding(
        check_id=check_id,
        severity="error",
        case_id=case_id,
        message="same",
        fix="",
        evidence={"same_as": other},
    )


def test_folds_count_patients_and_class_presence():
    rows = [row("a", (5, 0)), row("b", (5, 5)), row("c", (5, 0)), row("d", (0, 0))]
    table = folds_table(dataset(rows, []), SPLITS)
    assert [cells[:4] for cells in table["rows"]] == [["0", 2, 2, 1], ["1", 2, 2, 2]]
    assert [cells[5:] for cells in table["rows"]] == [[1, 0], [2, 1]]


def test_patients_with_several_cases_are_named():
    facts = dict(group_facts(SPLITS))
    assert facts["Patients"] == "3; 1 with several cases"
    assert facts["Largest"] == "p1: 2 cases"
    alone = dict(group_facts(SPLITS.model_copy(update={"groups": {}})))
    assert alone["Patients"] == "every case counts as a patient of its own"


def test_pairs_across_folds_come_first_and_once():
    found = [twin("a", "d"), twin("a", "b"), twin("b", "a"), twin("a", "test_1", "D03")]
    found.append(Finding(check_id="E01", severity="error", case_id="a", message="", fix=""))
    rows = look_alikes(found, SPLITS)["rows"]
    assert [(cells[1], cells[3], cells[5]["text"]) for cells in rows] == [
        ("a", "b", "yes"),
        ("a", "d", "no"),
        ("a", "test_1", "not in the folds"),
    ]


def test_no_pairs_no_rows():
    assert look_alikes([], SPLITS)["rows"] == []
