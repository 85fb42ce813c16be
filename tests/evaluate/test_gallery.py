import nibabel as nib
import numpy as np
import phantoms
import pytest

from pipeline.core.task import LabelClass, Task
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.gallery import picture_cases
from pipeline.evaluate.pairs import CasePair
from pipeline.io.discover import list_volumes

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
    assert all(p.png.startswith(b"\x89PNG") for p in pictures)
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
