import warnings

import pytest

from benchmarks.hand_made_pairs import monai, nnunet, ours, pairs, simpleitk
from pipeline.core.errors import VoxlineError
from pipeline.metrics.policy import POLICIES
from pipeline.metrics.values import METRICS, metric_value

PAIRS = {pair.name: pair for pair in pairs()}
REFUSED = {
    "shape mismatch: one slice less": "32",
    "same shape, origin 3 mm off": "3 mm",
    "labels 0 and 255": "0, 255",
    "probabilities instead of labels": "fractions between 0 and 1",
    "NaN in the prediction": "NaN",
}
NOT_OK = {
    "both empty": "absent",
    "reference empty, prediction not": "hallucinated",
    "prediction empty, reference not": "missed",
    "prediction file missing": "missed",
}


@pytest.mark.parametrize("name", PAIRS)
def test_no_value_of_ours_leaves_its_range(name):
    found = ours(PAIRS[name])
    if isinstance(found, VoxlineError):
        assert name in REFUSED
        return
    for policy in POLICIES:
        for metric in METRICS:
            value = metric_value(found, "organ", metric.name, policy)
            if value is not None:
                assert metric.lower is None or value >= metric.lower
                assert metric.upper is None or value <= metric.upper
                assert abs(value) < 1e9


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_what_cannot_be_compared_is_refused_with_a_fix(name, words):
    found = ours(PAIRS[name])
    assert isinstance(found, VoxlineError)
    assert words in found.what
    assert found.fix


def test_every_other_pair_has_its_status():
    for name, pair in PAIRS.items():
        if name not in REFUSED:
            assert ours(pair).classes[0].status == NOT_OK.get(name, "ok"), name


def test_one_far_voxel_does_not_decide_and_one_missing_slice_does_not_vanish():
    far = ours(PAIRS["lesion of 9 voxels and one far false voxel"])
    assert far.lesions[0].n_false_alarms == 1
    assert far.classes[0].dice.value == pytest.approx(18 / 19)
    assert ours(PAIRS["5 mm slices, ball moved by one slice"]).surfaces[0].hd95_mm.value == 5


def test_peers_have_an_answer_or_an_error_for_every_pair():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pair in PAIRS.values():
            assert all(peer(pair) for peer in (monai, nnunet, simpleitk))
    assert len(PAIRS) >= 20
