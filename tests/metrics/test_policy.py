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
