import numpy as np
import phantoms
import pytest

from pipeline.core.errors import DataError, GeometryError
from pipeline.core.geometry import inverse_reorientation, reorientation_to_ras
from pipeline.core.task import LabelClass, Task
from pipeline.core.volume import Volume, reorient
from pipeline.evaluate.annotation import Unannotated
from pipeline.evaluate.score import on_common_grid, score_case, score_unpredicted, voxel_ml
from pipeline.metrics.measure import Measures

TASK = Task(
    channels=(),
    classes=(
        LabelClass(name="organ", index=1, source_values=(7,)),
        LabelClass(name="lesion", index=2, source_values=(3, 4)),
    ),
)
ONE_CLASS = Task(channels=(), classes=(LabelClass(name="organ", index=1, source_values=(1,)),))
AFFINE = np.diag([2.0, 1.0, 5.0, 1.0])
SHAPE = (6, 5, 4)


def volume(array, affine=AFFINE):
    return Volume(np.asarray(array), affine)


def binary_reference():
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[2:4, 2:4, 1:3] = 1
    return volume(array)


def moved(offset_mm):
    affine = AFFINE.copy()
    affine[1, 3] += offset_mm
    return affine


def test_source_values_become_classes_and_volumes_use_the_affine():
    array = np.zeros(SHAPE, dtype=np.int16)
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = 7, 3, 4
    prediction = array.copy()
    prediction[2, 2, 2] = 3  # another value of the same class
    scores = score_case(volume(prediction), volume(array), TASK, case_id="c")
    assert [s.dice.value for s in scores.classes] == [1.0, 1.0]
    assert scores.classes[1].reference_ml == pytest.approx(2 * 0.010)


def test_voxel_volume_of_a_sheared_grid():
    affine = AFFINE.copy()
    affine[0, 1] = 0.7
    # Shear changes the column norms, not the volume.
    assert voxel_ml(volume(np.zeros(SHAPE, np.uint8), affine)) == pytest.approx(0.010)


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SRA", "AIL"])
def test_a_prediction_in_another_axis_order_scores_the_same(orientation):
    _, label, affine = phantoms.case(3, (16, 18, 20), (1.0, 2.0, 3.0))
    other = phantoms.affine_of((16, 18, 20), (1.0, 2.0, 3.0), orientation)
    turned = reorient(Volume(label, affine), inverse_reorientation(reorientation_to_ras(other)))
    scores = score_case(turned, Volume(label, affine), TASK_12, case_id="c")
    assert turned.shape != (16, 18, 20) or orientation == "LPS"
    assert [s.dice.value for s in scores.classes] == [1.0, 1.0]


TASK_12 = Task(
    channels=(),
    classes=(
        LabelClass(name="a", index=1, source_values=(1,)),
        LabelClass(name="b", index=2, source_values=(2,)),
    ),
)


def test_nearly_equal_grids_at_45_degrees_compare_as_stored():
    turn = np.eye(4)
    c = np.sqrt(0.5)
    turn[:2, :2] = [[c, -c], [c, c]]
    slightly = np.eye(4)
    slightly[:2, :2] = [[1, -1e-7], [1e-7, 1]]
    array = binary_reference().array
    prediction, reference = Volume(array, turn), Volume(array, slightly @ turn)
    scores = score_case(prediction, reference, ONE_CLASS, case_id="c")
    assert scores.classes[0].dice.value == 1.0


def test_a_small_offset_is_scored_and_reported():
    reference = binary_reference()
    scores = score_case(volume(reference.array, moved(0.2)), reference, ONE_CLASS, case_id="c")
    assert scores.classes[0].dice.value == 1.0
    assert scores.grid_offset_voxels == pytest.approx(0.2)


def test_a_large_offset_is_refused_in_mm_and_voxels():
    reference = binary_reference()
    with pytest.raises(GeometryError, match=r"3 mm \(3 voxels\) off the reference") as caught:
        score_case(volume(reference.array, moved(3.0)), reference, ONE_CLASS, case_id="c")
    assert "grid of the label files" in caught.value.fix


def test_another_shape_is_refused():
    with pytest.raises(GeometryError, match="5x5x4 voxels, the reference 6x5x4"):
        score_case(
            volume(np.zeros((5, 5, 4), np.uint8)), binary_reference(), ONE_CLASS, case_id="c"
        )


