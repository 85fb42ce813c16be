from pathlib import Path

import numpy as np
import pytest
from audit_builders import TASK, affine, image_of, label_of, record

from pipeline.artifacts import CaseRecord, Finding
from pipeline.audit.gallery import embed_scene, open_scene, picture_scene, place_on_grid
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


def test_a_finding_is_drawn_and_embedded_where_it_is(tmp_path):
    scene = open_scene(stored_case(tmp_path, label_of()), TASK, tmp_path)
    one = finding(evidence={"voxel_ras": (3, 4, 5)})
    assert scene.point_of(one) == (3, 4, 5)
    assert picture_scene(scene, one).startswith("data:image/webp;base64,")
    volume = embed_scene(scene, one, "title")
    assert volume.data["point"] == (3, 4, 5)
    assert (volume.title, volume.note) == ("title", "what")
    assert volume.data["overlays"][0]["names"] == ["liver", "tumor"]


def test_a_finding_without_a_place_is_shown_where_the_label_is(tmp_path):
    scene = open_scene(stored_case(tmp_path, label_of()), TASK, tmp_path)
    for one in (finding(), None, finding(evidence={"voxel_ras": (1, 2)})):
        assert scene.label[scene.point_of(one)] > 0
    assert embed_scene(scene, None, "case").note == ""


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
    scene = open_scene(stored_case(tmp_path, label), TASK, tmp_path)
    assert picture_scene(scene, None)
    assert embed_scene(scene, None, "odd").n_bytes > 0


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
    assert picture_scene(open_scene(case, TASK, tmp_path), None)
    with pytest.raises(ValueError, match="no stored image"):
        open_scene(case.model_copy(update={"image": None}), TASK, tmp_path)
