import base64
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from pipeline.reporting.pictures import (
    CLASS_COLORS,
    as_data_uri,
    class_color,
    overlay_figure,
)

SHAPE = (20, 24, 16)


def draw(label, **options):
    image = np.random.default_rng(0).normal(100, 5, label.shape).astype(np.float32)
    settings = {"reference": None, "spacing_mm": (1.0, 1.0, 1.0), "class_names": ("a", "b")}
    return imread(
        BytesIO(overlay_figure(options.pop("image", image), label=label, **settings | options))
    )


def colored(picture, color):
    """Columns and rows of the pixels close to a color, legend excluded."""
    near = np.abs(picture[..., :3] - to_rgb(color)).max(axis=-1) < 0.12
    rows, columns = np.nonzero(near[: int(picture.shape[0] * 0.85)])
    return rows, columns


def one_voxel_block(i, j, k):
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[i : i + 4, j : j + 4, k : k + 4] = 1
    return label


def test_patient_right_is_on_the_left_of_the_axial_picture():
    right = draw(one_voxel_block(15, 10, 6))
    left = draw(one_voxel_block(1, 10, 6))
    third = right.shape[1] // 4  # the axial panel is the first
    in_panel = [[c for c in colored(p, class_color(1))[1] if c < third] for p in (right, left)]
    assert np.mean(in_panel[0]) < np.mean(in_panel[1])


def test_anterior_and_superior_are_up():
    for low, high in (((8, 2, 6), (8, 18, 6)), ((8, 10, 1), (8, 10, 11))):
        pictures = [draw(one_voxel_block(*place)) for place in (low, high)]
        rows = [np.mean(colored(picture, class_color(1))[0]) for picture in pictures]
        assert rows[1] < rows[0]


def test_voxels_keep_their_physical_aspect():
    label = np.zeros((20, 20, 10), dtype=np.uint8)
    label[5:15, 5:15, 2:8] = 1
    flat = draw(label, spacing_mm=(1.0, 1.0, 1.0))
    true = draw(label, spacing_mm=(1.0, 1.0, 2.0))
    # Twice the slice distance makes the coronal and sagittal panels half as wide for their height.
    assert true.shape[1] < 0.75 * flat.shape[1]


def test_prediction_and_reference_differ_in_line():
    label = one_voxel_block(8, 10, 6)
    alone = draw(label, reference=label * 0)
    both = draw(label * 0, reference=label)
    assert len(colored(alone, class_color(1))[0]) > 50
    assert len(colored(both, class_color(1))[0]) < len(colored(alone, class_color(1))[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(SHAPE, np.int16),
        np.full(SHAPE, np.nan, np.float32),
        np.where(np.indices(SHAPE)[0] > 3, np.inf, 1.0),
        np.where(np.indices(SHAPE)[0] > 3, 40, -1024).astype(np.int16),
    ],
    ids=["constant", "NaN", "infinite", "CT"],
)
def test_odd_images_still_give_a_picture(image):
    label = one_voxel_block(8, 10, 6)
    assert draw(label, image=image, point=(99, -3, 5)).shape[2] == 4


def test_air_does_not_use_up_the_gray_range():
    """In a CT the difference of 60 HU inside the body must be visible beside air at -1000."""
    image = np.full((30, 30, 30), -1000, np.int16)
    image[5:25, 5:25, 5:25] = 20
    image[5:15, 5:25, 5:25] = 80
    picture = draw(np.zeros(image.shape, np.uint8), image=image)
    middle = picture[picture.shape[0] // 2, : picture.shape[1] // 3, 0]
    right, left = middle[int(0.3 * middle.size)], middle[int(0.75 * middle.size)]
    assert right < 0.3
    assert left > 0.8


def test_many_classes_and_undeclared_values_fit():
    label = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 40).astype(np.uint16)
    assert draw(label).shape[0] > 100


def test_same_input_gives_the_same_bytes():
    image = np.zeros(SHAPE, np.float32)
    pictures = {
        overlay_figure(
            image,
            label=one_voxel_block(8, 10, 6),
            reference=None,
            spacing_mm=(1.0, 1.0, 1.0),
            class_names=("a",),
            title="case",
        )
        for _ in range(2)
    }
    assert len(pictures) == 1


def test_shapes_must_agree():
    # The run-time shape check of the tests speaks first; without it, a ValueError does.
    with pytest.raises((ValueError, TypeError)):
        draw(np.zeros(SHAPE, np.uint8), image=np.zeros((3, 3, 3), np.float32))


def test_colors_repeat_and_are_hex():
    assert class_color(1) == CLASS_COLORS[0] == class_color(1 + len(CLASS_COLORS))
    assert len({class_color(n) for n in range(1, 8)}) == 7


def test_data_uri_holds_the_bytes():
    uri = as_data_uri(b"png")
    assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == b"png"
