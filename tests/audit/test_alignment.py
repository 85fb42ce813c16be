import numpy as np
import pytest
from audit_builders import affine, image_of, view

from pipeline.audit.alignment import fits_as_header_says

SHAPE = (20, 16, 14)


def lopsided_label():
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 3:9, 2:8] = 1
    return label


def picture_of(label):
    return (100.0 * label + image_of(label.shape)[0] / 10)[None].astype(np.float32)


def flipped_affine(axis):
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1.0, SHAPE[axis] - 1.0
    return affine() @ flip


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tells_a_true_header_from_a_lying_one(axis):
    label = lopsided_label()
    at = flipped_affine(axis)
    image = picture_of(label)
    assert fits_as_header_says(view(label, image, label_at=at))
    assert not fits_as_header_says(view(np.flip(label, axis), image, label_at=at))


def test_no_contrast_no_verdict():
    label = lopsided_label()
    flat = np.full((1, *SHAPE), 7, np.int16)
    assert not fits_as_header_says(view(label, flat, label_at=flipped_affine(0)))
    empty = np.zeros(SHAPE, np.uint8)
    assert not fits_as_header_says(view(empty, picture_of(label), label_at=flipped_affine(0)))


def test_permuted_axes_of_different_length_allow_one_reading_only():
    label = lopsided_label()
    permuted = np.zeros((4, 4))
    permuted[0, 1], permuted[1, 0], permuted[2, 2], permuted[3, 3] = 1.0, 2.0, 3.0, 1.0
    assert fits_as_header_says(view(label, picture_of(label), label_at=permuted))
