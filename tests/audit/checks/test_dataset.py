from dataclasses import replace

import numpy as np
import pytest
from audit_builders import TASK, dataset, image_of, label_of, record, row, task_of

from pipeline.artifacts import CaseFingerprint, Fold, Problem, Splits
from pipeline.audit.checks import dataset as checks
from pipeline.audit.config import AuditConfig

CONFIG = AuditConfig()


def rows_of(*counts):
    return [row(f"case_{n:03d}", count) for n, count in enumerate(counts)]


def splits_of(*validation):
    folds = tuple(Fold(train=(), validation=ids) for ids in validation)
    return Splits(method="any", seed=1, folds=folds)


def found(findings):
    return [(f.check_id, f.severity) for f in findings]


def test_files_without_a_partner():
    problem = Problem(check_id="F01", file="a.nii", message="no label", fix="add it")
    view = dataset([], [])
    view = type(view)(view.manifest.model_copy(update={"problems": (problem,)}), ())
    assert found(checks.check_unpaired(view, CONFIG)) == [("F01", "error")]


def test_wide_label_types_are_counted():
    cases = [record(label_of(), label_changes={"dtype": d}) for d in ("uint8", "float64", "int32")]
    (finding,) = checks.check_label_types(dataset([], cases), CONFIG)
    assert (finding.severity, finding.value) == ("info", 2)
    assert checks.check_label_types(dataset([], cases[:1]), CONFIG) == []


def test_orientations_over_the_dataset_are_information():
    case = record(label_of())
    other = case.model_copy(
        update={"image": case.image.model_copy(update={"source_orientation": "LPS"})}
    )
    assert found(checks.check_orientations(dataset([], [case, other]), CONFIG)) == [("G08", "info")]
    assert checks.check_orientations(dataset([], [case, case]), CONFIG) == []


def one_value(case_id, value):
    return row(case_id, (1, 1)).model_copy(update={"label_values": (0, value)})


@pytest.mark.parametrize(
    ("values", "fires"),
    [((1, 255), True), ((1, 1), False), ((255, 255), False), ((1, 2), False), ((0, 1), False)],
)
def test_masks_of_mixed_coding(values, fires):
    rows = [one_value(str(n), value) for n, value in enumerate(values)]
    assert bool(checks.check_mixed_coding(dataset(rows, []), CONFIG)) is fires


def test_a_255_beside_other_classes_is_a_class():
    rows = [row("a", (1, 1)).model_copy(update={"label_values": (0, 1, 255)}), one_value("b", 1)]
    assert checks.check_mixed_coding(dataset(rows, []), CONFIG) == []


def test_a_class_that_is_nowhere_is_an_error_and_a_rare_one_a_warning():
    nowhere = checks.check_absent_classes(dataset(rows_of((5, 0), (5, 0)), []), CONFIG)
    assert found(nowhere) == [("E05", "error")]
    often = checks.check_absent_classes(dataset(rows_of((5, 1), (5, 0), (5, 1)), []), CONFIG)
    assert found(often) == [("E05", "warning")]
    seldom = checks.check_absent_classes(dataset(rows_of((5, 0), *[(5, 1)] * 9), []), CONFIG)
    assert seldom == []


def test_many_empty_labels():
    rows = rows_of((0, 0), *[(5, 1)] * 3)
    assert found(checks.check_many_empty(dataset(rows, []), CONFIG)) == [("E08", "error")]
    assert checks.check_many_empty(dataset(rows, []), AuditConfig(allow_empty=True)) == []
    assert checks.check_many_empty(dataset(rows_of((0, 0), *[(5, 1)] * 4), []), CONFIG) == []


def test_gaps_in_the_values():
    assert checks.check_value_gaps(dataset([], []), CONFIG) == []
    gap = task_of("a", "b")
    gap = gap.model_copy(
        update={
            "classes": (gap.classes[0], gap.classes[1].model_copy(update={"source_values": (5,)}))
        }
    )
    assert found(checks.check_value_gaps(dataset([], [], gap), CONFIG)) == [("E06", "info")]


