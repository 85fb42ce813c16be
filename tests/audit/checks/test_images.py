from dataclasses import replace

import numpy as np
import pytest
from audit_builders import TASK, affine, image_of, label_of, record, task_of, view

from pipeline.artifacts import Channel
from pipeline.audit.checks import images
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measures import CaseMeasures
from pipeline.audit.view import CaseView

SHAPE = (20, 24, 28)
CONFIG = AuditConfig()
CT = task_of("organ").model_copy(update={"channels": (Channel(name="CT", modality="ct"),)})


def seen(image, task=TASK, stored_dtype=None) -> CaseView:
    """A case with this image, measured; the file holds its number type."""
    picture = image[None]
    made = record(
        label_of(SHAPE),
        image=picture,
        image_changes={"dtype": stored_dtype or image.dtype.name},
    )
    channels = tuple(measure_channel(channel) for channel in picture)
    return replace(
        view(label_of(SHAPE), picture, task=task),
        record=made,
        measures=CaseMeasures(channels=channels),
    )


def run(case, config=CONFIG):
    return [f for check in images.CASE_CHECKS for f in check(case, config)]


def ids(case, config=CONFIG):
    return [(f.check_id, f.severity) for f in run(case, config)]


def mr(dtype=np.int16, scale=1.0):
    """A body in noise: no value stands out."""
    return np.round(image_of(SHAPE)[0] * scale).astype(dtype)


def ct():
    """Air, a body and some bone, in HU."""
    image = np.full(SHAPE, -1000.0, dtype=np.float32)
    image[4:16, 4:20, :] = image_of((12, 16, 28))[0] - 60
    image[8:10, 8:10, :] = 900
    return np.round(image + np.random.default_rng(1).normal(0, 8, SHAPE)).astype(np.int16)


# --- F11 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [mr(), mr(np.uint8), mr(np.float32), mr(np.float64)])
def test_plain_images_are_silent(image):
    assert ids(seen(image)) == []
    assert ids(seen(ct(), CT)) == []


def test_clipped_image_is_saturated_and_pictured_there():
    image = mr(scale=10).clip(max=1150)
    (finding,) = run(seen(image))
    assert (finding.check_id, finding.severity) == ("F11", "warning")
    assert finding.value == pytest.approx((image == 1150).mean())
    assert image[finding.evidence["voxel_ras"]] == 1150
    assert "1150" in finding.message


def test_background_and_masks_are_not_saturation():
    stripped = mr()
    stripped[:15] = 0
    assert ids(seen(stripped)) == []
    mask = (image_of(SHAPE)[0] > 100).astype(np.int16) * 5
    assert ids(seen(mask)) == []


def test_clipping_at_a_percentile_is_normal_for_bytes_and_floats():
    for dtype, top in (("uint8", 255), ("float32", 1.0)):
        values = image_of(SHAPE)[0]
        slight, heavy = (np.quantile(values, q) for q in (0.98, 0.9))
        for limit, expected in ((slight, []), (heavy, [("F11", "warning")])):
            image = ((values / limit).clip(0, 1) * top).astype(dtype)
            assert ids(seen(image)) == expected


def test_ends_of_the_ct_scale_are_normal_and_a_window_is_not():
    scan = ct()
    scan[:3], scan[8:10, 8:10] = -1024, 3071
    assert ids(seen(scan, CT)) == []
    assert ids(seen(ct().clip(-160, 60), CT)) == [("F11", "warning")]


def test_padding_with_the_smallest_number_of_the_type():
    image = mr()
    image[:2] = -32768
    (finding,) = run(seen(image))
    assert finding.check_id == "F11"
    assert "smallest" in finding.message
    # Rescaled files hold other numbers; their smallest value means nothing.
    assert ids(seen(image, stored_dtype="uint16")) == []


@pytest.mark.parametrize(("n", "dtype"), [(256, np.uint8), (4096, np.int16), (65536, np.uint16)])
def test_values_that_ran_over_their_number_type(n, dtype):
    i, j, k = np.indices(SHAPE)
    hill = n * 1.3 * np.exp(-((i - 10) ** 2 + (j - 12) ** 2 + (k - 14) ** 2) / 120)
    over = (np.round(hill).astype(np.int64) % n).astype(dtype)
    (finding,) = [f for f in run(seen(over)) if "ran over" in f.message]
    assert finding.check_id == "F11"
    within = np.round(hill / 1.31).astype(dtype)
    assert ids(seen(within)) == []


def test_burnt_in_text_is_no_overflow():
    image = mr(np.uint8)
    image[5:9, 5, 5:20] = 0
    image[6:8, 5, 5:20] = 255
    image[10:12] = (image[10:12] // 2) * 2
    assert ids(seen(image)) == []


def test_no_image_no_finding():
    empty = replace(seen(mr()), image=None)
    assert run(empty) == []


# --- F13 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing_mm", "word"),
    [
        ((0.001, 0.001, 0.003), "only 0.001 mm"),  # meters
        ((1000.0, 1000.0, 3000.0), "1e+03 mm"),  # micrometers
        ((1.0, 1.0, 25.0), "25 mm"),
    ],
)
def test_voxel_sizes_no_patient_has(spacing_mm, word):
    case = view(label_of(SHAPE), image_changes={"affine": sized(spacing_mm)})
    (finding,) = run(case)
    assert (finding.check_id, finding.severity) == ("F13", "warning")
    assert word in finding.message


def test_volumes_longer_than_a_patient():
    (finding,) = run(with_grid((200, 9, 9), (19.0, 1.0, 1.0)))
    assert "3.8 m" in finding.message
    whole_body = with_grid((256, 256, 700), (2.0, 2.0, 3.0))
    assert run(whole_body) == []
    one_thick_slice = with_grid((256, 256, 1), (1.0, 1.0, 40.0))
    assert run(one_thick_slice) == []


def test_other_subjects_have_other_limits():
    case = view(label_of(SHAPE), image_changes={"affine": sized((0.01, 0.01, 0.01))})
    assert ids(case) == [("F13", "warning")]
    assert ids(case, AuditConfig(images=ImageLimits(min_spacing_mm=0.001))) == []


def with_grid(shape, spacing_mm):
    case = view(label_of(SHAPE))
    changes = {"shape": shape, "affine": sized(spacing_mm)}
    files = (case.record.image_files[0].model_copy(update=changes),)
    return replace(case, record=case.record.model_copy(update={"image_files": files}))


def sized(spacing_mm):
    return tuple(tuple(float(x) for x in row) for row in affine(spacing_mm))
