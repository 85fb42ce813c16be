"""Hit probabilities equal what trying every place gives."""

import numpy as np
import pytest
from audit_builders import TASK, dataset, record, usable_row
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.hits import hit_probability, measure_hits, typical_patch
from pipeline.core.errors import DataError
from pipeline.io.store import write_array

SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


def by_trying(label, patch, n_classes):
    places = [range(max(0, n - size) + 1) for n, size in zip(label.shape, patch, strict=True)]
    hits, n = np.zeros(n_classes), 0
    for i in places[0]:
        for j in places[1]:
            for k in places[2]:
                window = label[i : i + patch[0], j : j + patch[1], k : k + patch[2]]
                hits += [np.any(window == c + 1) for c in range(n_classes)]
                n += 1
    return hits / n


@given(shape=SHAPES, patch=SHAPES, seed=st.integers(0, 1000), rarity=st.floats(0.5, 0.99))
def test_every_place_counts_once(shape, patch, seed, rarity):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(shape) < rarity, 0, rng.integers(-1, 4, shape)).astype(np.int16)
    assert hit_probability(label, patch, 3) == pytest.approx(by_trying(label, patch, 3))


def test_a_patch_as_large_as_the_case_always_hits_what_is_there():
    label = np.zeros((7, 8, 9), np.int16)
    label[6, 0, 4] = 1
    assert hit_probability(label, (20, 8, 9), 2).tolist() == [1.0, 0.0]


def test_many_places_are_thinned_evenly():
    label = np.zeros((300, 1, 1), np.int16)
    label[150] = 1
    # 50 of the 251 places of a patch of 50 see the voxel.
    assert hit_probability(label, (50, 1, 1), 1)[0] == pytest.approx(50 / 251, abs=0.02)


@given(
    shape=st.tuples(*[st.integers(8, 400).map(float)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    n_voxels=st.integers(1_000, 2_000_000),
)
def test_a_typical_patch_fits_case_and_budget(shape, spacing_mm, n_voxels):
    patch = typical_patch(shape, spacing_mm, n_voxels)
    assert all(1 <= size <= n for size, n in zip(patch, shape, strict=True))
    # Rounding to whole voxels may go a little beyond.
    assert np.prod(patch) <= 1.5 * n_voxels


def test_a_typical_patch_is_even_in_mm_and_takes_small_cases_whole():
    assert typical_patch((512.0, 512.0, 200.0), (1.0, 1.0, 2.5), 96_000) == (62, 62, 25)
    assert typical_patch((36.0, 50.0, 35.0), (1.0, 1.0, 1.0), 96_000) == (36, 50, 35)


def test_cases_are_measured_on_their_own_grid_and_rare_classes_are_looked_for(tmp_path):
    labels = [np.zeros((20, 10, 10), np.uint8) for _ in range(4)]
    for label in labels:
        label[10, 5, 5] = 1
    labels[2][3, 3, 3] = 2
    rows, cases = [], []
    for n, label in enumerate(labels):
        known = record(label, f"case_{n:03d}")
        stored = write_array(tmp_path, f"{n}", label, np.eye(4), "RAS", tmp_path)
        # No image is needed to know where labels are.
        cases.append(known.model_copy(update={"label": stored, "image": None}))
        counts = (1, int(n == 2))
        spacing_mm = (0.5, 1.0, 1.0)
        rows.append(usable_row(known.case_id, counts, shape=label.shape, spacing_mm=spacing_mm))
    view = dataset(rows, cases, TASK)
    (hits,) = measure_hits(view, tmp_path, [(5, 20, 20)], (1.0, 1.0, 1.0), 2)
    # 5 voxels at 1 mm are 10 of this grid: 11 places, 10 of which hold the voxel in the middle.
    assert hits.probabilities == pytest.approx((10 / 11, 4 / 11))
    assert hits.n_cases == 3


def test_what_was_counted_is_not_counted_again(tmp_path):
    label = np.zeros((20, 10, 10), np.uint8)
    label[10, 5, 5] = 1
    known = record(label, "case_000")
    stored = write_array(tmp_path, "0", label, np.eye(4), "RAS", tmp_path)
    case = known.model_copy(update={"label": stored, "image": None})
    row = usable_row("case_000", (1, 0), shape=label.shape, spacing_mm=(1.0, 1.0, 1.0))
    view = dataset([row], [case], TASK)
    first = measure_hits(view, tmp_path, [(5, 5, 5), (9, 9, 9)], (1.0, 1.0, 1.0), 2)
    (tmp_path / stored.file).unlink()
    assert measure_hits(view, tmp_path, [(5, 5, 5), (9, 9, 9)], (1.0, 1.0, 1.0), 2) == first
    # Another patch is another question.
    with pytest.raises(DataError):
        measure_hits(view, tmp_path, [(4, 5, 5)], (1.0, 1.0, 1.0), 2)
    (tmp_path / "audit" / "hits.json").write_text("{damaged")
    with pytest.raises(DataError):
        measure_hits(view, tmp_path, [(5, 5, 5)], (1.0, 1.0, 1.0), 2)