def test_duplicates_are_an_error_only_across_folds():
    label = label_of()
    cases = [
        record(label, "a", image=image_of(label.shape, seed=1)),
        record(label, "b", image=image_of(label.shape, seed=1)),
        record(label, "c", image=image_of(label.shape, seed=2)),
    ]
    view = dataset([], cases)
    apart = replace(view, splits=splits_of(("a",), ("b", "c")))
    across = checks.check_duplicates(apart, CONFIG)
    assert found(across) == [("D01", "error")]
    assert "a, b" in across[0].message
    together = replace(view, splits=splits_of(("a", "b"), ("c",)))
    within = checks.check_duplicates(together, CONFIG)
    assert found(within) == [("D01", "warning")]


def test_duplicates_with_other_labels_say_so():
    label = label_of()
    image = image_of(label.shape)
    cases = [record(label, "a", image=image), record(np.flip(label).copy(), "b", image=image)]
    (finding,) = checks.check_duplicates(dataset([], cases), CONFIG)
    assert "different labels" in finding.message


def test_one_label_for_two_images_unless_it_is_empty():
    label = label_of()
    cases = [record(label, n, image=image_of(label.shape, seed=s)) for n, s in (("a", 1), ("b", 2))]
    filled = [row("a", (9, 9)), row("b", (9, 9))]
    assert found(checks.check_repeated_labels(dataset(filled, cases), CONFIG)) == [("D02", "error")]
    empty = [row("a", (0, 0)), row("b", (0, 0))]
    assert checks.check_repeated_labels(dataset(empty, cases), CONFIG) == []
    same = [record(label, n, image=image_of(label.shape)) for n in ("a", "b")]
    assert checks.check_repeated_labels(dataset(filled, same), CONFIG) == []


def test_one_usable_case_is_not_enough():
    fingerprint = CaseFingerprint(
        case_id="a",
        shape=(8, 8, 8),
        spacing_mm=(1.0, 1.0, 1.0),
        foreground=(),
        nonzero_fraction=1.0,
        n_class_voxels=(1, 1),
    )
    usable = [row(i, (1, 1)).model_copy(update={"fingerprint": fingerprint}) for i in ("a", "b")]
    assert found(checks.check_usable(dataset(usable[:1], []), CONFIG)) == [("D05", "error")]
    assert checks.check_usable(dataset(usable, []), CONFIG) == []
    assert TASK.class_names == ("liver", "tumor")


def folds_of(*presence):
    """Folds whose validation cases show the second class as often as given: (with, without)."""
    rows, validation = [], []
    for n, (n_with, n_without) in enumerate(presence):
        counts = [(9, 5)] * n_with + [(9, 0)] * n_without
        here = [row(f"f{n}_{k:02d}", count) for k, count in enumerate(counts)]
        rows += here
        validation.append(tuple(r.case_id for r in here))
    every = {r.case_id for r in rows}
    folds = tuple(Fold(train=tuple(sorted(every - set(ids))), validation=ids) for ids in validation)
    splits = Splits(method="any", seed=1, folds=folds)
    return replace(dataset(rows, []), splits=splits)


def test_a_class_that_training_of_a_fold_lacks_is_an_error():
    (finding,) = checks.check_fold_classes(folds_of((3, 10), (0, 13), (0, 13)), CONFIG)
    assert (finding.check_id, finding.severity, finding.class_name) == ("D05", "error", "tumor")
    assert "fold 0" in finding.message
    assert "stratified" in finding.fix


