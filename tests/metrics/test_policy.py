import pytest

from pipeline.core.errors import ConfigError
from pipeline.metrics.overlap import Score
from pipeline.metrics.policy import POLICIES, policy_named

# Rows of reference/audit_and_metrics.md 2.1: absent, hallucinated, missed.
EXPECTED = {
    "strict": (None, 0.0, 0.0),
    "nnunet": (None, 0.0, 0.0),
    "kits": (1.0, 0.0, 0.0),
    "brats": (1.0, 0.0, 0.0),
    "monai": (None, None, 0.0),
    "totalseg": (None, None, 0.0),
}


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items())
def test_what_empty_masks_count(name, expected):
    policy = policy_named(name)
    values = (
        policy.value(Score(None, "absent")),
        policy.value(Score(0.0, "hallucinated")),
        policy.value(Score(0.0, "missed")),
    )
    assert values == expected
    assert policy.value(Score(0.7, "ok")) == 0.7


def test_every_policy_is_listed_once():
    assert [p.name for p in POLICIES] == list(EXPECTED)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        policy_named("nnUnet")
    assert "did you mean 'nnunet'" in caught.value.fix


# Absent, hallucinated, missed of surface Dice and of distances, same table.
SURFACE_EXPECTED = {
    "strict": ((None, 0.0, 0.0), (None, None, None)),
    "nnunet": ((None, 0.0, 0.0), (None, None, None)),
    "kits": ((1.0, 0.0, 0.0), (None, None, None)),
    "brats": ((1.0, 0.0, 0.0), (0.0, 374.0, 374.0)),
    "monai": ((None, 0.0, 0.0), (None, None, None)),
    "totalseg": ((None, None, 0.0), (None, None, None)),
}


@pytest.mark.parametrize(("name", "expected"), SURFACE_EXPECTED.items())
def test_what_empty_masks_count_for_surfaces(name, expected):
    policy = policy_named(name)
    found = tuple(
        (
            kind.value(Score(None, "absent")),
            kind.value(Score(None, "hallucinated")),
            kind.value(Score(None, "missed")),
        )
        for kind in (policy.surface_dice, policy.distance_mm)
    )
    assert found == expected
    assert policy.distance_mm.value(Score(3.0, "ok")) == 3.0
