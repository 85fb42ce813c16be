"""What a file is called inside its case."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.io.layouts.roles import asked_role, chosen_roles, find_role, named_roles, short_names


def roles(*names, case="case"):
    return list(named_roles([Path(f"{name}.nii.gz") for name in names], case))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("p_t1", "p_t1ce", "p_seg"), ["t1", "t1ce", "seg"]),
        (("p1_t1", "p1_t2"), ["t1", "t2"]),
        (("p1", "p1_seg"), ["image", "seg"]),
        (("T1", "T2"), ["T1", "T2"]),
        (("BraTS-GLI-01-000-t1c", "BraTS-GLI-01-000-t1n"), ["t1c", "t1n"]),
        (("case_ct",), ["ct"]),
        (("case",), ["image"]),
        (("other",), ["other"]),
    ],
)
def test_what_is_shared_goes(names, expected):
    assert roles(*names) == expected


@given(st.sets(st.from_regex(r"[a-c]{1,3}", fullmatch=True), min_size=2, max_size=5))
def test_every_file_keeps_a_name_of_its_own(parts):
    names = sorted(parts)
    assert roles(*(f"p7_{name}" for name in names)) == names


def test_short_names():
    assert short_names(["T1_N4_mni", "FLAIR_x_N4_mni"]) == ("T1", "FLAIR_x")
    assert short_names(["a_mni", "mni"]) == ("a_mni", "mni")
    assert short_names(["only_one"]) == ("only_one",)


def test_a_role_is_found_by_its_first_words():
    known = ["T1_N4", "T1POST_N4", "T2_N4", "T2_x"]
    assert find_role("T1", known) == "T1_N4"
    assert find_role("t1post", known) == "T1POST_N4"
    assert find_role("T2", known) is None
    assert find_role("T2_x", known) == "T2_x"
    assert find_role("", known) is None
    with pytest.raises(ConfigError, match="'T3'"):
        asked_role("T3", known, "ingest.label")


def test_expected_channels_count_only_together():
    known = ("flair", "t1")
    assert chosen_roles(known, asked=None, expected=("t1", "flair")) == ("t1", "flair")
    assert chosen_roles(known, asked=None, expected=("t1", "pet")) is None
    assert chosen_roles(known, asked=None, expected=()) is None
    assert chosen_roles(known, asked=("flair",), expected=("t1",)) == ("flair",)
