"""Predicting a folder: every case is accounted for, nothing is done twice."""

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from infer_builders import (
    config_with,
    opened_threshold,
    run,
    run_part,
    small_data,
    stamps,
    write_model,
)
from phantoms import affine_of, write_nifti

from pipeline.artifacts import Predictions, Range, TrainingRanges, read_artifact
from pipeline.core.parallel import case_runs
from pipeline.core.parallel_config import ParallelConfig, Part
from pipeline.core.tracker import NullTracker
from pipeline.infer import case as case_module
from pipeline.infer.opened import open_model
from pipeline.infer.stage import infer
from pipeline.io.discover import discover

ORIENTATIONS = [
    "".join(codes[a] for a in order)
    for order in itertools.permutations(range(3))
    for codes in itertools.product("RL", "AP", "SI")
]


@pytest.fixture
def model_file(tmp_path):
    return write_model(tmp_path / "best.pt")


def packed_again(file: Path) -> None:
    """Other bytes and another time, the same image."""
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=1, mtime=7))


def test_a_thresholded_image_lies_on_its_file_in_every_orientation_for_every_reader(tmp_path):
    rng = np.random.default_rng(1)
    for number, orientation in enumerate(ORIENTATIONS):
        array = rng.normal(size=(11, 13, 9)).astype(np.float32)
        oblique = 17.0 * (number % 2)
        affine = affine_of(array.shape, (1.0, 1.0, 1.0), orientation, oblique_degrees=oblique)
        write_nifti(tmp_path / "data" / f"{orientation}_{number}.nii.gz", array, affine)
    folder = discover(tmp_path / "data", n_channels=1)
    opened = opened_threshold()
    predictions = infer(config_with(), opened, folder, tmp_path / "out", NullTracker())
    assert [r.status for r in predictions.cases] == ["done"] * 48
    for record in predictions.cases:
        prediction_file = tmp_path / "out" / "predictions" / record.file
        image_file = tmp_path / "data" / record.file
        image, prediction = nib.load(image_file), nib.load(prediction_file)
        assert np.array_equal(prediction.affine, image.affine)
        values = np.asarray(image.dataobj)
        z = (values - values.mean()) / values.std()
        expected = np.where(z > 1, 2, np.where(z > 0, 1, 0))
        assert np.array_equal(np.asarray(prediction.dataobj), expected)
        one, two = SimpleITK.ReadImage(str(prediction_file)), SimpleITK.ReadImage(str(image_file))
        for axis in ("GetDirection", "GetOrigin", "GetSpacing", "GetSize"):
            assert getattr(one, axis)() == getattr(two, axis)()
        assert np.array_equal(SimpleITK.GetArrayFromImage(one).T, expected)


def test_every_case_has_its_label_and_its_record(tmp_path, model_file):
    data = small_data(tmp_path / "data", 3)
    predictions = run(model_file, data, tmp_path / "out")
    saved = read_artifact(tmp_path / "out" / "predictions.json", Predictions, made_by="infer")
    assert saved == predictions
    for record in predictions.cases:
        label = np.asarray(nib.load(tmp_path / "out" / "predictions" / record.file).dataobj)
        assert label.dtype == np.uint8
        counts = tuple(int((label == c).sum()) for c in (1, 2))
        assert record.n_class_voxels == counts
        assert record.volumes_ml == pytest.approx([n * 2 * 2 * 2.5 / 1000 for n in counts])
        assert record.computed_on == "cpu"


def test_a_bad_case_is_named_and_the_others_are_done(tmp_path, model_file):
    data = small_data(tmp_path / "data", 3)
    broken = data / "imagesTr" / "case_001.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    stale = tmp_path / "out" / "predictions" / "case_001.nii.gz"
    stale.parent.mkdir(parents=True)
    shutil.copy(data / "labelsTr" / "case_001.nii.gz", stale)
    predictions = run(model_file, data, tmp_path / "out")
    by_id = {c.case_id: c for c in predictions.cases}
    assert by_id["case_001"].status == "failed"
    assert by_id["case_001"].message
    assert by_id["case_000"].status == by_id["case_002"].status == "done"
    # A label map that happened to lie there must not be scored as this model's prediction.
    assert not stale.exists()


