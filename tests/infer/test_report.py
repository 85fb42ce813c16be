"""The page a clinician looks at: what is odd comes first, nothing is loaded from elsewhere."""

import numpy as np
import pytest
from infer_builders import run, small_data, small_info, write_model

from pipeline.artifacts import QualityFlag
from pipeline.infer.predict import to_source_values
from pipeline.infer.report import class_indices_of, render_predictions
from pipeline.io.discover import discover

FLAG = QualityFlag(kind="volume", message="liver is <tiny>", value=1.0, expected="2 to 3 ml")


@pytest.fixture
def predicted(tmp_path):
    data = small_data(tmp_path / "data", 3)
    (data / "imagesTr" / "case_002.nii.gz").write_bytes(b"no image")
    predictions = run(write_model(tmp_path / "best.pt"), data, tmp_path / "out")
    return predictions, discover(data, n_channels=1), tmp_path / "out"


def test_flagged_and_failed_cases_come_first(predicted):
    predictions, folder, out = predicted
    cases = list(predictions.cases)
    cases[1] = cases[1].model_copy(update={"quality": (FLAG,)})
    predictions = predictions.model_copy(update={"cases": tuple(cases)})
    page = render_predictions(predictions, small_info(), folder, out)
    assert "1 of 3 not predicted" in page
    assert "liver is &lt;tiny&gt;" in page
    assert page.count("data:image/webp") == 2
    shown = [page.index(f"<h3>case_00{n}</h3>") for n in (1, 0)]
    assert shown == sorted(shown)
    assert "http://" not in page.split("<script")[0]


def test_a_model_that_cannot_compare_does_not_say_that_all_is_well(tmp_path):
    data = small_data(tmp_path / "data", 1)
    predictions = run(write_model(tmp_path / "best.pt"), data, tmp_path / "out")
    page = render_predictions(
        predictions, small_info(), discover(data, n_channels=1), tmp_path / "out"
    )
    assert "not compared with training cases" in page
    assert "nothing unusual" not in page.split("<h3>")[0]


def test_a_case_that_cannot_be_drawn_is_named_in_the_log(predicted, caplog):
    predictions, folder, out = predicted
    (out / "predictions" / "case_000.nii.gz").unlink()
    page = render_predictions(predictions, small_info(), folder, out)
    assert page.count("data:image/webp") == 1
    assert "no picture of case case_000" in caplog.text


def test_values_become_class_indices_again():
    task = small_info(task=small_info().task).task
    classes = (
        task.classes[0].model_copy(update={"source_values": (7, 3)}),
        task.classes[1].model_copy(update={"source_values": (2,)}),
    )
    task = task.model_copy(update={"classes": classes})
    indices = np.array([[[0, 1, 2, 1]]], dtype=np.uint8)
    assert np.array_equal(class_indices_of(to_source_values(indices, task), task), indices)


def test_the_stage_writes_it_once(tmp_path):
    data = small_data(tmp_path / "data", 1)
    file = write_model(tmp_path / "best.pt")
    run(file, data, tmp_path / "out", report=True)
    page = tmp_path / "out" / "report.html"
    before = page.stat().st_mtime_ns
    run(file, data, tmp_path / "out", report=True)
    assert page.stat().st_mtime_ns == before
