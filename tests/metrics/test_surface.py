import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from pipeline.core.errors import DataError, GeometryError
from pipeline.metrics import elements, surface
from pipeline.metrics.surface import (
    default_tolerance_mm,
    is_tolerance_too_small,
    surface_scores,
)

NAMES = ("a", "b", "c")
SPACINGS = st.tuples(*[st.sampled_from([0.4, 0.7, 1.0, 2.5, 5.0])] * 3)


@st.composite
def label_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))
    maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, len(NAMES)))
    return draw(maps), draw(maps)


def scored(pair, spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=1.5):
    prediction, reference = pair
    return surface_scores(
        prediction=prediction,
        reference=reference,
        class_names=NAMES,
        spacing_mm=spacing_mm,
        tolerances_mm=dict.fromkeys(NAMES, tolerance_mm),
    )


def numbers(scores):
    return [
        [-1.0 if s.value is None else s.value for s in (c.hd95_mm, c.assd_mm, c.nsd)]
        for c in scores
    ]


def border_points_mm(mask, spacing_mm):
    return np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing_mm)


def ball(radius_mm, spacing_mm, shape, shift_mm=0.0):
    center = (np.array(shape) - 1) * spacing_mm / 2 + [shift_mm, 0, 0]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return (np.linalg.norm(grid * spacing_mm - center, axis=-1) <= radius_mm).astype(np.uint8)


@given(label_pairs(), SPACINGS)
def test_distances_are_those_of_all_pairs_of_border_voxels(pair, spacing_mm):
    for index, scores in enumerate(scored(pair, spacing_mm), start=1):
        predicted, referred = (border_points_mm(m == index, spacing_mm) for m in pair)
        assert (scores.n_prediction_elements, scores.n_reference_elements) == (
            len(predicted),
            len(referred),
        )
        if not len(predicted) or not len(referred):
            assert scores.hd95_mm.value is None
            continue
        distances = cdist(predicted, referred)
        forth, back = distances.min(axis=1), distances.min(axis=0)
        hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
        assert scores.hd95_mm.value == pytest.approx(hd95, abs=1e-9)
        assert scores.assd_mm.value == pytest.approx(np.mean([*forth, *back]), abs=1e-9)
        assert scores.assd_mm.value <= max(forth.max(), back.max()) + 1e-9


@given(label_pairs(), SPACINGS, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_turning_and_mirroring_both_maps_changes_nothing(pair, spacing_mm, axes, flips):
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    turned = [array.transpose(axes)[steps] for array in pair]
    found = scored(turned, tuple(spacing_mm[axis] for axis in axes))
    np.testing.assert_allclose(numbers(found), numbers(scored(pair, spacing_mm)), atol=1e-9)


@given(label_pairs(), SPACINGS)
def test_all_three_are_symmetric(pair, spacing_mm):
    swapped = numbers(scored(pair[::-1], spacing_mm))
    np.testing.assert_allclose(swapped, numbers(scored(pair, spacing_mm)), atol=1e-9)


@given(label_pairs(), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_background_around_the_image_changes_nothing(pair, margins):
    # The image edge is closed, so that a cut structure has a surface there.
    padded = [np.pad(m, list(zip(margins[:3], margins[3:], strict=True))) for m in pair]
    np.testing.assert_allclose(numbers(scored(padded)), numbers(scored(pair)), atol=1e-9)


@given(label_pairs(), SPACINGS, st.floats(0.1, 10))
def test_distances_scale_with_the_spacing(pair, spacing_mm, factor):
    larger = scored(pair, tuple(factor * s for s in spacing_mm), 1.5 * factor)
    for one, other in zip(scored(pair, spacing_mm), larger, strict=True):
        if one.status == "ok":
            assert other.hd95_mm.value == pytest.approx(factor * one.hd95_mm.value)
            assert other.assd_mm.value == pytest.approx(factor * one.assd_mm.value)
            assert other.nsd.value == pytest.approx(one.nsd.value)


@given(label_pairs(), SPACINGS)
def test_a_map_agrees_with_itself(pair, spacing_mm):
    for scores in scored((pair[0], pair[0]), spacing_mm):
        if scores.status == "ok":
            assert (scores.hd95_mm.value, scores.assd_mm.value) == (0, 0)
            assert scores.nsd.value == 1


@given(label_pairs(), SPACINGS, st.floats(0.1, 4), st.floats(0.1, 4))
def test_surface_dice_grows_with_the_tolerance_and_stays_in_range(pair, spacing_mm, low, more):
    for strict, lenient in zip(
        scored(pair, spacing_mm, low), scored(pair, spacing_mm, low + more), strict=True
    ):
        if strict.status == "ok":
            assert 0 <= strict.nsd.value <= lenient.nsd.value <= 1


@given(label_pairs(), SPACINGS)
def test_tree_and_distance_transform_agree(pair, spacing_mm):
    found = []
    for fraction in (-1.0, 2.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface, "DENSE_TARGETS_FRACTION", fraction)
            found.append(numbers(scored(pair, spacing_mm)))
    np.testing.assert_allclose(*found, atol=1e-9)


@given(label_pairs())
def test_block_size_memory_layout_and_dtype_do_not_matter(pair):
    expected = numbers(scored(pair))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "BLOCK_VOXELS", 10)
        np.testing.assert_allclose(numbers(scored(pair)), expected, atol=1e-12)
    mixed = (np.asfortranarray(pair[0].astype(np.int64)), pair[1].astype(np.int16))
    np.testing.assert_allclose(numbers(scored(mixed)), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_cube_moved_by_k_voxels(k):
    reference, prediction = np.zeros((2, 20, 14, 14), dtype=np.uint8)
    reference[3:11, 3:11, 3:11] = 1
    prediction[3 + k : 11 + k, 3:11, 3:11] = 1
    scores = scored((prediction, reference), (2.5, 1.0, 1.0), tolerance_mm=2.5 * k)[0]
    # The faces across the shift are more than 5 % of the surface and k voxels off.
    assert scores.hd95_mm.value == pytest.approx(2.5 * k)
    assert scores.nsd.value == 1


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0)])
def test_balls_inside_each_other(spacing_mm):
    shape = tuple(int(50 / s) for s in spacing_mm)
    pair = ball(18.0, spacing_mm, shape), ball(12.0, spacing_mm, shape)
    voxel_mm = max(spacing_mm)
    wide, narrow = (scored(pair, spacing_mm, t)[0] for t in (6 + voxel_mm, 6 - 1.5 * voxel_mm))
    assert wide.hd95_mm.value == pytest.approx(6, abs=voxel_mm)
    assert wide.assd_mm.value == pytest.approx(6, abs=voxel_mm)
    assert wide.nsd.value == 1
    assert narrow.nsd.value == pytest.approx(0, abs=0.01)


