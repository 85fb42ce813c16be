import base64

import numpy as np
import pytest
from audit_builders import dataset, image_of, label_of, record, row
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.artifacts import Fold, Splits
from pipeline.audit.checks.twins import check_near_duplicates
from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.thumbnail import make_thumbnail
from pipeline.audit.measures import LEVELS, CaseMeasures, ChannelMeasures

CONFIG = AuditConfig()
SHAPE = (40, 36, 32)


def smooth(seed):
    """A picture with structure, as a scan has."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, SHAPE)
    return ndimage.gaussian_filter(noise, 4.0) * 1000 + 100


def channel_of(thumbnail):
    return ChannelMeasures(
        quantiles=(0.0,) * len(LEVELS),
        mean=0.0,
        std=1.0,
        minimum_share=0.0,
        maximum_share=0.0,
        mode=0.0,
        body_threshold=0.0,
        thumbnail=thumbnail,
    )


def cohort(volumes, *, groups=None, folds=5, contents=None):
    """Cases a, b, c, ... of these volumes; case n validates in fold n modulo `folds`."""
    ids = [chr(ord("a") + n) for n in range(len(volumes))]
    rows, cases = [], []
    for n, (case_id, volume) in enumerate(zip(ids, volumes, strict=True)):
        measures = CaseMeasures(channels=(channel_of(make_thumbnail(volume)),))
        rows.append(row(case_id, (5, 5)).model_copy(update={"measures": measures}))
        case = record(label_of(), case_id, image=image_of((8, 8, 8), seed=n))
        stored = case.image.model_copy(update={"content_hash": (contents or ids)[n]})
        cases.append(case.model_copy(update={"image": stored}))
    places = [tuple(i for k, i in enumerate(ids) if k % folds == f) for f in range(folds)]
    splits = Splits(
        method="any",
        seed=1,
        folds=tuple(Fold(train=(), validation=place) for place in places),
        groups=groups or {},
    )
    view = dataset(rows, cases)
    return type(view)(view.manifest, view.rows, splits)


def strangers(n=8):
    return [smooth(seed) for seed in range(n)]


def noisy(volume):
    return volume + np.random.default_rng(99).normal(0.0, 0.05 * volume.std(), volume.shape)


COPIES = {
    "noise": noisy,
    "other units": lambda v: v * 2.5 - 1024,
    "fewer voxels": lambda v: ndimage.zoom(v, 0.7, order=1, grid_mode=True, mode="nearest"),
    "more voxels": lambda v: ndimage.zoom(v, 1.4, order=1, grid_mode=True, mode="nearest"),
    "eight bits": lambda v: np.rint(255 * (v - v.min()) / np.ptp(v)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_in_another_fold_is_an_error(copy):
    volumes = strangers()
    volumes[5] = copy(volumes[1])
    (finding,) = check_near_duplicates(cohort(volumes, folds=3), CONFIG)
    assert (finding.check_id, finding.severity, finding.case_id) == ("D03", "error", "b")
    assert finding.evidence["same_as"] == "f"
    assert finding.value > 0.98


def test_a_copy_in_the_same_fold_is_a_warning():
    volumes = strangers()
    volumes[5] = noisy(volumes[0])
    (finding,) = check_near_duplicates(cohort(volumes, folds=5), CONFIG)
    assert finding.severity == "warning"


def test_three_copies_are_one_family():
    volumes = strangers()
    volumes[3], volumes[6] = noisy(volumes[0]), volumes[0] * 2
    (finding,) = check_near_duplicates(cohort(volumes), CONFIG)
    assert finding.evidence["same_as"] == "d, g"


def test_scans_of_one_patient_may_be_alike():
    volumes = strangers()
    volumes[5] = noisy(volumes[1])
    view = cohort(volumes, groups={"b": "p1", "f": "p1"}, folds=3)
    assert check_near_duplicates(view, CONFIG) == []


def test_exact_copies_are_left_to_d01():
    volumes = strangers()
    volumes[5] = volumes[1]
    contents = [str(n) for n in (0, 1, 2, 3, 4, 1, 6, 7)]
    assert check_near_duplicates(cohort(volumes, contents=contents), CONFIG) == []


def test_tight_crops_of_one_organ_are_no_copies():
    """All pairs are alike, because all show the same: none stands out."""
    atlas = smooth(0)
    volumes = [atlas + 0.12 * atlas.std() / 60 * (smooth(seed) - 100) for seed in range(1, 9)]
    view = cohort(volumes)
    pairs = np.corrcoef([np.frombuffer(base64.b64decode(t), np.uint8) for t in thumbnails(view)])
    assert np.median(pairs[np.triu_indices(8, 1)]) > 0.97
    assert check_near_duplicates(view, CONFIG) == []


def thumbnails(view):
    return [r.measures.channels[0].thumbnail for r in view.rows]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_few_cases_are_silent(n):
    assert check_near_duplicates(cohort([smooth(0)] * n), CONFIG) == []


def test_cases_without_a_usable_thumbnail_are_left_out():
    volumes = [*strangers(4), np.zeros(SHAPE), np.zeros((4, 4, 4))]
    assert check_near_duplicates(cohort(volumes), CONFIG) == []
    view = cohort(strangers(4))
    broken = view.rows[0].model_copy(
        update={"measures": CaseMeasures(channels=(channel_of("no base64!"),))}
    )
    assert check_near_duplicates(type(view)(view.manifest, (broken, *view.rows[1:])), CONFIG) == []


@given(st.integers(0, 10_000))
def test_strangers_are_never_copies(seed):
    volumes = [smooth((seed, n)) for n in range(4)]
    assert check_near_duplicates(cohort(volumes), CONFIG) == []
