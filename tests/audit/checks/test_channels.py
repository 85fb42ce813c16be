import numpy as np
import pytest
from audit_builders import TASK, dataset, row

from pipeline.artifacts import Channel
from pipeline.audit.checks.channels import check_channel_order
from pipeline.audit.config import AuditConfig
from pipeline.audit.measures import LEVELS, CaseMeasures, ChannelMeasures

CONFIG = AuditConfig()
NAMES = ("T1", "T2", "FLAIR")
# Air, gray matter, fluid: share of the voxels and brightness.
TISSUES = {
    "T1": ((0.4, 0.0), (0.5, 100.0), (0.1, 30.0)),
    "T2": ((0.4, 0.0), (0.5, 60.0), (0.1, 200.0)),
    "FLAIR": ((0.4, 0.0), (0.55, 110.0), (0.05, 180.0)),
}


def channel(kind, rng):
    """Gray values of one kind of scan, on the scale of a scanner of its own."""
    parts = [
        rng.normal(level, 6.0 + 0.1 * level, round(4000 * share)) for share, level in TISSUES[kind]
    ]
    values = np.concatenate(parts) * rng.uniform(0.5, 3.0) + rng.uniform(-20.0, 20.0)
    return ChannelMeasures(
        quantiles=tuple(float(q) for q in np.quantile(values, LEVELS)),
        mean=float(values.mean()),
        std=float(values.std()),
        minimum_share=0.0,
        maximum_share=0.0,
        mode=0.0,
        body_threshold=0.0,
        thumbnail="",
    )


def cohort(orders, names=NAMES):
    task = TASK.model_copy(
        update={"channels": tuple(Channel(name=n, modality="mr") for n in names)}
    )
    rng = np.random.default_rng(3)
    rows = [
        row(f"case_{n:03d}", (5, 5)).model_copy(
            update={"measures": CaseMeasures(channels=tuple(channel(k, rng) for k in order))}
        )
        for n, order in enumerate(orders)
    ]
    return dataset(rows, [], task)


def test_two_swapped_channels_are_named():
    orders = [NAMES] * 14
    orders[5] = ("T2", "T1", "FLAIR")
    (finding,) = check_channel_order(cohort(orders), CONFIG)
    assert (finding.check_id, finding.severity, finding.case_id) == ("D08", "warning", "case_005")
    assert "T1 looks like T2" in finding.message
    assert "FLAIR" not in finding.message


def test_rotated_channels_are_named():
    orders = [NAMES] * 14
    orders[0] = ("T2", "FLAIR", "T1")
    (finding,) = check_channel_order(cohort(orders), CONFIG)
    assert finding.message.count("looks like") == 3


def test_scanner_scale_does_not_matter():
    assert check_channel_order(cohort([NAMES] * 20), CONFIG) == []


def test_an_odd_channel_that_fits_no_other_is_not_swapped():
    orders = [("T1", "T2")] * 14
    orders[3] = ("FLAIR", "T2")
    assert check_channel_order(cohort(orders, ("T1", "T2")), CONFIG) == []


def test_channels_that_look_alike_are_not_swapped():
    assert check_channel_order(cohort([("T1", "T1")] * 20, ("pre", "post")), CONFIG) == []


@pytest.mark.parametrize("n", [0, 1, 9])
def test_a_few_cases_are_silent(n):
    orders = [NAMES] * n
    if n:
        orders[0] = ("T2", "T1", "FLAIR")
    assert check_channel_order(cohort(orders), CONFIG) == []


def test_one_channel_is_never_swapped():
    assert check_channel_order(cohort([("T1",)] * 12, ("T1",)), CONFIG) == []


def test_cases_with_a_constant_channel_are_left_out():
    view = cohort([NAMES] * 12)
    flat = view.rows[0].measures.channels[0].model_copy(update={"quantiles": (1.0,) * len(LEVELS)})
    channels = (flat, *view.rows[0].measures.channels[1:])
    first = view.rows[0].model_copy(update={"measures": CaseMeasures(channels=channels)})
    assert check_channel_order(type(view)(view.manifest, (first, *view.rows[1:])), CONFIG) == []
