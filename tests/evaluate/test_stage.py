import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from typing_extensions import override

from pipeline.artifacts import Region, Summary, read_artifact
from pipeline.core.errors import ConfigError, UsageError
from pipeline.core.tracker import NullTracker
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.task import find_task
from pipeline.io.discover import list_volumes

CONFIG = EvaluateConfig(n_bootstrap=200, n_worst_pictures=2)


class Recorder(NullTracker):
    def __init__(self):
        self.metrics, self.files, self.tables = {}, [], {}

    @override
    def log_metrics(self, metrics, *, step=None, headline=True):
        assert headline
        self.metrics.update(metrics)

    @override
    def log_table(self, name, columns, rows):
        self.tables[name] = (columns, rows)

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
    assert tracker.files[:3] == [(n, True) for n in ("report.html", "summary.json", "scores.csv")]
    columns, table = tracker.tables["test cases"]
    assert columns == ("case_id", "dice_mean", "dice_liver", "dice_kidney")
    assert len(table) == 4
    assert 0 < tracker.metrics["test_surface/hd95_mm_liver"] < 10
    assert "foreground mean" in capsys.readouterr().out
    assert "4 cases" in (out / "methods.txt").read_text()
    assert r"\begin{tabular}" in (out / "table.tex").read_text()
    classes = list(csv.DictReader((out / "classes.csv").read_text().splitlines()))
    assert {row["class_name"] for row in classes} == {"liver", "kidney", ""}


def test_the_report_is_complete_in_itself_and_escaped(dataset, predictions, tmp_path):
    run(dataset, predictions, tmp_path, images=list_volumes(dataset / "imagesTr"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "phantoms &lt;&amp;&gt;" in page
    assert "<&>" not in page
    # Errors and outlines of every pictured case.
    assert page.count('src="data:image/webp;base64,') == 2 * CONFIG.n_worst_pictures
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
        "2 cases could not be compared and are in no average"
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
    assert "data:image/webp" not in (tmp_path / "out" / "report.html").read_text()


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


def test_regions_have_rows_and_leave_the_mean_alone(dataset, predictions, tmp_path):
    plain = run(dataset, predictions, tmp_path)
    config = CONFIG.model_copy(update={"regions": {"both": ("liver", "kidney")}})
    summary = run(dataset, predictions, tmp_path, config)
    assert list(summary.classes) == ["liver", "kidney", "both"]
    assert summary.mean_foreground_dice == plain.mean_foreground_dice
    assert summary.classes["both"].dice.mean > 0.3


def test_case_attributes_give_patients_and_subgroups(dataset, predictions, tmp_path):
    table = tmp_path / "attributes.csv"
    table.write_text(
        "case_id,patient,scanner\ncase_000,p1,A\ncase_001,p1,A\ncase_002,p2,B\nghost,p9,B\n"
    )
    config = CONFIG.model_copy(update={"attributes": table})
    summary = run(dataset, predictions, tmp_path, config)
    assert summary.classes["liver"].dice.n == 4
    assert summary.classes["liver"].dice.n_patients == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"multi": ("livr",)},
        {"tolerances_mm": {"livr": 1.0}},
        {"regions": {"all": ("livr",)}},
        {"regions": {"liver": ("kidney",)}},
    ],
)
def test_names_that_do_not_exist_are_refused_before_any_work(wrong, dataset, predictions, tmp_path):
    with pytest.raises(ConfigError, match=r"livr|is a class"):
        run(dataset, predictions, tmp_path, CONFIG.model_copy(update=wrong))


def test_a_tolerance_finer_than_the_grid_is_called_out(dataset, predictions, tmp_path):
    config = CONFIG.model_copy(update={"tolerances_mm": {"liver": 0.1}})
    run(dataset, predictions, tmp_path, config)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The tolerance of liver, 0.1 mm, is below half a voxel in 4 cases" in page
    assert "The tolerance of kidney" not in page


def test_undrawn_classes_and_regions_are_reported_beside_the_classes(
    dataset, predictions, tmp_path, capsys
):
    regions = (Region(name="both", classes=("liver", "kidney"), paints="liver"),)
    task = find_task(list_volumes(dataset / "labelsTr")).model_copy(update={"regions": regions})
    summary = run(
        dataset,
        predictions,
        tmp_path,
        task=task,
        images=list_volumes(dataset / "imagesTr"),
        unannotated={"case_000": ("kidney",)},
    )
    assert [summary.classes[n].dice.n for n in ("liver", "kidney", "both")] == [4, 3, 3]
    assert [summary.classes[n].n_not_annotated for n in ("liver", "kidney", "both")] == [0, 1, 1]
    statuses = {(r["case_id"], r["class_name"]): r["status"] for r in rows_of(tmp_path)}
    assert statuses["case_000", "kidney"] == statuses["case_000", "both"] == "not annotated"
    for file in ("report.html", "methods.txt"):
        assert "kidney in 1 case" in (tmp_path / "out" / file).read_text()
    config = CONFIG.model_copy(update={"probabilities": tmp_path})
    with pytest.raises(ConfigError, match="one probability per region"):
        run(dataset, predictions, tmp_path, config, task=task)


def test_with_an_absence_rule_a_hallucination_where_nobody_drew_is_none(
    dataset, predictions, tmp_path, capsys
):
    file = dataset / "labelsTr" / "case_000.nii.gz"
    image = nib.load(file)
    label = np.asarray(image.dataobj).copy()
    label[label == 2] = 0
    phantoms.write_nifti(file, label, image.affine)
    plain = run(dataset, predictions, tmp_path).classes["kidney"]
    assert (plain.n_hallucinated, plain.dice.n) == (1, 4)
    declared = run(dataset, predictions, tmp_path, absent_is_unannotated=("kidney",))
    kidney = declared.classes["kidney"]
    assert (kidney.n_hallucinated, kidney.dice.n, kidney.n_not_annotated) == (0, 3, 1)
