import logging
import shutil

import numpy as np
import pytest
from dicom_phantoms import (
    PLANTED,
    plant_identifiers,
    replace_uids,
    rtstruct,
    save,
    series_slices,
    write_series,
)
from phantoms import affine_of

from pipeline.core.errors import FileFormatError, VoxlineError
from pipeline.core.volume import Volume
from pipeline.io.dicom.load import load_dicom_label, load_series
from pipeline.io.dicom.write_seg import write_dicom_seg
from pipeline.io.load import LabelContext

SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)


def some_array():
    return np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)


def square(k):
    voxels = [(0.5, 0.5, k), (3.5, 0.5, k), (3.5, 3.5, k), (0.5, 3.5, k)]
    return np.array(voxels) @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def test_facts_of_a_series_are_those_of_its_grid(tmp_path):
    folder = write_series(tmp_path / "case" / "ct", some_array(), AFFINE, rescale=(1, -5))
    facts, volume = load_series(folder, root=tmp_path)
    assert volume.array.shape == (1, *SHAPE)
    np.testing.assert_array_equal(volume.array[0], some_array() - 5)
    assert facts.file == "case/ct"
    assert (facts.format, facts.dtype, facts.shape) == ("dicom", "int16", SHAPE)
    assert facts.affine_source == "direction"
    assert facts.pixdim_mm == pytest.approx((0.7, 0.9, 2.5), abs=1e-6)
    assert (facts.scl_slope, facts.scl_inter) == (1.0, -5.0)
    assert facts.n_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert facts.oblique_degrees > 15
    assert facts.shear_degrees < 1e-3
    np.testing.assert_allclose(facts.affine, AFFINE, atol=1e-6)


def test_a_tilted_gantry_is_in_the_facts(tmp_path):
    affine = affine_of(SHAPE, (1, 1, 2), "LPS")
    affine[1, 2] = 2 * np.tan(np.radians(12))
    facts, _ = load_series(write_series(tmp_path, some_array(), affine), root=tmp_path)
    assert facts.shear_degrees == pytest.approx(12, abs=0.01)
    assert facts.notes == ("gantry tilt of 12.0 degrees, kept as shear of the grid",)


@pytest.fixture
def labelled(tmp_path):
    slices = series_slices(some_array(), AFFINE)
    folder = save(tmp_path / "ct", slices)
    dataset = rtstruct(slices, {"liver": [square(1)], "cord": [square(2)], "iso": []})
    dataset.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    return tmp_path / "rs.dcm", folder


def test_a_label_lies_on_the_grid_of_its_image(labelled, tmp_path):
    file, folder = labelled
    facts, label = load_dicom_label(file, root=tmp_path, context=LabelContext(folder, None))
    image_facts, image = load_series(folder, root=tmp_path)
    np.testing.assert_array_equal(label.affine, image.affine)
    assert label.shape == image.shape
    assert label.array[1:4, 1:4, 1].tolist() == [[1] * 3] * 3
    assert np.count_nonzero(label.array) == 18
    assert (facts.file, facts.format, facts.dtype) == ("rs.dcm", "dicom_rtstruct", "uint8")
    assert facts.segments == {"liver": 1, "cord": 2}
    assert facts.affine == image_facts.affine
    assert facts.notes == ("regions without a closed contour: iso",)


def test_classes_choose_and_number_the_structures(labelled, tmp_path):
    file, folder = labelled
    context = LabelContext(folder, {"cord": (9,)})
    facts, label = load_dicom_label(file, root=tmp_path, context=context)
    assert np.unique(label.array).tolist() == [0, 9]
    assert facts.segments == {"cord": 9}
    assert "structures that are no class: liver" in facts.notes


def test_an_image_is_no_label(labelled, tmp_path):
    _, folder = labelled
    context = LabelContext(folder, None)
    with pytest.raises(FileFormatError, match="no DICOM-SEG and no RTSTRUCT") as info:
        load_dicom_label(folder / "000.dcm", root=tmp_path, context=context)
    assert info.value.check_id == "F05"


# --- privacy --------------------------------------------------------------------------------------


