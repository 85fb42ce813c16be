import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.metrics.measure import Measures, with_measures
from pipeline.metrics.scores import score_label_maps, score_missing_prediction

NAMES = ("edema", "core", "spot")
SPACING_MM = (1.0, 1.0, 3.0)
MEASURES = Measures(
    tolerances_mm={"core": 1.0, "tumor": 4.0},
    lesion_classes=("spot",),
    regions={"tumor": ("edema", "core")},
)


def maps():
    reference = np.zeros((12, 10, 8), dtype=np.uint8)
    reference[2:8, 2:8, 2:6] = 1
    reference[4:6, 4:6, 3:5] = 2
    reference[10, 8, 6] = reference[10, 1, 1] = 3
    prediction = reference.copy()
    prediction[4:6, 4:6, 3:5] = 1
    prediction[10, 1, 1] = 0
    return prediction, reference


def measured(measures=MEASURES):
    prediction, reference = maps()
    case = score_label_maps(
        "c",
        prediction=prediction,
        reference=reference,
        class_names=NAMES,
        spacing_mm=SPACING_MM,
    )
    return with_measures(
        case,
        prediction=prediction,
        reference=reference,
        class_names=NAMES,
        spacing_mm=SPACING_MM,
        measures=measures,
    )


def test_everything_that_was_asked_is_there():
    case = measured()
    assert [s.class_name for s in case.classes] == [*NAMES, "tumor"]
    assert [s.class_name for s in case.surfaces] == [*NAMES, "tumor"]
    assert [s.tolerance_mm for s in case.surfaces] == [3.0, 1.0, 3.0, 4.0]
    spot = case.lesion_of("spot")
    assert (spot.n_reference, spot.n_detected) == (2, 1)
    assert case.lesion_of("core") is None


def test_borders_between_members_are_no_surface_of_a_region():
    case = measured()
    # The core was predicted as edema: the tumor is right, the edema is not.
    assert case.of_class("tumor").dice.value == 1
    assert case.surface_of("tumor").hd95_mm.value == 0
    assert case.surface_of("edema").assd_mm.value > 0
    assert case.surface_of("core").status == "missed"


def test_a_case_nobody_predicted_is_missed_in_everything():
    _, reference = maps()
    reference[reference == 2] = 0
    case = score_missing_prediction("c", reference=reference, class_names=NAMES, voxel_ml=0.003)
    found = with_measures(
        case,
        prediction=None,
        reference=reference,
        class_names=NAMES,
        spacing_mm=SPACING_MM,
        measures=MEASURES,
    )
    # The core is not in this reference: no policy can reward that it was not predicted.
    assert [(s.class_name, s.status) for s in found.surfaces] == [
        ("edema", "missed"),
        ("spot", "missed"),
        ("tumor", "missed"),
    ]
    assert found.lesion_of("spot").status == "missed"


def test_surfaces_can_be_left_out():
    case = measured(Measures(has_surfaces=False))
    assert case.surfaces == case.lesions == ()
    assert len(case.classes) == 3


def test_a_region_of_unknown_classes_is_refused():
    with pytest.raises(ConfigError):
        measured(Measures(regions={"tumor": ("edema", "cores")}))
