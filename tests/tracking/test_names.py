"""Names come out in a form that MLflow itself accepts, and good ones are left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from pipeline.tracking.names import clean_name, clean_picture_key


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/loss", "train/loss"),
        ("test/left hippocampus: dice-1.0", "test/left hippocampus: dice-1.0"),
        ("nsd@2mm", "nsd_2mm"),
        ("dice (mean)[1]", "dice _mean__1_"),
        ("a//b", "a/b"),
        ("../x/.", "x"),
        ("/", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_name_is_cleaned(name, expected):
    assert clean_name(name) == expected


@given(st.text(max_size=400))
def test_mlflow_accepts_every_cleaned_name(name):
    cleaned = clean_name(name)
    _validate_metric_name(cleaned)
    _validate_param_name(cleaned)
    _validate_tag_name(cleaned)
    assert clean_name(cleaned) == cleaned


def test_pictures_have_ascii_names_in_a_section_of_their_own():
    assert clean_picture_key("overlay/fälle (3)") == "pictures/overlay f_lle _3_"