@pytest.fixture
def identified(tmp_path):
    """A series and a label with a planted identifier in every textual element."""
    slices = series_slices(some_array(), AFFINE)
    replace_uids(slices)
    for dataset in slices:
        plant_identifiers(dataset)
    folder = save(tmp_path / "ct", slices)
    dataset = rtstruct(slices, {"liver": [square(1)], "cord": [square(1)]})
    plant_identifiers(dataset)
    dataset.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    return tmp_path / "rs.dcm", folder


def check_clean(text):
    assert [word for word in PLANTED if word in text] == []


def test_nothing_that_identifies_leaves_a_readable_series(identified, tmp_path, caplog, capfd):
    file, folder = identified
    assert all(word.encode() in (folder / "000.dcm").read_bytes() for word in PLANTED)
    with caplog.at_level(logging.DEBUG):
        facts, _ = load_series(folder, root=tmp_path)
        context = LabelContext(folder, {"liver": (1,)})
        label_facts, _ = load_dicom_label(file, root=tmp_path, context=context)
    check_clean(facts.model_dump_json() + label_facts.model_dump_json())
    check_clean(caplog.text + "".join(capfd.readouterr()))


def break_pixels(folder):
    file = folder / "001.dcm"
    file.write_bytes(file.read_bytes()[:-30])


def remove_slice(folder):
    (folder / "001.dcm").unlink()


def repeat_slice(folder):
    shutil.copy(folder / "001.dcm", folder / "copy.dcm")


def mix_series(folder):
    slices = series_slices(some_array(), AFFINE, modality="MR")
    for dataset in slices:
        plant_identifiers(dataset)
    save(folder, slices, "mr{}.dcm")


def damage_bytes(folder):
    for file in folder.iterdir():
        raw = bytearray(file.read_bytes())
        for at in range(400, len(raw), 97):
            raw[at] ^= 0x55
        file.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    "damage", [break_pixels, remove_slice, repeat_slice, mix_series, damage_bytes]
)
def test_nothing_that_identifies_leaves_a_refused_series(
    identified, tmp_path, caplog, capfd, damage
):
    _, folder = identified
    damage(folder)
    with caplog.at_level(logging.DEBUG), pytest.raises(VoxlineError) as info:
        load_series(folder, root=tmp_path)
    check_clean(str(info.value) + repr(info.value) + caplog.text + "".join(capfd.readouterr()))


def test_a_refused_label_names_its_structures_alone(identified, tmp_path):
    file, folder = identified
    with pytest.raises(FileFormatError, match="'liver' and 'cord'") as info:
        load_dicom_label(file, root=tmp_path, context=LabelContext(folder, None))
    check_clean(str(info.value))


# --- damaged files --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["series", "seg", "rtstruct"])
def test_no_damaged_file_ends_in_a_traceback(tmp_path, kind):
    """1000 files each with changed, removed or repeated bytes: a volume, or a named problem."""
    slices = series_slices(some_array(), AFFINE, rescale=(1, -5))
    folder = save(tmp_path / "ct", slices)
    label = tmp_path / "label.dcm"
    if kind == "seg":
        masks = Volume((some_array() > 0).astype(np.uint8), AFFINE)
        write_dicom_seg(
            label,
            masks,
            source_folder=folder,
            class_names=["a"],
            values=[1],
            model_name="m",
        )
    else:
        dataset = rtstruct(slices, {"liver": [square(1)], "cord": [square(2)]})
        dataset.save_as(label, enforce_file_format=True)
    file = folder / "001.dcm" if kind == "series" else label
    original = file.read_bytes()
    outcomes = set()
    for seed in range(1000):
        file.write_bytes(damaged(original, seed))
        try:
            load_dicom_label(label, root=tmp_path, context=LabelContext(folder, None))
            load_series(folder, root=tmp_path)
            outcomes.add("read")
        except FileFormatError as error:
            outcomes.add(error.check_id)
    assert "read" in outcomes
    assert len(outcomes) > 3


def damaged(raw, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(raw)
    for at in rng.integers(128, len(content), 1 + seed % 8):
        content[at] = rng.integers(256)
    start, stop = sorted(rng.integers(132, len(content), 2))
    if seed % 5 == 1:
        del content[start : min(stop, start + 40)]
    if seed % 5 == 2:
        content[start:start] = content[start:stop]
    if seed % 5 == 3:
        del content[stop:]
    return bytes(content)
