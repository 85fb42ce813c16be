import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from typing_extensions import override

from pipeline.artifacts import Summary, read_artifact
from pipeline.core.errors import UsageError
from pipeline.core.tracker import NullTracker
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.evaluate.stage import evaluate
from pipeline.io.discover import list_volumes

CONFIG = EvaluateConfig(n_bootstrap=200, n_worst_pictures=2)


class Recorder(NullTracker):
    def __init__(self):
        self.metrics, self.files = {}, []

    @override
    def log_metrics(self, metrics, *, step=None, headline=True):
        assert headline
        self.metrics.update(metrics)

    @override
    def log_file(self, file, *, folder="", headline=False):
        assert file.is_file()
        self.files.append((file.name, headline))


@pytest.fixture
def dataset(tmp_path):
    return phantoms.write_dataset(tmp_path / "data", 4, shape=(20, 22, 18))


@pytest.fixture
def predictions(tmp_path, dataset):
    folder = tmp_path / "predictions"
    for case_id, file in list_volumes(dataset / "labelsTr").items():
        image = nib.load(file)
        label = np.roll(np.asarray(image.dataobj), 1, axis=0)
        phantoms.write_nifti(folder / f"{case_id}.nii.gz", label, image.affine)
    return folder


def run(dataset, predictions, tmp_path, config=CONFIG, *, tracker=None, **more):
    source = EvaluationInput(
        dataset_name="phantoms <&>",
        prediction_dir=predictions,
        references=list_volumes(dataset / "labelsTr"),
        **more,
    )
    return evaluate(config, source, tmp_path / "out", tracker or NullTracker())


def rows_of(tmp_path):
    return list(csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines()))


def test_all_files_are_written_and_agree(dataset, predictions, tmp_path, capsys):
    tracker = Recorder()
    images = list_volumes(dataset / "imagesTr")
    summary = run(dataset, predictions, tmp_path, tracker=tracker, images=images)
    out = tmp_path / "out"
    assert read_artifact(out / "summary.json", Summary, made_by="evaluate") == summary
    assert summary.failed_cases == ()
    assert list(summary.classes) == ["liver", "kidney"]
    rows = rows_of(tmp_path)
    assert len(rows) == 8
    liver = [float(r["dice"]) for r in rows if r["class_name"] == "liver"]
    assert summary.classes["liver"].dice.mean == pytest.approx(np.mean(liver))
    assert 0.3 < summary.mean_foreground_dice < 1
    assert tracker.metrics["test/dice_mean"] == summary.mean_foreground_dice
    assert tracker.metrics["test/dice_kidney"] == summary.classes["kidney"].dice.mean
    assert tracker.files == [("report.html", True), ("summary.json", True), ("scores.csv", True)]
    assert "foreground mean" in capsys.readouterr().out
    assert "4 cases" in (out / "methods.txt").read_text()