def test_running_out_of_memory_fails_one_case_only(tmp_path, model_file, monkeypatch):
    data = small_data(tmp_path / "data", 4)
    segment = case_module.segment_prepared
    errors = [
        torch.OutOfMemoryError("tried to allocate 90 GB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError("no room"),
    ]

    def greedy(*args, **settings):
        if errors:
            raise errors.pop(0)
        return segment(*args, **settings)

    monkeypatch.setattr(case_module, "segment_prepared", greedy)
    predictions = run(model_file, data, tmp_path / "out")
    assert [c.status for c in predictions.cases] == ["failed"] * 3 + ["done"]
    assert all("not enough memory" in c.message for c in predictions.cases[:3])
    again = run(model_file, data, tmp_path / "out")
    assert [c.status for c in again.cases] == ["done"] * 4


def test_finished_cases_are_kept_changed_ones_predicted_again(tmp_path, model_file):
    data = small_data(tmp_path / "data", 3)
    first = run(model_file, data, tmp_path / "out")
    before = stamps(tmp_path / "out")
    assert run(model_file, data, tmp_path / "out") == first
    packed_again(data / "imagesTr" / "case_000.nii.gz")
    other = small_data(tmp_path / "other", 1, 5)
    shutil.copy(other / "imagesTr" / "case_000.nii.gz", data / "imagesTr" / "case_001.nii.gz")
    (tmp_path / "out" / "predictions" / "case_002.nii.gz").write_bytes(b"damaged")
    again = run(model_file, data, tmp_path / "out")
    after = stamps(tmp_path / "out")
    assert after["case_000.nii.gz"] == before["case_000.nii.gz"]
    assert after["case_001.nii.gz"] > before["case_001.nii.gz"]
    assert again.cases[2].file_hash == first.cases[2].file_hash
    assert again.cases[0].sources != first.cases[0].sources


def test_a_prediction_corrected_by_hand_is_kept(tmp_path, model_file, caplog):
    data, out = small_data(tmp_path / "data", 2), tmp_path / "out"
    first = run(model_file, data, out)
    file = out / "predictions" / "case_001.nii.gz"
    corrections = [b"corrected by hand", b"corrected again"]
    for correction in corrections:
        file.write_bytes(correction)
        again = run(model_file, data, out)
        assert [c.file_hash for c in again.cases] == [c.file_hash for c in first.cases]
        assert "case_001: its prediction was changed" in caplog.text
    file.write_bytes(b"third")
    run(write_model(tmp_path / "other.pt", 1), data, out)
    kept = {f.read_bytes() for f in (out / "predictions_edited").iterdir()}
    assert kept == {*corrections, b"third"}


def test_another_image_of_the_same_name_replaces_no_prediction(tmp_path, model_file):
    out = tmp_path / "out"
    run(model_file, small_data(tmp_path / "a" / "new", 2), out)
    before = {f.name: f.read_bytes() for f in (out / "predictions").iterdir()}
    run(model_file, small_data(tmp_path / "b" / "new", 1, seed=7), out)
    kept = [f.read_bytes() for f in (out / "predictions_of_other_images").iterdir()]
    assert kept == [before["case_000.nii.gz"]]
    assert (out / "predictions" / "case_001.nii.gz").read_bytes() == before["case_001.nii.gz"]


def test_a_dataset_by_another_name_is_not_predicted_again(tmp_path, model_file, monkeypatch):
    data = small_data(tmp_path / "data", 2)
    first = run(model_file, data, tmp_path / "infer" / "data")
    renamed = shutil.copytree(data, tmp_path / "renamed")
    (renamed / "dataset.json").unlink()
    for role in ("imagesTr", "labelsTr"):
        for file in sorted((renamed / role).glob("*.nii.gz")):
            file.rename(file.with_name("new_" + file.name))

    def never(*args, **settings):
        raise RuntimeError("predicted again")

    monkeypatch.setattr(case_module, "segment_prepared", never)
    second = run(model_file, renamed, tmp_path / "infer" / "renamed")
    assert [r.case_id for r in second.cases] == ["new_case_000", "new_case_001"]
    for one, two in zip(first.cases, second.cases, strict=True):
        files = tmp_path / "infer" / "data" / "predictions" / one.file
        copy = tmp_path / "infer" / "renamed" / "predictions" / two.file
        assert copy.read_bytes() == files.read_bytes()


@pytest.mark.parametrize("changes", [{"overlap": 0.25}, {"mirror": (1,)}, {"crop": "off"}])
def test_other_settings_mean_other_predictions(tmp_path, model_file, changes):
    data = small_data(tmp_path / "data", 1)
    run(model_file, data, tmp_path / "out")
    before = stamps(tmp_path / "out")
    run(model_file, data, tmp_path / "out", window_batch=1)
    assert stamps(tmp_path / "out") == before
    run(model_file, data, tmp_path / "out", **changes)
    assert stamps(tmp_path / "out") != before


def test_predictions_of_another_model_are_put_aside(tmp_path, model_file):
    data = small_data(tmp_path / "data", 2)
    run(model_file, data, tmp_path / "out")
    before = {f.name: f.read_bytes() for f in (tmp_path / "out/predictions").glob("*.nii.gz")}
    run(write_model(tmp_path / "other.pt", 1), data, tmp_path / "out")
    aside = list((tmp_path / "out").glob("predictions_of_*/*.nii.gz"))
    assert {f.name: f.read_bytes() for f in aside} == before


def test_parts_leave_nothing_to_do_for_the_run_that_gathers_them(tmp_path, model_file):
    data = small_data(tmp_path / "data", 5)
    whole = run(model_file, data, tmp_path / "whole" / "out")
    out = tmp_path / "parts" / "out"
    for number in (2, 1):
        assert run_part(model_file, data, out, Part(number, 2)) == 0
        assert not (out / "predictions.json").exists()
    before = stamps(out)
    assert len(before) == 5
    gathered = run(model_file, data, out)
    assert stamps(out) == before
    assert [r.file_hash for r in gathered.cases] == [r.file_hash for r in whole.cases]


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_worker_processes_give_the_same_predictions(tmp_path, model_file, n_jobs):
    data = small_data(tmp_path / "data", 3)
    (data / "imagesTr" / "case_001.nii.gz").write_bytes(b"no image")
    here = run(model_file, data, tmp_path / "a" / "out")
    config = config_with()
    with case_runs(ParallelConfig(n_jobs=n_jobs), tmp_path / "cases.jsonl"):
        there = infer(
            config,
            open_model([model_file], config),
            discover(data, n_channels=1),
            tmp_path / "b" / "out",
            NullTracker(),
            is_elsewhere=True,
        )
    assert [r.status for r in there.cases] == ["done", "failed", "done"]
    assert [r.file_hash for r in here.cases] == [r.file_hash for r in there.cases]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_is_finished(tmp_path, model_file, monkeypatch, number):
    n_threads = threading.active_count()
    data = small_data(tmp_path / "data", 5)
    segment = case_module.segment_prepared
    calls = []

    def interrupted(*args, **settings):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
            time.sleep(5)
        return segment(*args, **settings)

    monkeypatch.setattr(case_module, "segment_prepared", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model_file, data, tmp_path / "out")
    assert set(stamps(tmp_path / "out")) == {"case_000.nii.gz", "case_001.nii.gz"}
    before = stamps(tmp_path / "out")
    calls.clear()
    monkeypatch.setattr(case_module, "segment_prepared", segment)
    assert len(run(model_file, data, tmp_path / "out").cases) == 5
    assert stamps(tmp_path / "out").items() >= before.items()
    assert threading.active_count() <= n_threads


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path, model_file):
    data = small_data(tmp_path / "data", 40, shape=(40, 40, 40))
    command = (
        "import sys; from pathlib import Path; from infer_builders import run;"
        "run(*map(Path, sys.argv[1:]))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(model_file), str(data), str(tmp_path / "out")],
        env=environment,
    )
    deadline_s = time.monotonic() + 60
    while len(stamps(tmp_path / "out")) < 5 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = stamps(tmp_path / "out")
    assert 5 <= len(before) < 40
    predictions = run(model_file, data, tmp_path / "out")
    assert [r.status for r in predictions.cases] == ["done"] * 40
    n_again = sum(stamps(tmp_path / "out")[name] != when for name, when in before.items())
    # The one whose record was not written yet, at most.
    assert n_again <= 1


