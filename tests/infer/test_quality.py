"""Quality flags: every planted oddity fires, ordinary cases do not, and the words are plain."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_builders import model_info

from pipeline.artifacts import (
    CaseFingerprint,
    CaseRecord,
    LabelClass,
    Range,
    StoredArray,
    Task,
    TrainingRanges,
)
from pipeline.audit.fingerprint import channel_statistics
from pipeline.core.geometry import Geometry, Reorientation
from pipeline.core.task import Channel, map_label_values
from pipeline.core.volume import Volume, reorient, to_ras
from pipeline.infer.quality import (
    MAX_FLIP_DISAGREEMENT,
    count_classes,
    quality_flags,
    quality_line,
)
from pipeline.io.channels import load_image
from pipeline.io.load import load_volume
from pipeline.train.ranges import training_ranges

SHAPE = (20, 24, 16)
SPACING = (1.0, 1.0, 3.0)
EXTENT = (20.0, 24.0, 48.0)


def around(value: float, share: float = 0.1) -> Range:
    low, high = value * (1 - share), value * (1 + share)
    return Range(lowest=low, p01=low, median=value, p99=high, highest=high)


def trained(n_cases: int = 100, **changes) -> object:
    values = {
        "n_cases": n_cases,
        "spacing_mm": tuple(around(v) for v in SPACING),
        "extent_mm": tuple(around(v) for v in EXTENT),
        "orientations": {"RAS": n_cases},
        "intensities": ((around(100), around(10), around(80), around(100), around(120)),),
        # 512 voxels of 0.003 ml; 64 of them.
        "volumes_ml": {"class_1": around(1.536), "class_2": around(0.192)},
        "absent_fraction": {"class_1": 0.0, "class_2": 0.0},
    }
    ranges = TrainingRanges(**{**values, **changes})
    return model_info().model_copy(update={"training_ranges": ranges})


def label() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[2:10, 2:10, 2:10] = 1
    found[12:16, 12:16, 2:6] = 2
    return found


def image(spacing=SPACING, offset: float = 0.0, contrast: float = 1.0) -> Volume:
    rng = np.random.default_rng(0)
    voxels = np.full(SHAPE, -500.0)
    inside = label() > 0
    voxels[inside] = 100 + contrast * rng.normal(0, 10, np.count_nonzero(inside))
    return Volume((voxels + offset)[None].astype(np.float32), np.diag([*spacing, 1.0]))


def flags(volume=None, found=None, info=None, *, native=None, flip=None):
    volume = image() if volume is None else volume
    native = volume.geometry if native is None else native
    found = label() if found is None else found
    info = trained() if info is None else info
    return quality_flags(volume, found, info, native=native, flip_disagreement=flip)


def kinds(*args, **more) -> list[str]:
    return [flag.kind for flag in flags(*args, **more)]


def test_an_ordinary_case_raises_no_flag():
    assert flags() == ()
    assert quality_line(flags()) == "nothing unusual"


def test_thick_slices_are_named_with_their_direction_and_unit():
    # The extent grows along.
    spacing, extent = flags(image(spacing=(1.0, 1.0, 9.0)))[:2]
    assert spacing.kind == "spacing"
    assert spacing.value == 9.0
    expected = "voxels are 9 mm long foot to head (training cases: 2.7 to 3.3 mm)"
    assert spacing.message == expected
    assert extent.kind == "extent"
    assert "covers 144 mm foot to head" in extent.message


def test_a_cropped_field_of_view_is_named():
    volume = image()
    cropped = Volume(volume.array[:, :12], volume.affine)
    (flag,) = flags(cropped, label()[:12])[:1]
    assert (flag.kind, flag.value) == ("extent", 12.0)
    assert flag.expected == "18 to 22 mm"


def test_an_axis_order_never_seen_in_training_is_named():
    flipped = reorient(image(), Reorientation((0, 1, 2), (True, True, False))).geometry
    (flag,) = flags(native=flipped)
    assert (flag.kind, flag.value, flag.expected) == ("orientation", "LPS", "RAS")
    assert "left and right" in flag.message


@pytest.mark.parametrize("offset", [-1024.0, 1024.0, 60.0])
def test_an_intensity_offset_is_named(offset):
    (flag,) = flags(image(offset=offset))
    assert flag.kind == "intensity"
    assert "MR0" in flag.message
    assert flag.value == pytest.approx(100 + offset, abs=2)


def test_another_contrast_is_named():
    (flag,) = flags(image(contrast=3.0))
    assert flag.kind == "intensity"
    assert "varies by" in flag.message


@pytest.mark.parametrize(("offset", "is_odd"), [(0.0, False), (3000.0, True)])
def test_with_nothing_found_the_image_itself_must_have_such_voxels(offset, is_odd):
    nothing = np.zeros(SHAPE, np.uint8)
    found = kinds(image(offset=offset), nothing)
    assert ("intensity" in found) == is_odd
    assert found.count("missing") == 2


def test_a_class_that_is_not_found_although_training_cases_have_it_is_named():
    found = label()
    found[found == 2] = 0
    (flag,) = flags(found=found)
    assert flag.kind == "missing"
    assert flag.message == "class_2 was not found (100 % of the training cases have it)"
    rare = trained(absent_fraction={"class_1": 0.0, "class_2": 0.3})
    assert kinds(found=found, info=rare) == []


def test_volumes_are_judged_in_ml():
    found = label()
    found[2:18, 2:18, 2:14][found[2:18, 2:18, 2:14] == 0] = 1
    (flag,) = [f for f in flags(image(), found) if f.kind == "volume"]
    assert flag.value == pytest.approx(np.count_nonzero(found == 1) * 0.003)
    assert flag.message.startswith("class_1 measures 9.0")
    assert flag.expected == "1.38 to 1.69 ml"


def test_volumes_are_judged_by_the_cases_in_which_the_class_was_drawn():
    found = label()
    found[14:16, 12:16, 2:6] = 0  # half of class_2 is left
    assert kinds(found=found) == ["volume"]
    few = trained().model_copy(update={"n_annotated_cases": {"class_2": 3}})
    assert kinds(found=found, info=few) == []
    found[found == 2] = 0
    (flag,) = flags(found=found, info=few)
    assert flag.message == "class_2 was not found (100 % of the 3 annotated cases have it)"


def test_what_was_drawn_around_ignored_voxels_is_a_least_volume():
    large, small = label(), label()
    large[12:16, 12:20, 2:10] = 2
    small[13:16, 12:16, 2:6] = 0
    assert "volume" in kinds(found=large)
    assert "volume" in kinds(found=small)
    info = trained()
    task = info.task.model_copy(update={"ignore_values": (255,)})
    info = info.model_copy(update={"task": task})
    assert "volume" not in kinds(found=large, info=info)
    assert "volume" in kinds(found=small, info=info)


def test_swapped_classes_are_two_flags():
    found = label()
    swapped = np.array([0, 2, 1], np.uint8)[found]
    assert kinds(found=swapped) == ["volume", "volume"]


def test_a_class_never_seen_in_training_has_no_expected_volume():
    assert kinds(info=trained(volumes_ml={}, absent_fraction={})) == []


def test_mirrored_predictions_that_disagree_are_named():
    assert kinds(flip=MAX_FLIP_DISAGREEMENT) == []
    (flag,) = flags(flip=0.45)
    assert flag.kind == "mirror"
    assert "45 %" in flag.message
    old = model_info()
    assert kinds(info=old) == []
    assert kinds(info=old, flip=0.45) == ["mirror"]


def test_with_few_training_cases_only_gross_differences_count():
    few = trained(5)
    assert kinds(image(spacing=(1.0, 1.0, 5.0)), info=few) == []
    assert "spacing" in kinds(image(spacing=(1.0, 1.0, 9.0)), info=few)
    assert "spacing" in kinds(image(spacing=(1.0, 1.0, 5.0)))
    assert kinds(info=few, native=Geometry(SHAPE, np.diag([-1.0, -1.0, 3.0, 1.0]))) == []


def test_many_flags_are_one_short_line():
    found = flags(image(spacing=(5.0, 5.0, 15.0)))
    assert len(found) > 3
    line = quality_line(found)
    assert line.startswith("check: ")
    assert line.endswith(f"and {len(found) - 3} more")


def test_a_negative_voxel_order_changes_nothing():
    volume, found = image(), label()
    turned = Volume(volume.array[:, ::-1].copy()[:, ::-1], volume.affine)
    assert flags(turned, found[::-1].copy()[::-1]) == ()


@given(st.integers(10, 400), st.floats(0.91, 1.09), st.sampled_from([0, 1, 2]))
def test_nothing_within_what_was_seen_is_ever_flagged(n_cases, factor, axis):
    spacing = [*SPACING]
    spacing[axis] *= factor
    assert "spacing" not in kinds(image(spacing=tuple(spacing)), info=trained(n_cases))


def test_classes_are_counted_plane_by_plane():
    counts = count_classes(label(), 2)
    assert counts.tolist() == [512, 64]
    assert count_classes(np.zeros(SHAPE, np.uint8), 0).tolist() == []


def real_case(root, name: str, task: Task):
    """Image, label, file grid, fingerprint and record of a real case."""
    loaded = load_image([root / "imagesTr" / name], root=root)
    _, native = load_volume(root / "labelsTr" / name, root=root, role="label")
    found = map_label_values(np.ascontiguousarray(to_ras(native).array), task)
    inside = found > 0
    row = CaseFingerprint(
        case_id=name,
        shape=loaded.volume.shape,
        spacing_mm=loaded.volume.geometry.spacing_mm,
        foreground=tuple(channel_statistics(c[inside]) for c in loaded.volume.array),
        nonzero_fraction=1.0,
        n_class_voxels=tuple(int(n) for n in count_classes(found, len(task.classes))),
    )
    stored = StoredArray(
        file="",
        dtype="",
        shape=loaded.volume.array.shape,
        affine=loaded.facts.affine,
        source_orientation=loaded.native.orientation,
        content_hash="",
    )
    record = CaseRecord(case_id=name, status="ready", image=stored)
    return loaded.volume, found, loaded.native, row, record


def task_of(root) -> Task:
    labels = json.loads((root / "dataset.json").read_text())["labels"]
    classes = tuple(
        LabelClass(name=name, index=int(value), source_values=(int(value),))
        for value, name in sorted(labels.items())
        if int(value)
    )
    return Task(channels=(Channel(name="image", modality="other"),), classes=classes)


@pytest.mark.parametrize(
    ("dataset", "step"),
    [
        ("Task04_Hippocampus", 4),
        pytest.param("OpenKBP_HeadNeck", 2, marks=pytest.mark.slow),
    ],
)
def test_at_most_one_in_twenty_real_held_out_cases_is_flagged(shared_data, dataset, step):
    root = shared_data / dataset
    task = task_of(root)
    names = sorted(file.name for file in (root / "labelsTr").iterdir())[::step]
    # A fifth is held out; only its voxels are kept.
    trained_on = [real_case(root, name, task)[3:] for n, name in enumerate(names) if n % 5]
    rows, records = zip(*trained_on, strict=True)
    info = model_info().model_copy(
        update={"task": task, "training_ranges": training_ranges(rows, records, task)}
    )
    lines = []
    held_out = names[::5]
    for name in held_out:
        volume, found, native, *_ = real_case(root, name, task)
        if flagged := quality_flags(volume, found, info, native=native):
            lines.append(f"{name}: {quality_line(flagged)}")
        far = Volume(volume.array, volume.affine @ np.diag([1.0, 1.0, 3.0, 1.0]))
        assert "spacing" in {f.kind for f in quality_flags(far, found, info, native=native)}
        lost = np.where(found == 1, 0, found)
        assert "missing" in {f.kind for f in quality_flags(volume, lost, info, native=native)}
    assert len(lines) <= max(1, len(held_out) // 20), lines
