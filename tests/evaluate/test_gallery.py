import nibabel as nib
import numpy as np
import phantoms
import pytest

from pipeline.core.task import LabelClass, Task
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.gallery import (
    CONFUSED,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    error_map,
    pair_map,
    picture_cases,
)
from pipeline.evaluate.pairs import CasePair
from pipeline.io.discover import list_volumes
from pipeline.reporting.pictures import class_color

TASK = Task(
    channels=(),
    classes=(
        LabelClass(name="a", index=1, source_values=(1,)),
        LabelClass(name="b", index=2, source_values=(2,)),
    ),
)


@pytest.fixture
def dataset(tmp_path):
    return phantoms.write_dataset(tmp_path, 3, shape=(18, 20, 16))


def pairs_of(dataset):
    labels = list_volumes(dataset / "labelsTr")
    return [CasePair(case_id, file, file) for case_id, file in labels.items()]


def draw(pairs, dataset, n=6):
    images = list_volumes(dataset / "imagesTr")
    return picture_cases(pairs, images, TASK, EvaluateConfig(n_worst_pictures=n))


def test_pictures_keep_the_order_and_the_limit(dataset):
    pictures = draw(list(reversed(pairs_of(dataset))), dataset, n=2)
    assert [p.case_id for p in pictures] == ["case_002", "case_001"]
    for picture in pictures:
        assert picture.errors_uri.startswith("data:image/webp;base64,")
        assert picture.outlines_uri.startswith("data:image/webp;base64,")
        assert picture.volume.title == picture.case_id
    assert draw(pairs_of(dataset), dataset, n=0) == ()


def test_disagreement_is_counted(dataset, tmp_path):
    pair = pairs_of(dataset)[0]
    image = nib.load(pair.reference)
    label = np.asarray(image.dataobj).copy()
    label[0, 0, 0], label[0, 0, 1] = 1, 2
    other = phantoms.write_nifti(tmp_path / "p.nii.gz", label, image.affine)
    pictures = draw([CasePair(pair.case_id, other, pair.reference), pair], dataset)
    # The second pair has the same id, and its prediction is the reference itself.
    assert [p.n_disagreeing_voxels for p in pictures] == [2, 0]


def test_cases_without_image_or_prediction_are_skipped(dataset):
    first, second, third = pairs_of(dataset)
    pairs = [CasePair(first.case_id, None, first.reference), CasePair("x", *_files(second)), third]
    assert [p.case_id for p in draw(pairs, dataset)] == ["case_002"]


def _files(pair):
    return pair.prediction, pair.reference


def test_an_unreadable_image_is_skipped(dataset):
    image = list_volumes(dataset / "imagesTr")["case_000"]
    image.write_bytes(b"not a volume at all, but a text")
    assert [p.case_id for p in draw(pairs_of(dataset), dataset)] == ["case_001", "case_002"]


PREDICTION = np.array([0, 1, 0, 1, 2, 2], np.uint8).reshape(1, 2, 3)
REFERENCE = np.array([0, 0, 2, 1, 1, 2], np.uint8).reshape(1, 2, 3)


def test_every_voxel_is_one_kind_of_error():
    found = error_map(PREDICTION, REFERENCE).ravel().tolist()
    assert found == [
        *(0, FALSE_POSITIVE, FALSE_NEGATIVE),
        *(TRUE_POSITIVE, CONFUSED, TRUE_POSITIVE),
    ]


def test_the_viewer_names_the_classes_of_every_kind():
    overlay = pair_map(PREDICTION, REFERENCE, ("a", "b"))
    names = [None if v == 0 else overlay.names[v - 1] for v in overlay.array.ravel()]
    assert names == [
        *(None, "a: predicted only", "b: reference only"),
        *("a: both", "a predicted as b", "b: both"),
    ]
    colors = dict(zip(overlay.names, overlay.colors, strict=True))
    assert colors["a: both"] == colors["b: both"] == class_color(TRUE_POSITIVE)
    assert colors["a predicted as b"] == class_color(CONFUSED)


def test_the_viewer_opens_where_the_maps_differ(dataset, tmp_path):
    pair = pairs_of(dataset)[0]
    image = nib.load(pair.reference)
    label = np.asarray(image.dataobj).copy()
    label[2:5, 3, 4] = 2
    other = phantoms.write_nifti(tmp_path / "p.nii.gz", label, image.affine)
    (picture,) = draw([CasePair(pair.case_id, other, pair.reference)], dataset)
    assert picture.n_disagreeing_voxels == 3
    to_ras = nib.io_orientation(image.affine)
    assert [int(axis) for axis in to_ras[:, 0]] == [0, 1, 2]
    point = [
        n - 1 - p if flip < 0 else p
        for p, n, flip in zip(picture.volume.data["point"], label.shape, to_ras[:, 1], strict=True)
    ]
    assert label[tuple(point)] == 2
    assert point[1:] == [3, 4]