def test_an_oddity_is_flagged_logged_and_counted(tmp_path, caplog):
    narrow = Range(lowest=1.0, p01=1.0, median=1.1, p99=1.2, highest=1.2)
    ranges = TrainingRanges(
        n_cases=50,
        spacing_mm=(narrow,) * 3,
        extent_mm=(Range(lowest=1, p01=1, median=50, p99=900, highest=900),) * 3,
        orientations={"RAS": 50, "LPS": 3},
        intensities=(
            tuple(Range(lowest=-1e6, p01=-1e6, median=0, p99=1e6, highest=1e6) for _ in range(5)),
        ),
        volumes_ml={},
        absent_fraction={},
    )
    model_file = write_model(tmp_path / "ranges.pt", training_ranges=ranges)
    data = small_data(tmp_path / "data", 2)
    metrics = {}

    class Remembering(NullTracker):
        def log_metrics(self, values, **_):
            metrics.update(values)

    config = config_with()
    predictions = infer(
        config,
        open_model([model_file], config),
        discover(data, n_channels=1),
        tmp_path / "out",
        Remembering(),
    )
    assert {flag.kind for r in predictions.cases for flag in r.quality} == {"spacing"}
    assert metrics["infer/n_flagged"] == 2
    assert "voxels are 2 mm long" in caplog.text
    text = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert text["cases"][0]["quality"][0]["kind"] == "spacing"
