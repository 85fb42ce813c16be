"""Which class names say left or right."""

import pytest

from pipeline.core.sides import is_lateralized


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kidney_left", True),
        ("LeftParotid", True),
        ("Right lung", True),
        ("hip_l", True),
        ("lung-R", True),
        ("Anterior", False),
        ("liver", False),
        ("copyright", False),
        ("cleft", False),
        ("RIGHT_KIDNEY", True),
        ("PAROTID_LEFT", True),
        ("LEFT", True),
        ("L_Kidney", True),
        ("KidneyL", True),
        ("Parotid_Lt", True),
        ("ctx-lh-precentral", True),
        ("RV", False),
        ("L1 vertebra", False),
    ],
)
def test_sides_are_read_from_class_names(name, expected):
    assert is_lateralized(name) is expected
