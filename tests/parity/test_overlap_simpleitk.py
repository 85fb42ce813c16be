"""Overlap counts against SimpleITK; both divide integers, so only the last bit may differ."""

import numpy as np
import pytest
import SimpleITK
from phantoms import ball

from pipeline.metrics.scores import score_label_maps

SHAPE = (30, 26, 22)
SPACING_MM = (0.8, 0.8, 2.5)


def shifted_label_maps(seed):
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        label = np.zeros(SHAPE, dtype=np.uint8)
        for index, center in enumerate([(9, 9, 9), (19, 15, 12)], start=1):
            label[ball(SHAPE, np.array(center) + rng.uniform(-2, 2, 3), 6)] = index
        maps.append(label)
    return maps


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_iou_equal_simpleitk(seed):
    prediction, reference = shifted_label_maps(seed)
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    measure.Execute(SimpleITK.GetImageFromArray(reference), SimpleITK.GetImageFromArray(prediction))
    case = score_label_maps(
        "c",
        prediction=prediction,
        reference=reference,
        class_names=("a", "b"),
        spacing_mm=SPACING_MM,
    )
    for index, scores in enumerate(case.classes, start=1):
        assert scores.dice.value == pytest.approx(measure.GetDiceCoefficient(index), abs=1e-12)
        assert scores.iou.value == pytest.approx(measure.GetJaccardCoefficient(index), abs=1e-12)


def test_volumes_equal_simpleitk():
    prediction, reference = shifted_label_maps(0)
    image = SimpleITK.GetImageFromArray(reference.T)
    image.SetSpacing(SPACING_MM)
    shape = SimpleITK.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    case = score_label_maps(
        "c",
        prediction=prediction,
        reference=reference,
        class_names=("a", "b"),
        spacing_mm=SPACING_MM,
    )
    for index, scores in enumerate(case.classes, start=1):
        assert scores.reference_ml == pytest.approx(shape.GetPhysicalSize(index) / 1000, rel=1e-9)
