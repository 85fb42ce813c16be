"""What tells that a prediction still holds."""

import pytest
from infer_builders import config_with, run, small_data, write_model

from pipeline.artifacts import PredictionRecord
from pipeline.infer.opened import open_model
from pipeline.infer.records import (
    case_stamps,
    find_earlier,
    grid_hash,
    is_dicom,
    put_aside,
    read_record,
    settings_key,
    write_record,
)
from pipeline.io.discover import CaseFiles
from pipeline.io.load import load_volume


@pytest.fixture
def done(tmp_path):
    data = small_data(tmp_path / "data", 2)
    model_file = write_model(tmp_path / "best.pt")
    run(model_file, data, tmp_path / "out")
    return data, model_file, tmp_path / "out"


def test_the_key_knows_what_decides_labels_and_nothing_else(tmp_path):
    file, other = write_model(tmp_path / "a.pt"), write_model(tmp_path / "b.pt", 1)

    def key(files, **changes):
        config = config_with(**changes)
        return settings_key(open_model(files, config), config)

    plain = key([file])
    for same in ({"window_batch": 1}, {"report": True}, {"save_probabilities": True}):
        assert key([file], **same) == plain
    assert key([file], average="logits") == plain
    others = [
        *(key([other]), key([file, other]), key([file, other], average="logits")),
        *(key([file], overlap=0.3), key([file], mirror=(1,)), key([file], cleanup="off")),
        key([file], precision="float32"),
    ]
    assert len({plain, *others}) == 8


def test_a_damaged_record_is_none(tmp_path):
    record = PredictionRecord(case_id="a", status="done", file="a.nii.gz")
    write_record(tmp_path, record)
    assert read_record(tmp_path, "a") == record
    (tmp_path / "records" / "a.json").write_text('{"case_id": "a", "sta')
    assert read_record(tmp_path, "a") is None
    assert read_record(tmp_path, "b") is None


def test_a_moved_header_is_another_image(done):
    data, *_ = done
    facts, _ = load_volume(data / "imagesTr/case_000.nii.gz", root=data, role="image")
    moved = facts.model_copy(update={"sform_code": facts.sform_code + 1})
    assert grid_hash(facts) == grid_hash(facts.model_copy(update={"file": "other.nii.gz"}))
    assert grid_hash(facts) != grid_hash(moved)


def test_a_record_holds_only_while_image_prediction_and_settings_are_the_same(done):
    data, model_file, out = done
    config = config_with()
    opened = open_model([model_file], config)
    case = CaseFiles("case_000", (data / "imagesTr/case_000.nii.gz",), None)
    stamps = case_stamps(case, data)
    earlier = find_earlier(out, opened, config)
    assert earlier.unchanged(case, stamps) == read_record(out, "case_000")
    assert earlier.unchanged(case, ()) is None
    with_more = config_with(save_probabilities=True)
    assert find_earlier(out, opened, with_more).unchanged(case, stamps) is None
    (out / "predictions" / "case_000.nii.gz").unlink()
    assert earlier.unchanged(case, stamps) is None


def test_only_predictions_of_other_models_are_put_aside(done):
    _, model_file, out = done
    digest = open_model([model_file], config_with()).digest
    assert put_aside(out, digest) is None
    assert put_aside(out, "another", ["case_001"]) == out / f"predictions_of_{digest[:8]}"
    assert [f.name for f in (out / "predictions").iterdir()] == ["case_000.nii.gz"]


def test_a_damaged_list_of_predictions_is_no_obstacle(done):
    data, model_file, out = done
    (out / "predictions.json").write_text("{")
    assert len(run(model_file, data, out).cases) == 2


def test_folders_and_dcm_files_are_dicom(tmp_path):
    (tmp_path / "series").mkdir()
    assert is_dicom(CaseFiles("a", (tmp_path / "series",), None))
    assert is_dicom(CaseFiles("a", (tmp_path / "a.DCM",), None))
    assert not is_dicom(CaseFiles("a", (tmp_path / "a.nii.gz",), None))
