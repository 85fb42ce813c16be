from typing import get_args

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.metrics.measure import Measures, with_measures
from pipeline.metrics.policy import POLICIES, policy_named
from pipeline.metrics.scores import CaseScores, score_label_maps
from pipeline.metrics.values import METRICS, MetricName, metric_named, metric_value

NAMES = ("ok", "missed", "hallucinated", "absent")
STRICT = policy_named("strict")
DIAGONAL_MM = np.linalg.norm([10, 8, 16])


@pytest.fixture(scope="module")
def case():
    reference = np.zeros((10, 8, 8), dtype=np.uint8)
    prediction = reference.copy()
    reference[1:5, 1:5, 1:5], prediction[2:6, 1:5, 1:5] = 1, 1
    reference[7, 1:3, 1:3] = 2
    prediction[8, 5:7, 5:7] = 3
    maps = {
        "prediction": prediction,
        "reference": reference,
        "class_names": NAMES,
        "spacing_mm": (1.0, 1.0, 2.0),
    }
    return with_measures(
        score_label_maps("c", **maps), **maps, measures=Measures(lesion_classes=NAMES)
    )


def row(case, metric, policy):
    return [metric_value(case, name, metric, policy_named(policy)) for name in NAMES]


# ok, missed, hallucinated, absent: reference/audit_and_metrics.md 2.1.
@pytest.mark.parametrize(
    ("metric", "policy", "expected"),
    [
        ("dice", "strict", [0.75, 0, 0, None]),
        ("dice", "kits", [0.75, 0, 0, 1]),
        ("dice", "monai", [0.75, 0, None, None]),
        ("hd95_mm", "strict", [1, None, None, None]),
        ("hd95_mm", "brats", [1, 374, 374, 0]),
        ("hd95_mm", "monai", [1, None, None, None]),
        ("hd95_penalized_mm", "strict", [1, DIAGONAL_MM, DIAGONAL_MM, None]),
        ("nsd", "strict", [1, 0, 0, None]),
        ("nsd", "kits", [1, 0, 0, 1]),
        ("nsd", "monai", [1, 0, 0, None]),
        ("nsd", "totalseg", [1, 0, None, None]),
        ("precision", "strict", [0.75, None, 0, None]),
        ("precision", "totalseg", [0.75, None, None, None]),
        ("recall", "strict", [0.75, 0, None, None]),
        ("volume_error_ml", "strict", [0, -0.008, 0.008, None]),
        ("absolute_volume_error_ml", "strict", [0, 0.008, 0.008, None]),
        ("volume_error_percent", "strict", [0, -100, None, None]),
        ("lesion_f1", "strict", [1, 0, 0, None]),
        ("lesion_recall", "strict", [1, 0, None, None]),
        ("lesion_precision", "strict", [1, None, 0, None]),
        ("lesion_dice", "kits", [0.75, 0, 0, 1]),
    ],
)
def test_what_every_status_counts(case, metric, policy, expected):
    assert row(case, metric, policy) == [
        None if value is None else pytest.approx(value) for value in expected
    ]


def test_every_metric_is_described_once_and_stays_in_its_range(case):
    assert [m.name for m in METRICS] == list(get_args(MetricName))
    for metric in METRICS:
        assert metric.definition.endswith(".")
        low = -np.inf if metric.lower is None else metric.lower
        high = np.inf if metric.upper is None else metric.upper
        for policy in POLICIES:
            for value in row(case, metric.name, policy.name):
                assert value is None or low <= value <= high


def test_what_was_not_scored_has_no_value():
    empty = CaseScores("c", ())
    assert all(metric_value(empty, "ok", m.name, STRICT) is None for m in METRICS)


def test_an_unknown_metric_gets_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        metric_named("hd95")
    assert "hd95_mm" in caught.value.fix
