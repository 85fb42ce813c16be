import io
from dataclasses import replace

import numpy as np
import pytest
from audit_builders import TASK, label_of, task_of, view
from matplotlib.image import imread, imsave
from phantoms import affine_of, ball, write_nifti
from PIL import Image
from scipy import ndimage

from pipeline.artifacts import Problem
from pipeline.audit.checks import codes
from pipeline.audit.config import AuditConfig

SHAPE = (24, 28, 20)
CONFIG = AuditConfig()
ONE = task_of("organ")


def run(case):
    return [f for check in codes.CASE_CHECKS for f in check(case, CONFIG)]


# --- E10 ------------------------------------------------------------------------------------------


@pytest.fixture
def stacked(tmp_path):
    """A case whose label file of several volumes ingest refused."""

    def make(volumes):
        array = np.stack(volumes, axis=-1)
        affine = affine_of(array.shape[:3], (1.0, 1.0, 1.0))
        write_nifti(tmp_path / "label.nii.gz", array, affine)
        problem = Problem(
            check_id="F06", file="label.nii.gz", message="label: a fourth axis", fix="write one"
        )
        case = view(label_of(SHAPE))
        record = case.record.model_copy(
            update={"problems": (problem,), "label": None, "status": "unreadable"}
        )
        return replace(case, record=record, label=None, values=None, dataset_root=tmp_path)

    return make


LIVER = ball(SHAPE, (12, 14, 10), 5)
TUMOR = ball(SHAPE, (13, 14, 10), 2)
KIDNEY = ball(SHAPE, (4, 4, 4), 2)


def masks(*given, dtype=np.uint8, on=1):
    return [mask.astype(dtype) * dtype(on) for mask in given]


@pytest.mark.parametrize(
    ("volumes", "severity", "word"),
    [
        (masks(LIVER, KIDNEY), "warning", "do not overlap"),
        (masks(LIVER, KIDNEY, on=255), "warning", "do not overlap"),
        (masks(~(LIVER | KIDNEY), LIVER, KIDNEY), "warning", "one-hot"),
        (masks(LIVER, TUMOR), "error", "overlap in"),
        (masks(LIVER, KIDNEY * 2 + TUMOR), "error", "no masks"),
    ],
)
def test_a_stack_of_masks_is_told_apart(stacked, volumes, severity, word):
    (finding,) = run(stacked(volumes))
    assert (finding.check_id, finding.severity) == ("E10", severity)
    assert word in finding.message
    assert f"{len(volumes)} volumes" in finding.message


def test_probabilities_add_up_to_one(stacked):
    soft = ndimage.gaussian_filter(LIVER.astype(np.float32), 1.0).clip(0, 1)
    (finding,) = run(stacked([soft, 1 - soft]))
    assert (finding.severity, "probabilities" in finding.message) == ("error", True)
    (finding,) = run(stacked([soft, soft]))
    assert "no masks" in finding.message


def test_overlap_is_measured_and_placed(stacked):
    (finding,) = run(stacked(masks(LIVER, TUMOR)))
    assert finding.value == pytest.approx(TUMOR.mean())
    assert TUMOR[finding.evidence["voxel_in_file"]]


def test_empty_masks_are_masks(stacked):
    (finding,) = run(stacked(masks(LIVER, np.zeros_like(LIVER))))
    assert finding.severity == "warning"


def test_without_the_file_the_stack_is_left_to_its_dimensions(stacked, tmp_path):
    case = stacked(masks(LIVER, KIDNEY))
    assert run(replace(case, dataset_root=None)) == []
    (tmp_path / "label.nii.gz").unlink()
    assert run(case) == []
    assert run(view(label_of(SHAPE))) == []


# --- E13 ------------------------------------------------------------------------------------------


def jpeg(label, quality):
    slices = []
    for k in range(label.shape[2]):
        picture = io.BytesIO()
        Image.fromarray(label[:, :, k]).save(picture, "JPEG", quality=quality)
        slices.append(np.asarray(Image.open(picture)))
    return np.stack(slices, axis=-1)


def anatomy(*values):
    """Up to three structures far from each other."""
    shape = (48, 52, 20)
    label = np.zeros(shape, np.uint8)
    centers = ((14, 14, 10), (34, 36, 10), (14, 38, 10))
    for value, center in zip(values, centers, strict=False):
        label[ball(shape, center, (9, 9, 7))] = value
    return label


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
@pytest.mark.parametrize("values", [(255,), (127, 254), (85, 170, 255)])
def test_masks_that_went_through_jpeg(quality, values):
    (finding,) = run(view(jpeg(anatomy(*values), quality), task=ONE))
    assert (finding.check_id, finding.severity) == ("E13", "error")
    assert "lossy compression" in finding.message


def test_jpeg_is_found_even_if_every_gray_value_was_taken_for_a_class():
    label = jpeg(anatomy(255), 75)
    declared = task_of(*(f"class_{value}" for value in range(1, 256)))
    (finding,) = run(view(label, task=declared))
    assert finding.check_id == "E13"


def test_png_keeps_masks_as_they_are(tmp_path):
    label = anatomy(127, 254)
    for k in range(label.shape[2]):
        imsave(tmp_path / f"{k}.png", label[:, :, k], cmap="gray", vmin=0, vmax=255)
    again = [np.rint(imread(tmp_path / f"{k}.png")[..., 0] * 255) for k in range(label.shape[2])]
    assert run(view(np.stack(again, axis=-1).astype(np.uint8), task=ONE)) == []


def test_many_classes_are_no_palette_declared_or_not():
    label = np.zeros((40, 40, 40), np.uint8)
    for n in range(24):
        i, j = divmod(n, 5)
        label[i * 8 : i * 8 + 6, j * 8 : j * 8 + 6, 4:30] = n + 1 if n < 12 else n + 60
    assert run(view(label, task=ONE)) == []
    assert run(view(label, task=task_of(*(f"organ {n}" for n in range(90))))) == []


def test_an_image_is_no_palette():
    image = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    assert run(view(image)) == []
    assert run(view(image.astype(np.int16) - 100)) == []


def test_other_faults_are_no_palette():
    assert run(view(label_of(SHAPE))) == []
    assert run(view((label_of(SHAPE) > 0).astype(np.uint8) * 255, task=ONE)) == []
    soft = ndimage.gaussian_filter(label_of(SHAPE).astype(np.float32) * 100, 1)
    assert run(view(soft)) == []  # E03 reports values between integers
    assert run(view(np.zeros(SHAPE, np.uint8), task=TASK)) == []