def test_the_report_is_complete_in_itself_and_escaped(dataset, predictions, tmp_path):
    run(dataset, predictions, tmp_path, images=list_volumes(dataset / "imagesTr"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "phantoms &lt;&amp;&gt;" in page
    assert "<&>" not in page
    assert page.count('src="data:image/png;base64,') == CONFIG.n_worst_pictures
    assert "http://" not in page
    assert "https://" not in page
    for case_id in list_volumes(predictions):
        assert case_id in page


def test_perfect_predictions(dataset, tmp_path):
    summary = run(dataset, dataset / "labelsTr", tmp_path)
    assert summary.mean_foreground_dice == 1.0
    assert summary.classes["liver"].dice.ci95 == (1.0, 1.0)


def test_a_missing_prediction_is_missed_and_failed(dataset, predictions, tmp_path):
    (predictions / "case_001.nii.gz").unlink()
    summary = run(dataset, predictions, tmp_path)
    assert [f.case_id for f in summary.failed_cases] == ["case_001"]
    assert summary.n_cases == 4
    assert summary.classes["liver"].n_missed == 1
    missed = [r for r in rows_of(tmp_path) if r["case_id"] == "case_001"]
    assert [(r["status"], r["dice"]) for r in missed] == [("missed", "0"), ("missed", "0")]
    assert "there is no prediction" in (tmp_path / "out" / "report.html").read_text()


def test_extra_predictions_are_reported_and_not_scored(dataset, predictions, tmp_path):
    extra = predictions / "stranger.nii.gz"
    extra.write_bytes((predictions / "case_000.nii.gz").read_bytes())
    summary = run(dataset, predictions, tmp_path)
    assert summary.n_cases == 4
    assert summary.failed_cases == ()
    assert "stranger.nii.gz" in (tmp_path / "out" / "report.html").read_text()


def test_a_case_that_fails_is_named_and_the_others_finish(dataset, predictions, tmp_path):
    bad = predictions / "case_002.nii.gz"
    image = nib.load(bad)
    phantoms.write_nifti(bad, np.asarray(image.dataobj)[1:], image.affine)
    (predictions / "case_003.nii.gz").write_bytes(b"not a volume at all, but a text")
    summary = run(dataset, predictions, tmp_path)
    assert [f.case_id for f in summary.failed_cases] == ["case_002", "case_003"]
    assert summary.n_cases == 2
    assert {r["case_id"] for r in rows_of(tmp_path)} == {"case_000", "case_001"}
    assert "19x22x18" in summary.failed_cases[0].message
    assert all(f.fix for f in summary.failed_cases)
    assert (
        "Not comparable, and in no average, were 2"
        in (tmp_path / "out" / "methods.txt").read_text()
    )


def test_every_case_can_fail(dataset, predictions, tmp_path):
    for file in list_volumes(predictions).values():
        file.write_bytes(b"not a volume at all, but a text")
    summary = run(dataset, predictions, tmp_path)
    assert len(summary.failed_cases) == 4
    assert summary.mean_foreground_dice is None
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_cases"] == 0


def test_predictions_may_be_stored_in_another_orientation(dataset, predictions, tmp_path):
    expected = run(dataset, predictions, tmp_path)
    for file in list_volumes(predictions).values():
        turned = nib.as_closest_canonical(nib.load(file))
        phantoms.write_nifti(file, np.asarray(turned.dataobj), turned.affine)
    assert run(dataset, predictions, tmp_path) == expected


def test_worker_processes_give_the_same_result(dataset, predictions, tmp_path):
    serial = run(dataset, predictions, tmp_path, CONFIG.model_copy(update={"n_jobs": 1}))
    parallel = run(dataset, predictions, tmp_path, CONFIG.model_copy(update={"n_jobs": 2}))
    assert parallel == serial


def test_an_image_that_does_not_fit_costs_only_its_picture(dataset, predictions, tmp_path):
    images = dict(list_volumes(dataset / "imagesTr"))
    wrong = tmp_path / "wrong.nii.gz"
    phantoms.write_nifti(wrong, np.zeros((3, 3, 3), np.int16), np.eye(4))
    summary = run(dataset, predictions, tmp_path, images=dict.fromkeys(images, wrong))
    assert summary.failed_cases == ()
    assert "data:image/png" not in (tmp_path / "out" / "report.html").read_text()


def test_no_folder_of_predictions_is_a_usage_error(dataset, tmp_path):
    with pytest.raises(UsageError):
        run(dataset, Path("/nowhere/at/all"), tmp_path)
    assert not (tmp_path / "out").exists()


def test_real_label_maps_score_one_against_themselves(shared_data, tmp_path):
    labels = shared_data / "Task04_Hippocampus" / "labelsTr"
    references = dict(list(list_volumes(labels).items())[:5])
    source = EvaluationInput("hippocampus", labels, references)
    summary = evaluate(CONFIG, source, tmp_path / "out", NullTracker())
    assert list(summary.classes) == ["Anterior", "Posterior"]
    assert summary.mean_foreground_dice == 1.0
    assert summary.failed_cases == ()


def test_training_cases_are_called_out(dataset, predictions, tmp_path):
    run(dataset, predictions, tmp_path, seen_in_training=("case_001", "not_scored"))
    assert "1 case seen in training" in (tmp_path / "out" / "report.html").read_text()
    assert "trained on 1 of these cases" in (tmp_path / "out" / "methods.txt").read_text()
