"""The numbers advice rests on, from rows with known answers."""

import pytest
from audit_builders import TASK, dataset, usable_row

from pipeline.artifacts import QUANTILE_LEVELS, ChannelStatistics, Fold, Splits
from pipeline.audit.facts import describe_dataset
from pipeline.audit.hits import PatchHits
from pipeline.audit.limits.advice import AdviceLimits
from pipeline.audit.view import DatasetView

LEVELS = len(QUANTILE_LEVELS)


def full_row(case_id, counts=(100, 50), **changes):
    """A row whose intensities run from 0 to 1 evenly."""
    known = usable_row(case_id, counts, **changes)
    statistics = ChannelStatistics(n_voxels=10, mean=0.5, std=0.3, quantiles=QUANTILE_LEVELS)
    described = known.fingerprint.model_copy(update={"foreground": (statistics,)})
    return known.model_copy(update={"fingerprint": described})


def view_of(rows, folds=()) -> DatasetView:
    view = dataset(list(rows), [], TASK)
    return DatasetView(view.manifest, view.rows, Splits(method="given", seed=0, folds=folds))


def test_shares_presence_and_imbalance():
    rows = [full_row("a", (100, 50)), full_row("b", (300, 0))]
    facts = describe_dataset(view_of(rows), AdviceLimits())
    assert facts.shares == pytest.approx((2e-4, 2.5e-5))
    assert facts.presence == (1.0, 0.5)
    assert facts.mean_n_present == 1.5
    assert facts.rarest == "tumor"
    assert facts.class_ratio == pytest.approx(8)
    assert facts.imbalance == pytest.approx((1 - 2.25e-4) / 2.5e-5)
    assert facts.channels == (("T1", "mr", 0.005, 0.995),)


def test_class_volumes_are_those_at_target_spacing():
    rows = [full_row("a", (80, 8), spacing_mm=(1.0, 1.0, z)) for z in (1.0, 2.0, 2.0)]
    facts = describe_dataset(view_of(rows), AdviceLimits())
    assert facts.spacing_mm == (1.0, 1.0, 2.0)
    assert facts.class_voxels == (80.0, 8.0)
    assert facts.smallest_class == ("tumor", 8.0)
    assert facts.fine_spacing_mm == pytest.approx((1.0, 1.0, 1.2))


def test_a_coarse_short_axis_takes_its_tenth_percentile():
    rows = [
        full_row(str(z), spacing_mm=(1.0, 1.0, z), shape=(256, 256, 30)) for z in (4.0, 6.0, 8.0)
    ]
    facts = describe_dataset(view_of(rows), AdviceLimits())
    assert facts.is_anisotropic
    assert facts.spacing_mm == pytest.approx((1.0, 1.0, 4.4))


def test_the_class_with_the_fewest_validation_cases_is_found():
    rows = [full_row("a", (1, 1)), full_row("b", (1, 0)), full_row("c", (1, 1))]
    folds = (Fold(train=("a",), validation=("b", "c")),)
    facts = describe_dataset(view_of(rows, folds), AdviceLimits())
    assert facts.fewest_validation == ("tumor", 1, 2)


def test_foreground_sampling_raises_what_chance_would_hit():
    facts = describe_dataset(view_of([full_row("a")]), AdviceLimits())
    assert facts.hardest_hit(0.5) is None
    facts = facts.with_hits((PatchHits((32, 32, 32), (0.8, 0.1), 1),))
    assert facts.hardest_hit(0.0) == ("tumor", pytest.approx(0.1))
    # Half of the patches are centred on one of two classes.
    assert facts.hardest_hit(0.5) == ("tumor", pytest.approx(0.05 + 0.25))
    assert "10% of those of 32 x 32 x 32 voxels" in facts.describe_hits()


def test_nothing_usable_has_no_facts():
    assert describe_dataset(view_of([]), AdviceLimits()) is None
    assert describe_dataset(view_of([full_row("a", (0, 0))]), AdviceLimits()) is None


def test_only_annotated_cases_count_for_a_class():
    rows = [full_row("a", (100, 50)), full_row("b", (300, 0))]
    described = rows[1].fingerprint.model_copy(update={"unannotated": ("tumor",)})
    rows[1] = rows[1].model_copy(update={"fingerprint": described, "unannotated": ("tumor",)})
    facts = describe_dataset(view_of(rows), AdviceLimits())
    assert facts.presence == (1.0, 1.0)
    assert facts.shares == pytest.approx((2e-4, 5e-5))
