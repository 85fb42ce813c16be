"""What was not drawn: by list, or by its absence."""

from pipeline.evaluate.annotation import EVERYTHING_DRAWN, Unannotated

NAMES = ("liver", "kidney", "spleen")


def test_listed_classes_stay_unknown_and_absent_ones_only_where_they_are_absent():
    declared = Unannotated(listed=("spleen",), if_absent=("liver", "kidney"))
    assert declared.among(NAMES, present=("liver", "spleen")) == ("kidney", "spleen")
    assert declared.among(NAMES, present=()) == NAMES
    assert EVERYTHING_DRAWN.among(NAMES, present=()) == ()