def test_a_mirrored_header_is_refused():
    reference = binary_reference()
    mirrored = AFFINE.copy()
    mirrored[0, 0] *= -1  # same voxels, said to lie on the other side of the origin
    with pytest.raises(GeometryError):
        on_common_grid(volume(reference.array, mirrored), reference, max_displacement_voxels=0.5)


@pytest.mark.parametrize("role", ["prediction", "reference"])
@pytest.mark.parametrize(
    ("spoil", "message", "fix"),
    [
        (lambda a: a * 255, "values 0, 255; declared are 0, 1", "write 1 instead of 255"),
        (lambda a: a + 1, "values 1, 2; declared are 0, 1", "task.classes"),
        (lambda a: a * np.float32(0.9), "fractions between 0 and 1", "not probabilities"),
        (lambda a: a * np.float32(1.5), "not whole numbers", "nearest neighbour"),
        (lambda a: np.where(a, np.nan, 0.0), "NaN or infinite", "whole numbers"),
        (lambda a: np.stack([1 - a, a]), "has 2 channels", "highest channel"),
    ],
)
def test_what_is_no_label_map_is_refused_with_a_fix(role, spoil, message, fix):
    good = binary_reference()
    bad = volume(spoil(good.array))
    prediction, reference = (bad, good) if role == "prediction" else (good, bad)
    with pytest.raises(DataError, match=message) as caught:
        score_case(prediction, reference, ONE_CLASS, case_id="c")
    assert role in caught.value.what
    assert fix in caught.value.fix


def test_float_noise_on_labels_is_accepted():
    reference = binary_reference()
    noisy = volume(reference.array * np.float32(1.0000002))
    assert score_case(noisy, reference, ONE_CLASS, case_id="c").classes[0].dice.value == 1.0


def test_an_unpredicted_case_is_missed():
    scores = score_unpredicted(binary_reference(), ONE_CLASS, case_id="c")
    assert [s.status for s in scores.classes] == ["missed"]
    assert scores.classes[0].reference_ml == pytest.approx(8 * 0.010)


def test_ignored_voxels_and_undrawn_classes_are_not_scored():
    task = TASK.model_copy(update={"ignore_values": (99,)})
    reference = np.zeros(SHAPE, dtype=np.int16)
    reference[1:3] = 7
    reference[3:] = 99
    prediction = np.where(reference == 99, 3, reference).astype(np.int16)
    prediction[0] = 4
    both = {"case_id": "c", "measures": Measures(regions={"all": ("organ", "lesion")})}
    case = score_case(volume(prediction), volume(reference), task, **both)
    assert [(s.class_name, s.status) for s in case.classes] == [
        *(("organ", "ok"), ("lesion", "hallucinated"), ("all", "ok"))
    ]
    assert case.of_class("organ").dice.value == 1.0
    # At the edge of what was drawn both maps end: no distance.
    assert case.surface_of("organ").hd95_mm.value == 0.0
    declared = Unannotated(if_absent=("organ", "lesion"))
    case = score_case(volume(prediction), volume(reference), task, unannotated=declared, **both)
    assert [s.class_name for s in case.classes] == ["organ"]
    assert case.not_annotated == ("lesion", "all")
    assert [s.class_name for s in case.surfaces] == ["organ"]
    missing = score_unpredicted(
        volume(reference), task, case_id="c", unannotated=Unannotated(listed=("organ",))
    )
    assert (missing.classes, missing.not_annotated) == ((), ("organ",))


def test_calibration_asks_only_where_the_reference_can_tell():
    reference = np.zeros(SHAPE, dtype=np.int16)
    reference[0] = 7
    prediction = reference.copy()
    prediction[3] = 3
    probabilities = np.zeros((3, *SHAPE), dtype=np.float32)
    probabilities[1, 0] = probabilities[2, 3] = 1.0
    given = {"case_id": "c", "probabilities": volume(probabilities)}
    wrong = score_case(volume(prediction), volume(reference), TASK, **given)
    assert wrong.calibration_error == pytest.approx(0.5)
    declared = Unannotated(if_absent=("lesion",))
    right = score_case(volume(prediction), volume(reference), TASK, unannotated=declared, **given)
    assert right.calibration_error == pytest.approx(0.0)
