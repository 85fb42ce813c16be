import numpy as np
import pytest
import SimpleITK

from pipeline.metrics.surface import surface_scores

# Ours are voxel centers of border voxels on both sides, and so are SimpleITK's contours.
TOLERANCE_MM = 1e-4


def ball(center, radius, shape=(30, 28, 26)):
    grid = np.indices(shape).reshape(3, -1).T - np.array(center)
    return (np.linalg.norm(grid, axis=1) <= radius).reshape(shape).astype(np.uint8)


def contour_distances_mm(own, other, spacing_mm):
    """Distances of the contour voxels of one mask to those of the other, by SimpleITK."""
    images = []
    for mask in (own, other):
        image = SimpleITK.GetImageFromArray(mask.transpose())
        image.SetSpacing(spacing_mm)
        images.append(SimpleITK.LabelContour(image, fullyConnected=False))
    # Exact, where Danielsson's map is a hundredth of a voxel off in places.
    to_other = SimpleITK.SignedMaurerDistanceMap(
        images[1], squaredDistance=False, useImageSpacing=True
    )
    is_contour = SimpleITK.GetArrayViewFromImage(images[0]) > 0
    return np.abs(SimpleITK.GetArrayViewFromImage(to_other)[is_contour])


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 1.2, 3.0)])
def test_hd95_and_assd_agree_with_contours_and_distance_maps(spacing_mm):
    # Away from the image edge, where SimpleITK leaves contours open and ours close them.
    reference = ball((14, 13, 12), 8) | ball((9, 9, 17), 5)
    prediction = ball((15, 13, 13), 8)
    scores = surface_scores(
        prediction=prediction, reference=reference, class_names=("a",), spacing_mm=spacing_mm
    )[0]
    forth = contour_distances_mm(prediction, reference, spacing_mm)
    back = contour_distances_mm(reference, prediction, spacing_mm)
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    assert scores.hd95_mm.value == pytest.approx(hd95, abs=TOLERANCE_MM)
    assd = np.concatenate([forth, back]).mean()
    assert scores.assd_mm.value == pytest.approx(assd, abs=TOLERANCE_MM)


def test_hd95_stays_below_the_hausdorff_distance():
    reference, prediction = ball((14, 13, 12), 8), ball((15, 13, 13), 8)
    prediction[1, 1, 1] = 1  # one far false positive: 5 % of the surface may be anywhere
    scores = surface_scores(
        prediction=prediction,
        reference=reference,
        class_names=("a",),
        spacing_mm=(1.0, 1.0, 1.0),
    )[0]
    measure = SimpleITK.HausdorffDistanceImageFilter()
    measure.Execute(SimpleITK.GetImageFromArray(reference), SimpleITK.GetImageFromArray(prediction))
    assert scores.hd95_mm.value < 2 < measure.GetHausdorffDistance()
