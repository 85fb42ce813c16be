import numpy as np
import pytest
from audit_builders import dataset, row

from pipeline.audit.checks.edges import best_moves, best_shift, common_shift, edge_gains
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measures import AlignmentProfile, CaseMeasures

LIMITS = GridLimits()
SHIFTS = tuple(range(-10, 11))
FLIPS = ((2,), (1,), (0,), (1, 2), (0, 2), (0, 1), (0, 1, 2))


def curve(peak_at=0, height=0.6, width=2.0, bump_at=None, bump=0.0):
    """Edge ratio per shift: one peak over 1, and a second one if wanted."""
    at = np.array(SHIFTS, dtype=float)
    ratios = 1 + height * np.exp(-(((at - peak_at) / width) ** 2))
    if bump_at is not None:
        ratios = np.maximum(ratios, 1 + bump * np.exp(-(((at - bump_at) / width) ** 2)))
    return ratios


def profile(moved=None, axis=0, flips=(1.0,) * 7, *, is_assessable=True):
    moved = curve() if moved is None else moved
    ratio = float(moved[SHIFTS.index(0)])
    # The other axes peak where they should.
    plain = 1 + (ratio - 1) * (curve() - 1) / (curve()[10] - 1)
    curves = [moved if a == axis else plain for a in range(3)]
    return AlignmentProfile(
        is_assessable=is_assessable,
        reason="",
        ratio=ratio,
        shift_ratios=tuple(tuple(float(r) for r in c) for c in curves),
        shifts=SHIFTS,
        flip_ratios=tuple(float(f) for f in flips),
        flips=FLIPS,
        border_voxel=(1, 2, 3),
    )


def gains(*profiles):
    rows = [
        row(f"case_{n:03d}", ()).model_copy(update={"measures": CaseMeasures(alignment=p)})
        for n, p in enumerate(profiles)
    ]
    return edge_gains(dataset(rows, []))


def flips_of(axes, ratio):
    return tuple(ratio if f == axes else 1.0 for f in FLIPS)


def test_cases_that_cannot_be_judged_are_left_out():
    assert list(gains(profile(is_assessable=False), None, profile())) == ["case_002"]


def test_zero_ratios_are_unknown_not_bad():
    moved = curve()
    moved[:4] = 0
    (own,) = gains(profile(moved, flips=flips_of((1,), 0.0))).values()
    assert np.isnan(own.shift[0, :4]).all()
    assert np.isfinite(own.shift[0, 4:]).all()
    assert np.isnan(own.flip[FLIPS.index((1,))])


@pytest.mark.parametrize(
    ("ratios", "shift"),
    [
        (curve(), None),
        (curve(5), 5),
        (curve(-3), -3),
        (curve(1), None),  # within one voxel nothing is wrong
        (curve(10), None),  # still rising at the end: no peak was seen
        (curve(0, bump_at=6, bump=0.62), None),  # another edge, hardly better
        (1 + 0.05 * np.arange(21.0), None),  # a slope is no peak
        (curve(4, width=30.0, height=0.3), None),  # as broad as the whole range
        (np.where(np.arange(21) < 16, 0.0, 1.0), None),  # too few positions
    ],
    ids=["fits", "far", "back", "one", "end", "rival", "slope", "broad", "short"],
)
def test_a_shift_is_a_sharp_peak_somewhere_else(ratios, shift):
    log_gains = np.full((3, len(SHIFTS)), np.nan)
    np.log(ratios / max(float(ratios[10]), 1.0), out=log_gains[1], where=ratios > 0)
    found = best_shift(log_gains, SHIFTS, LIMITS)
    assert (None if found is None else (found.axes, found.shift)) == (
        None if shift is None else ((1,), shift)
    )


def test_alone_a_shift_needs_a_larger_gain():
    small = profile(curve(0, height=0.5, bump_at=6, bump=0.61))  # 7 % better
    assert best_moves(gains(small), LIMITS) == {}
    assert best_moves(gains(profile(curve(5))), LIMITS)["case_000"].shift == 5


def test_what_is_usual_in_the_cohort_is_no_shift():
    rng = np.random.default_rng(0)
    bumps = [
        profile(curve(0, height=0.5, bump_at=6, bump=0.7 + rng.uniform(-0.05, 0.05)))
        for _ in range(15)
    ]
    assert best_moves(gains(*bumps), LIMITS) == {}
    found = best_moves(gains(*bumps, profile(curve(-4), axis=2)), LIMITS)
    assert {i: (m.axes, m.shift) for i, m in found.items()} == {"case_015": ((2,), -4)}


def test_a_flip_must_beat_the_label_as_placed_and_any_shift():
    flipped = profile(curve(0, height=0.1), flips=flips_of((0, 2), 1.4))
    (move,) = best_moves(gains(flipped), LIMITS).values()
    assert (move.kind, move.axes) == ("flip", (0, 2))
    assert move.gain == pytest.approx(1.4 / 1.1)
    small = profile(curve(0, height=0.1), flips=flips_of((0,), 1.2))
    assert best_moves(gains(small), LIMITS) == {}
    shifted = profile(curve(5), flips=flips_of((0,), 1.3))
    assert best_moves(gains(shifted), LIMITS)["case_000"].kind == "shift"


def test_symmetric_anatomy_fits_mirrored_in_every_case():
    symmetric = [profile(flips=flips_of((0,), 1.9)) for _ in range(12)]
    assert best_moves(gains(*symmetric), LIMITS) == {}
    usual = [profile(flips=flips_of((0,), 1.3)) for _ in range(12)]
    found = best_moves(gains(*usual, profile(flips=flips_of((0,), 1.75))), LIMITS)
    assert list(found) == ["case_012"]  # 9 % better, where the others fit 19 % worse


def test_common_shift_needs_cases_that_agree():
    shifted = [profile(curve(4 + n % 2), axis=1) for n in range(6)]
    found = common_shift(gains(*shifted), LIMITS)
    assert found is not None
    assert (found.axes, found.shift) in {((1,), 4), ((1,), 5)}
    assert common_shift(gains(*shifted[:2]), LIMITS) is None
    assert common_shift(gains(*[profile()] * 6), LIMITS) is None
    mixed = [profile(curve(4 if n % 2 else -4)) for n in range(6)]
    assert common_shift(gains(*mixed), LIMITS) is None
