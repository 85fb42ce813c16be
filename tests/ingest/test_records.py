"""Finished cases are known again; everything else is done again."""

import os
import tracemalloc

import numpy as np
import phantoms
import pytest

from pipeline.ingest.records import (
    CaseJob,
    class_values,
    delete_orphans,
    read_stored_case,
    store_case,
)
from pipeline.io.discover import discover


@pytest.fixture
def job(tmp_path):
    folder = discover(phantoms.write_dataset(tmp_path / "data", 1, shape=(16, 16, 16)))
    work = tmp_path / "work"
    return CaseJob(folder.cases[0], folder.root, work / "store", work)


def test_a_finished_case_is_known_again(job):
    assert read_stored_case(job) is None
    stored = store_case(job)
    assert stored.label_values == (0, 1, 2)
    assert read_stored_case(job) == stored


@pytest.mark.parametrize("what", ["image", "label", "array", "short", "record", "version"])
def test_any_change_means_doing_it_again(job, what):
    stored = store_case(job)
    array = job.work_root / stored.record.image.file
    record = job.store_dir / "case_000.case.json"
    if what == "image":
        os.utime(job.files.images[0], ns=(1, 1))
    elif what == "label":
        job.files.label.write_bytes(job.files.label.read_bytes() + b"\0")
    elif what == "array":
        array.unlink()
    elif what == "short":
        array.write_bytes(array.read_bytes()[:-200])
    elif what == "record":
        record.write_text(record.read_text()[:-50])
    else:
        record.write_text(record.read_text().replace('"ingest_version": 2', '"ingest_version": 1'))
    assert read_stored_case(job) is None


def test_unreadable_cases_are_tried_again(job):
    job.files.label.write_text("no volume")
    assert store_case(job).record.status == "unreadable"
    assert read_stored_case(job) is None


def test_orphans_are_deleted_and_nothing_else(job):
    record = store_case(job).record
    kept = sorted(job.store_dir.iterdir())
    for name in ("gone.image.npy", "gone.case.json", ".case_000.image.npy.abc.part"):
        (job.store_dir / name).touch()
    assert delete_orphans(job.store_dir, job.work_root, [record]) == 3
    assert sorted(job.store_dir.iterdir()) == kept
    assert delete_orphans(job.work_root / "absent", job.work_root, []) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 2, 2, 7], np.uint8), (0, 2, 7)),
        (np.array([-1, 0, 70000]), (-1, 0, 70000)),
        (np.array([0.0, 1.0000001, 1.0]), (0, 1)),
        (np.array([False, True]), (0, 1)),
        (np.array([0.0, 0.5]), ()),
        (np.array([0.0, np.nan]), ()),
        (np.arange(1000), ()),
        (np.repeat(np.array([3, 0, 5], np.uint8), 1 << 20), (0, 3, 5)),
        (np.repeat(np.array([0.0, np.inf]), 1 << 20), ()),
    ],
)
def test_values_that_may_be_classes(values, expected):
    assert class_values(values.reshape(1, 1, -1)) == expected


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_values_of_a_large_label_take_little_memory(dtype):
    label = np.zeros((256, 256, 128), dtype)
    label[100:110] = np.arange(128) % 40
    tracemalloc.start()
    values = class_values(label)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values == tuple(range(40))
    assert peak_bytes < 16 << 20
