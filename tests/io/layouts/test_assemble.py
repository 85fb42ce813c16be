"""Channels and labels are the same for every case, or the case is named."""

from pathlib import Path

from pipeline.io.layouts.assemble import CaseParts, assemble
from pipeline.io.layouts.reading import Choice, NoFit, Reading

ROOT = Path("/data")


def parts(case_id, images, labels=(), masks=()):
    place = ROOT / case_id
    return CaseParts(
        case_id,
        place,
        {name: place / f"{name}.nii" for name in images},
        {name: place / f"{name}.nii" for name in labels},
        place / "masks" if masks else None,
        tuple(place / "masks" / f"{name}.nii" for name in masks),
    )


def read(*found, **choice):
    return assemble(found, ROOT, Choice(**choice), layout="x", looked_for="cases")


def test_what_most_cases_have_is_a_channel(tmp_path):
    reading = read(parts("a", ["t1", "t2"]), parts("b", ["t1", "t2", "extra"]), parts("c", ["t1"]))
    assert isinstance(reading, Reading)
    assert reading.channel_names == ("t1", "t2")
    assert [case.case_id for case in reading.cases] == ["a", "b"]
    assert "c has no t2" in reading.problems[0].message


def test_nothing_in_common(tmp_path):
    fit = read(parts("a", ["x", "y"]), parts("b", ["u", "v"]), parts("c", ["w", "z"]))
    assert isinstance(fit, NoFit)
    assert "common" in fit.found


def test_of_several_labels_the_plain_or_the_map_is_taken():
    for labels, chosen in ((("seg", "brain_mask"), "seg"), (("a_dseg", "b_mask"), "a_dseg")):
        reading = read(parts("a", ["t1"], labels))
        assert isinstance(reading, Reading)
        assert str(reading.cases[0].label).endswith(f"/{chosen}.nii")
    fit = read(parts("a", ["t1"], ("x_mask", "y_mask")))
    assert isinstance(fit, NoFit)
    assert "x_mask, y_mask" in fit.found


def test_one_mask_is_a_label_several_are_a_folder():
    reading = read(parts("a", ["ct"], masks=["liver"]), parts("b", ["ct"], masks=["x", "y"]))
    assert isinstance(reading, Reading)
    single, several = reading.cases
    assert (str(single.label), single.masks) == ("/data/a/masks/liver.nii", ())
    assert (str(several.label), len(several.masks)) == ("/data/b/masks", 2)


def test_a_label_asked_for_is_no_channel():
    reading = read(parts("a", ["ct", "lesion"]), parts("b", ["ct", "lesion"]), label="lesion")
    assert isinstance(reading, Reading)
    assert [len(case.images) for case in reading.cases] == [1, 1]
    assert str(reading.cases[0].label) == "/data/a/lesion.nii"