def test_a_tolerance_that_equals_the_distance_on_paper_holds():
    # 3 * 0.1 > 0.3 in floating point.
    reference, prediction = np.zeros((2, 12, 3, 3), dtype=np.uint8)
    reference[2:5], prediction[5:8] = 1, 1
    assert scored((prediction, reference), (0.1, 1.0, 1.0), 0.3)[0].nsd.value == 1


def test_statuses_and_penalties():
    reference = np.array([[[1, 1, 2, 0]]], dtype=np.uint8)
    prediction = np.array([[[1, 0, 0, 3]]], dtype=np.uint8)
    a, b, c = scored((prediction, reference), (3.0, 4.0, 5.0))
    assert [s.status for s in (a, b, c)] == ["ok", "missed", "hallucinated"]
    diagonal_mm = np.sqrt(3**2 + 4**2 + 20**2)
    for lost in (b, c):
        assert (lost.hd95_mm.value, lost.assd_mm.value, lost.nsd.value) == (None, None, 0)
        assert lost.penalized(lost.hd95_mm) == pytest.approx(diagonal_mm)
    assert a.penalized(a.hd95_mm) == a.hd95_mm.value == pytest.approx(4.75)  # 0.95 of 0 and 5 mm
    nothing = np.zeros_like(reference)
    absent = scored((nothing, nothing))[0]
    assert (absent.status, absent.nsd.value) == ("absent", None)
    assert absent.penalized(absent.hd95_mm) is None


def test_few_elements_are_flagged():
    reference = np.zeros((9, 9, 9), dtype=np.uint8)
    reference[2:7, 2:7, 2:7] = 1
    reference[0, 0, :3] = 2
    large, small, absent = scored((reference, reference))
    assert not large.has_few_elements
    assert small.has_few_elements
    assert not absent.has_few_elements


def test_default_tolerance_is_a_voxel_and_at_least_two_mm():
    assert default_tolerance_mm((0.5, 0.5, 1.0)) == 2
    assert default_tolerance_mm((0.5, 0.5, 5.0)) == 5
    assert is_tolerance_too_small(2.0, (0.5, 0.5, 5.0))
    assert not is_tolerance_too_small(2.5, (0.5, 0.5, 5.0))
    one = np.ones((2, 2, 2), dtype=np.uint8)
    found = surface_scores(
        prediction=one,
        reference=one,
        class_names=("a", "b"),
        spacing_mm=(1.0, 1.0, 4.0),
        tolerances_mm={"b": 1.0},
    )
    assert [s.tolerance_mm for s in found] == [4.0, 1.0]


def test_more_classes_than_a_byte_holds():
    reference = np.zeros((10, 10, 10), dtype=np.uint16)
    reference[4:6, 4:6, 4:6] = 300
    prediction = np.roll(reference, 1, axis=2)
    found = surface_scores(
        prediction=prediction,
        reference=reference,
        class_names=tuple(f"c{n}" for n in range(1, 301)),
        spacing_mm=(1.0, 1.0, 2.0),
    )
    assert [s.status for s in found] == ["absent"] * 299 + ["ok"]
    assert found[-1].hd95_mm.value == 2


@pytest.mark.parametrize(
    "spacing_mm", [(1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan"))]
)
def test_impossible_spacings_are_refused(spacing_mm):
    one = np.ones((2, 2, 2), dtype=np.uint8)
    with pytest.raises(DataError, match="spacing"):
        scored((one, one), tuple(float(s) for s in spacing_mm))


def test_impossible_tolerances_values_and_shapes_are_refused():
    one = np.ones((2, 2, 2), dtype=np.uint8)
    with pytest.raises(DataError, match="tolerance of 'a'"):
        scored((one, one), tolerance_mm=0.0)
    with pytest.raises(DataError, match="prediction holds the value 4"):
        scored((4 * one, one))
    with pytest.raises(GeometryError, match="differ in shape"):
        scored((one, one[:1]))