def test_a_class_of_one_case_or_patient_is_a_warning_because_no_other_folds_would_help():
    lone = folds_of((1, 10), (0, 11), (0, 11))
    (finding,) = checks.check_fold_classes(lone, CONFIG)
    assert (finding.check_id, finding.severity) == ("D05", "warning")
    assert "1 usable case," in finding.message
    pair = folds_of((2, 10), (0, 12), (0, 12))
    groups = {"f0_00": "p", "f0_01": "p"}
    pair = replace(pair, splits=pair.splits.model_copy(update={"groups": groups}))
    assert found(checks.check_fold_classes(pair, CONFIG)) == [("D05", "warning")]


def test_a_class_with_few_cases_in_a_fold_is_a_warning():
    (finding,) = checks.check_fold_classes(folds_of((6, 6), (4, 8), (0, 12)), CONFIG)
    assert (finding.severity, finding.class_name, finding.value) == ("warning", "tumor", 0)
    assert "6, 4, 0 validation cases" in finding.message
    assert checks.check_fold_classes(folds_of((6, 6), (5, 8)), CONFIG) == []


def test_small_folds_are_told_once_and_not_held_against_the_classes():
    findings = checks.check_fold_classes(folds_of((2, 0), (1, 0), (0, 1)), CONFIG)
    assert found(findings) == [("D05", "info")]
    assert checks.check_fold_classes(dataset(rows_of((5, 1)), []), CONFIG) == []


def test_a_class_that_is_nowhere_is_left_to_e05():
    assert checks.check_fold_classes(folds_of((0, 12), (0, 12)), CONFIG) == []


@pytest.mark.parametrize(("n_classes", "n_found"), [(5, 5), (6, 1)])
def test_many_classes_that_are_often_absent_are_one_finding(n_classes, n_found):
    task = task_of("body", *(f"rib_{n}" for n in range(n_classes)))
    rows = rows_of((5, *[1] * n_classes), (5, *[0] * n_classes))
    findings = checks.check_absent_classes(dataset(rows, [], task), CONFIG)
    assert found(findings) == [("E05", "warning")] * n_found
    if n_found == 1:
        assert (findings[0].class_name, findings[0].value) == (None, n_classes)
        assert "rib_0 (1)" in findings[0].message


@pytest.mark.parametrize(("n_classes", "n_found"), [(3, 3), (4, 1)])
def test_many_classes_of_a_single_case_are_one_finding(n_classes, n_found):
    task = task_of("body", *(f"rib_{n}" for n in range(n_classes)))
    folds = folds_of((1, 10), (0, 11), (0, 11))
    rows = [row(r.case_id, (9, *[1 if r.n_class_voxels[1] else 0] * n_classes)) for r in folds.rows]
    findings = checks.check_fold_classes(
        replace(dataset(rows, [], task), splits=folds.splits), CONFIG
    )
    assert found(findings) == [("D05", "warning")] * n_found
    if n_found == 1:
        assert (findings[0].class_name, findings[0].value) == (None, n_classes)
        assert all(f"rib_{n}" in findings[0].message for n in range(n_classes))


def test_cases_declared_as_not_annotated_do_not_count_as_absent():
    rows = rows_of((5, 1), *[(5, 0)] * 9)
    assert found(checks.check_absent_classes(dataset(rows, []), CONFIG)) == [("E05", "warning")]
    name = TASK.class_names[1]
    declared = [rows[0], *(r.model_copy(update={"unannotated": (name,)}) for r in rows[1:])]
    assert checks.check_absent_classes(dataset(declared, []), CONFIG) == []
    # Drawn nowhere at all is still nothing to learn from.
    nowhere = checks.check_absent_classes(dataset(declared[1:], []), CONFIG)
    assert found(nowhere) == [("E05", "error")]


def test_a_label_of_background_and_ignored_voxels_is_empty():
    empty = [r.model_copy(update={"label_values": (0, 255)}) for r in rows_of((0, 0), (0, 0))]
    task = TASK.model_copy(update={"ignore_values": (255,)})
    assert found(checks.check_many_empty(dataset(empty, [], task), CONFIG)) == [("E08", "error")]
