import base64
from pathlib import Path

import numpy as np
import pytest
from audit_builders import TASK, affine, image_of, label_of, record

from pipeline.artifacts import CaseRecord, Finding
from pipeline.audit.gallery import picture_case, picture_finding, place_on_grid
from pipeline.io.store import write_array


def stored_case(
    root: Path, label: np.ndarray, label_affine: np.ndarray | None = None
) -> CaseRecord:
    at = affine() if label_affine is None else label_affine
    image = write_array(root / "store", "image", image_of((10, 12, 14)), affine(), "RAS", root)
    stored = write_array(root / "store", "label", label, at, "RAS", root)
    return record(label_of()).model_copy(update={"image": image, "label": stored})


def finding(**changes):
    known = {"check_id": "E01", "severity": "error", "case_id": "case_000"}
    return Finding(**(known | {"message": "what", "fix": "how"} | changes))


def test_a_finding_is_shown_with_its_text(tmp_path):
    case = stored_case(tmp_path, label_of())
    picture = picture_finding(finding(evidence={"voxel_ras": (3, 4, 5)}), case, TASK, tmp_path)
    assert picture.heading == "E01 undeclared label values: case_000"
    assert (picture.kind, picture.badge, picture.fix) == ("bad", "error", "how")
    png = base64.b64decode(picture.uri.removeprefix("data:image/png;base64,"))
    assert png.startswith(b"\x89PNG")
    waived = picture_finding(finding(waived="seen"), case, TASK, tmp_path)
    assert (waived.kind, waived.fix) == ("plain", "Waived: seen")


@pytest.mark.parametrize(
    "label",
    [
        label_of().astype(np.float32) + 0.4,
        np.full((10, 12, 14), np.nan, np.float32),
        label_of() * 127,
        label_of()[:, :, :9],
        np.arange(1680).reshape(10, 12, 14),
    ],
    ids=["fractions", "NaN", "undeclared", "other shape", "image"],
)
def test_faulty_labels_can_be_shown(tmp_path, label):
    picture = picture_case(stored_case(tmp_path, label), TASK, tmp_path, "odd")
    assert picture.badge == "odd"


def test_a_label_is_drawn_where_its_header_puts_it(tmp_path):
    label = label_of().astype(np.uint16)
    shifted = affine()
    shifted[:3, 3] = (2.0, -4.0, 3.0)  # two, two and one voxel
    case = stored_case(tmp_path, label, shifted)
    drawn = place_on_grid(label, case.label, case.image)
    assert np.array_equal(drawn[2:, :-2, 1:], label[:-2, 2:, :-1])
    assert not drawn[:2].any()


def test_a_label_of_another_shape_keeps_its_place(tmp_path):
    label = label_of()[:, :, 3:].astype(np.uint16)
    at = affine()
    at[2, 3] = 9.0  # three slices of 3 mm
    case = stored_case(tmp_path, label, at)
    assert np.array_equal(
        place_on_grid(label, case.label, case.image),
        np.where(np.indices((10, 12, 14))[2] >= 3, label_of(), 0),
    )


def test_no_label_is_a_plain_picture(tmp_path):
    case = stored_case(tmp_path, label_of()).model_copy(update={"label": None})
    assert picture_case(case, TASK, tmp_path, "image").uri
    with pytest.raises(ValueError, match="no stored image"):
        picture_case(case.model_copy(update={"image": None}), TASK, tmp_path, "")
