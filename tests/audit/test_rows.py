from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_builders import TASK, affine, image_of, label_of, record, task_of, view

from pipeline.artifacts import CaseRecord, Problem
from pipeline.audit.config import AuditConfig, Waiver
from pipeline.audit.rows import RowWork, forget_rows, is_usable_case, make_row, open_view
from pipeline.core.errors import DataError
from pipeline.io.store import write_array

CONFIG = AuditConfig()


def case_on_disk(root: Path, label: np.ndarray, case_id: str = "case_000") -> CaseRecord:
    image = image_of(label.shape)
    stored = [
        write_array(root / "store", f"{case_id}.{name}", array, affine(), "RAS", root)
        for name, array in (("image", image), ("label", label))
    ]
    return record(label, case_id).model_copy(update={"image": stored[0], "label": stored[1]})


def test_a_row_says_what_the_label_holds():
    row = make_row(view(label_of()), CONFIG)
    label = label_of()
    assert row.findings == ()
    assert row.n_voxels == label.size
    assert row.n_class_voxels == (int((label == 1).sum()), int((label == 2).sum()))
    assert row.label_values == (0, 1, 2)
    assert row.fingerprint is not None


def test_a_label_that_is_an_image_gives_no_counts():
    row = make_row(view(np.arange(1680).reshape(10, 12, 14)), CONFIG)
    assert (row.n_voxels, row.n_class_voxels, row.label_values) == (0, (0, 0), ())


def test_usable_means_readable_and_on_one_grid():
    assert is_usable_case(view(label_of()), ())
    assert not is_usable_case(view(label_of(), image_of((3, 3, 3))), ())
    broken = view(label_of())
    problem = Problem(check_id="F03", file="x", message="m", fix="f")
    broken_record = broken.record.model_copy(update={"problems": (problem,)})
    row = make_row(
        type(broken)(broken_record, TASK, broken.image, broken.label, broken.values), CONFIG
    )
    assert row.fingerprint is None
    undeclared = make_row(view(label_of() * 5), CONFIG)
    assert undeclared.fingerprint is not None  # its findings stop training, its grid does not


def test_rows_are_kept_by_content_and_settings(tmp_path):
    case = case_on_disk(tmp_path, label_of())
    work = RowWork(TASK, CONFIG, tmp_path)
    first = work(case)
    (file,) = work.rows_dir.iterdir()
    (tmp_path / case.label.file).unlink()
    assert work(case) == first  # not opened again
    for other in (
        RowWork(TASK, AuditConfig(min_axis_voxels=11), tmp_path),
        RowWork(task_of("liver", "tumor", "more"), CONFIG, tmp_path),
    ):
        with pytest.raises(DataError, match="missing"):
            other(case)
    waived = AuditConfig(waivers=(Waiver(check_id="E01", reason="seen"),), n_folds=3, n_jobs=2)
    assert RowWork(TASK, waived, tmp_path)(case) == first
    file.write_text("{ damaged")
    with pytest.raises(DataError, match="missing"):
        work(case)


def test_when_a_file_was_written_does_not_matter(tmp_path):
    work = RowWork(TASK, CONFIG, tmp_path)
    case = record(label_of())
    assert work.key(case) == work.key(case.model_copy(update={"sources": ()}))
    changed = case.label.model_copy(update={"content_hash": "other"})
    assert work.key(case) != work.key(case.model_copy(update={"label": changed}))


def test_rows_of_cases_that_are_gone_are_deleted(tmp_path):
    work = RowWork(TASK, CONFIG, tmp_path)
    cases = tuple(case_on_disk(tmp_path, label_of(), name) for name in ("a", "b"))
    for case in cases:
        work(case)
    forget_rows(work, cases[:1])
    assert [f.stem for f in work.rows_dir.iterdir()] == [work.key(cases[0])]


def test_arrays_that_were_not_stored_are_none(tmp_path):
    case = record(label_of()).model_copy(update={"image": None, "label": None})
    opened = open_view(case, TASK, tmp_path)
    assert (opened.image, opened.label, opened.values) == (None, None, None)
    assert make_row(opened, CONFIG).fingerprint is None


def test_what_nobody_drew_and_what_is_ignored_enters_no_statistics():
    label = label_of()
    label[0] = 255
    task = TASK.model_copy(update={"ignore_values": (255,)})
    known = view(label, task=task)
    declared = known.record.model_copy(update={"unannotated": ("tumor",)})
    row = make_row(replace(known, record=declared), CONFIG)
    assert row.n_voxels == label.size - label[0].size
    assert row.n_class_voxels == (int((label == 1).sum()), 0)
    assert [one.class_index for one in row.measures.classes] == [1]
    assert row.unannotated == row.fingerprint.unannotated == ("tumor",)
    assert row.fingerprint.n_class_voxels == row.n_class_voxels


def test_scribbles_are_no_shapes():
    label = np.full((10, 12, 14), 255, dtype=np.uint8)
    label[2:8, 5, 5], label[2:8, 9, 9] = 1, 0
    row = make_row(view(label, task=TASK.model_copy(update={"ignore_values": (255,)})), CONFIG)
    assert row.n_class_voxels == (6, 0)
    assert row.measures.classes == ()
    assert not row.measures.alignment.is_assessable
    assert {f.check_id for f in row.findings} == {"E05"}
