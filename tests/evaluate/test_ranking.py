from pipeline.evaluate.ranking import case_dice, worst_case, worst_class, worst_first
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.policy import policy_named
from pipeline.metrics.scores import CaseScores

NAMES = ("a", "b")
STRICT, KITS = policy_named("strict"), policy_named("kits")


def case(case_id, *rows):
    return CaseScores(
        case_id, tuple(OverlapScores(n, *row, 0.001) for n, row in zip("ab", rows, strict=False))
    )


GOOD = case("good", (9, 1, 1), (5, 0, 0))
BAD = case("bad", (1, 4, 4), (0, 0, 3))
EMPTY = case("empty", (0, 0, 0), (0, 0, 0))


def test_worst_first_and_undefined_last():
    assert [c.case_id for c in worst_first([EMPTY, GOOD, BAD], STRICT, NAMES)] == [
        "bad",
        "good",
        "empty",
    ]
    assert case_dice(EMPTY, STRICT, NAMES) is None
    assert case_dice(EMPTY, KITS, NAMES) == 1.0


def test_the_worst_class_and_case():
    assert worst_class(BAD, STRICT, NAMES) == ("b", 0.0)
    assert worst_class(EMPTY, STRICT, NAMES) is None
    assert worst_case([GOOD, BAD, EMPTY], "a", STRICT) == ("bad", 0.2)
    assert worst_case([EMPTY], "a", STRICT) is None
    assert worst_case([GOOD], "unknown", STRICT) is None


def test_ties_are_broken_by_name():
    other = CaseScores("aaa", GOOD.classes)
    assert [c.case_id for c in worst_first([GOOD, other], STRICT, NAMES)] == ["aaa", "good"]


def test_regions_do_not_enter_the_mean_of_a_case():
    region = OverlapScores("all", 1, 0, 9, 0.001)
    with_region = CaseScores("c", (*GOOD.classes, region))
    assert case_dice(with_region, STRICT, NAMES) == case_dice(GOOD, STRICT, NAMES)
    assert worst_class(with_region, STRICT, NAMES) == ("a", 0.9)
