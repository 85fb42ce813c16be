"""One case from its files to its label, DICOM included."""

from dataclasses import replace

import numpy as np
import pytest
from infer_builders import KEEP_LARGEST, opened_threshold, small_data, work_for
from phantoms import affine_of, ball, case, write_nifti

from pipeline.artifacts import PredictionRecord
from pipeline.infer import case as case_module
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.load import LabelContext, load_volume


def only_case(data):
    return discover(data, n_channels=1).cases[0]


def test_a_defect_is_not_taken_for_a_bad_case(tmp_path, monkeypatch):
    data = small_data(tmp_path / "data", 1)
    work = work_for(opened_threshold(), data, tmp_path / "out")

    def broken(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(case_module, "segment_prepared", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        work.run(only_case(data))


def test_a_record_passes_through_the_later_steps(tmp_path):
    work = work_for(opened_threshold(), tmp_path, tmp_path / "out")
    record = PredictionRecord(case_id="a", status="failed", message="no")
    assert work.segment(record) is record
    assert work.save(record) == record


def test_clean_up_can_be_switched_off(tmp_path):
    label = ball((24, 24, 24), (8, 8, 8), 5) | ball((24, 24, 24), (19, 19, 19), 2)
    noise = np.random.default_rng(0).normal(0, 0.01, label.shape)
    affine = affine_of(label.shape, (1.0, 1.0, 1.0))
    write_nifti(tmp_path / "data" / "a.nii.gz", np.float32(3.0 * label + noise), affine)
    opened = opened_threshold()
    rule = KEEP_LARGEST.model_copy(update={"class_name": "class_2"})
    info = opened.info.model_copy(update={"cleanup": (rule,)})
    opened = type(opened)(opened.files, opened.predictor, info, opened.digest)
    files = CaseFiles("a", (tmp_path / "data" / "a.nii.gz",), None)
    counts = {}
    for cleanup in ("auto", "off"):
        out = tmp_path / cleanup / "out"
        work = work_for(opened, tmp_path / "data", out, cleanup=cleanup)
        counts[cleanup] = work.run(files).n_class_voxels[1]
    largest = int(ball((24, 24, 24), (8, 8, 8), 5).sum())
    assert counts == {"auto": largest, "off": int(label.sum())}


def test_mirrored_disagreement_counts_only_along_trained_axes(tmp_path, monkeypatch):
    data = small_data(tmp_path / "data", 1)
    seen = []

    def noted(*_, flip_disagreement, **__):
        seen.append(flip_disagreement)
        return ()

    monkeypatch.setattr(case_module, "quality_flags", noted)
    opened = opened_threshold(spacing_mm=(2.0, 2.0, 2.5))
    mirrored = replace(opened, predictor=replace(opened.predictor, mirror_axes=(1,)))
    plan = opened.predictor.plan.model_copy(update={"mirror_axes": (1, 2)})
    trained = replace(mirrored, predictor=replace(mirrored.predictor, plan=plan))
    for number, one in enumerate((mirrored, trained)):
        work_for(one, data, tmp_path / str(number) / "out").run(only_case(data))
    assert seen == [None, 0.0]


def test_a_dicom_series_gets_a_dicom_seg(tmp_path):
    pytest.importorskip("highdicom")
    from dicom_phantoms import write_series

    image, _, affine = case(0, (20, 18, 16), (1.0, 1.0, 1.0), "LPS")
    folder = write_series(tmp_path / "data" / "a", image.astype(np.int16), affine)
    opened = opened_threshold()
    series = CaseFiles("a", (folder,), None)
    work = work_for(opened, tmp_path / "data", tmp_path / "out")
    record = work.run(series)
    assert (record.status, record.message) == ("done", "")
    assert record.dicom_seg_file == "a.seg.dcm"
    seg = tmp_path / "out" / "predictions" / "a.seg.dcm"
    names = {c.name: c.source_values for c in opened.info.task.classes}
    context = LabelContext(folder, names)
    _, from_seg = load_volume(seg, root=tmp_path, role="label", context=context)
    file = tmp_path / "out" / "predictions" / "a.nii.gz"
    _, from_nifti = load_volume(file, root=tmp_path, role="label")
    assert np.array_equal(from_seg.array, from_nifti.array)
    assert np.allclose(from_seg.affine, from_nifti.affine, atol=1e-4)
    assert record.n_class_voxels[0] > 0
    seg.unlink()
    again = work_for(opened, tmp_path / "data", tmp_path / "out").run(series)
    assert seg.is_file()
    assert again.file_hash == record.file_hash
