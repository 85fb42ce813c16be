"""One file per class becomes one label map."""

from dataclasses import replace

import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import FileFormatError
from pipeline.io.masks import load_masks, mask_name
from pipeline.io.pairing import CaseFiles

AFFINE = phantoms.affine_of((4, 5, 6), (1, 1, 2), "LPS")


def case_of(folder, masks, affine=AFFINE, **options):
    for name, mask in masks.items():
        phantoms.write_nifti(folder / "seg" / f"{name}.nii.gz", mask, affine)
    files = tuple(folder / "seg" / f"{name}.nii.gz" for name in masks)
    return CaseFiles("c", (folder / "ct.nii.gz",), folder / "seg", files, **options)


def mask_of(*corners, dtype=np.uint8, value=1):
    mask = np.zeros((4, 5, 6), dtype)
    for start, stop in corners:
        mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return mask


LIVER = mask_of(((0, 0, 0), (2, 2, 2)))
SPLEEN = mask_of(((2, 2, 2), (4, 4, 4)), dtype=np.float32, value=255)


def test_masks_are_merged_by_name(tmp_path):
    case = case_of(
        tmp_path,
        {"liver": LIVER, "nothing": np.zeros_like(LIVER), "spleen": SPLEEN},
        label_values={"liver": (7,), "nothing": (8,), "spleen": (300, 2)},
    )
    facts, volume = load_masks(case, root=tmp_path)
    assert volume.array.dtype == np.uint16
    assert np.array_equal(volume.array, 7 * (LIVER > 0) + 300 * (SPLEEN > 0))
    assert np.allclose(volume.affine, AFFINE)
    assert (facts.file, facts.segments) == ("seg", {"liver": 7, "nothing": 8, "spleen": 300})
    assert facts.n_bytes == sum(file.stat().st_size for file in case.masks)
    _, plain = load_masks(replace(case, label_values=None), root=tmp_path)
    assert plain.array.dtype == np.uint8
    assert np.unique(plain.array).tolist() == [0, 1, 3]


def test_overlaps_are_counted_unless_ordered(tmp_path):
    both = mask_of(((0, 0, 0), (1, 2, 2)))
    case = case_of(tmp_path, {"liver": LIVER, "tumor": both, "spleen": SPLEEN})
    with pytest.raises(FileFormatError, match="'tumor' and 'liver' in 4 voxels") as caught:
        load_masks(case, root=tmp_path)
    assert (caught.value.check_id, caught.value.where) == ("E10", "seg")
    for order, value in ((("liver", "tumor"), 3), (("tumor", "liver"), 1)):
        _, volume = load_masks(replace(case, mask_order=order), root=tmp_path)
        assert volume.array[0, 0, 0] == value
    with pytest.raises(FileFormatError, match="overlap"):
        load_masks(replace(case, mask_order=("liver", "spleen")), root=tmp_path)
    # Two names of one class may overlap as they like.
    same = {"liver": (1,), "tumor": (1,), "spleen": (2,)}
    _, volume = load_masks(replace(case, label_values=same), root=tmp_path)
    assert np.array_equal(volume.array == 1, LIVER > 0)


def test_masks_of_value_0_are_not_looked_at(tmp_path):
    both = mask_of(((0, 0, 0), (1, 2, 2)))
    case = case_of(tmp_path, {"body": both, "liver": LIVER, "tumor": both})
    (tmp_path / "seg" / "body.nii.gz").write_bytes(b"not even a volume")
    values = {"body": (0,), "liver": (0,), "tumor": (5,)}
    facts, volume = load_masks(replace(case, label_values=values), root=tmp_path)
    assert np.array_equal(volume.array, 5 * both)
    assert facts.segments == {"tumor": 5}
    nothing = {"body": (0,), "liver": (0,), "tumor": (0,)}
    case = replace(case, masks=case.masks[1:], label_values=nothing)
    facts, volume = load_masks(case, root=tmp_path)
    assert (volume.shape, volume.array.any(), facts.segments) == (LIVER.shape, False, {})


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=120, max_size=120))
def test_splitting_a_map_and_merging_it_again_changes_nothing(tmp_path_factory, values):
    label = np.array(values, np.uint8).reshape(4, 5, 6)
    folder = tmp_path_factory.mktemp("masks")
    masks = {f"c{n}": (label == n).astype(np.uint8) for n in (1, 2, 3)}
    _, volume = load_masks(case_of(folder, masks), root=folder)
    assert np.array_equal(volume.array, label)


def test_masks_that_are_none(tmp_path):
    several = mask_of(((0, 0, 0), (1, 1, 1)))
    several[3, 3, 3] = 2
    with pytest.raises(FileFormatError, match="1 to 2") as caught:
        load_masks(case_of(tmp_path, {"a": several}), root=tmp_path)
    assert (caught.value.check_id, caught.value.where) == ("E03", "seg/a.nii.gz")
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    for other, affine, words in ((LIVER, shifted, "corners"), (LIVER[:3], AFFINE, "shape")):
        case = case_of(tmp_path, {"a": LIVER})
        phantoms.write_nifti(tmp_path / "seg" / "b.nii.gz", other, affine)
        case = replace(case, masks=(*case.masks, tmp_path / "seg" / "b.nii.gz"))
        with pytest.raises(FileFormatError, match=words) as caught:
            load_masks(case, root=tmp_path)
        assert caught.value.check_id == "G01"
    with pytest.raises(FileFormatError, match="no masks"):
        load_masks(replace(case, masks=()), root=tmp_path)


def test_names_of_masks(tmp_path):
    assert mask_name(tmp_path / "case1_liver.nii.gz", "case1") == "liver"
    assert mask_name(tmp_path / "liver.nrrd", "case1") == "liver"
    assert mask_name(tmp_path / "case1.nii", "case1") == "case1"


def test_real_masks(shared_data):
    folder = shared_data / "ct_totalseg" / "example_seg_fast"
    files = tuple(sorted(folder.glob("*.nii.gz")))
    case = CaseFiles("x", (), folder, files)
    facts, volume = load_masks(case, root=shared_data)
    assert len(facts.segments) == len(files)
    assert volume.array.max() <= len(files)
    assert np.count_nonzero(volume.array) > 0
