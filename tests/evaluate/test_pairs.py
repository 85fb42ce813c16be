from pathlib import Path

import pytest

from pipeline.core.errors import UsageError
from pipeline.evaluate.pairs import bare_case_id, pair_cases


def files(*case_ids):
    return {case_id: Path(f"{case_id}.nii.gz") for case_id in case_ids}


def test_the_references_decide():
    pairing = pair_cases(files("c", "a", "x"), files("b", "a", "c"))
    assert [(p.case_id, p.prediction is None) for p in pairing.pairs] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert pairing.extra_predictions == ("x.nii.gz",)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("liver_07_pred", "liver_07"),
        ("liver_07", "liver_07_seg"),
        ("liver_07_0000", "liver_07"),
        ("liver_07_Prediction", "liver_07_label"),
        ("liver_07_0000_pred", "liver_07"),
    ],
)
def test_additions_to_the_case_id_do_not_matter(prediction, reference):
    pair = pair_cases(files(prediction), files(reference)).pairs[0]
    assert pair.case_id == reference
    assert pair.prediction == Path(f"{prediction}.nii.gz")


def test_numbers_that_are_part_of_the_id_stay():
    pairing = pair_cases(
        files("patient_0001", "patient_0002"), files("patient_0001_seg", "patient_0002_seg")
    )
    assert [p.prediction and p.prediction.name for p in pairing.pairs] == [
        "patient_0001.nii.gz",
        "patient_0002.nii.gz",
    ]


def test_an_exact_name_wins_over_a_similar_one():
    pairing = pair_cases(files("a", "a_pred"), files("a"))
    assert pairing.pairs[0].prediction == Path("a.nii.gz")
    assert pairing.extra_predictions == ("a_pred.nii.gz",)


def test_two_candidates_are_refused():
    with pytest.raises(UsageError, match=r"a_pred\.nii\.gz, a_seg\.nii\.gz"):
        pair_cases(files("a_pred", "a_seg", "b"), files("a", "b"))


def test_nothing_in_common_names_both_sides():
    with pytest.raises(UsageError, match=r"named x\.nii\.gz, references a\.nii\.gz"):
        pair_cases(files("x"), files("a"))
    with pytest.raises(UsageError, match="holds no volume"):
        pair_cases({}, files("a"))
    with pytest.raises(UsageError, match="no reference labels"):
        pair_cases(files("x"), {})


def test_a_name_made_of_additions_stays():
    assert bare_case_id("pred") == "pred"
