"""Trainings on labels that leave something open: ignored voxels, undrawn classes, regions."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from phantoms import write_nifti
from workfolders import audited, quick

from pipeline.artifacts import Fingerprint, Task, read_artifact
from pipeline.audit.config import AuditConfig, Waiver
from pipeline.audit.stage import audit
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest
from pipeline.train.data import BatchSource
from pipeline.train.prepare import MAX_COORDINATES, prepare_cases
from pipeline.train.select import MAX_CLASSES, refuse_task, select_training
from pipeline.train.stage import train

CPU = torch.device("cpu")
REGIONS = {"both": ["liver", "kidney"], "inner": ["kidney"]}
PARTIAL = {
    "ignore": [9],
    "regions": REGIONS,
    "unannotated": {"cases": {"kidney": ["case_000", "case_001", "case_002"]}},
}


def open_labels(data: Path) -> None:
    """The upper third of every volume becomes 9; three cases lose their kidney."""
    for number, file in enumerate(sorted((data / "labelsTr").glob("*.nii.gz"))):
        image = nib.load(file)
        label = np.asarray(image.dataobj).copy()
        label[..., 2 * label.shape[2] // 3 :] = 9
        if number < 3:
            label[label == 2] = 0
        write_nifti(file, label, image.affine)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial")
    return audited(folder, 6, task=PARTIAL, change=open_labels)


def prepared(workspace, **changes):
    training = select_training(quick(**changes), workspace)
    plan, task = training.plan, training.info.task
    return training, prepare_cases(training.train_records, plan.preprocessing, task, workspace)


def test_every_stage_before_the_loss_knows_what_is_open(workspace):
    training, cases = prepared(workspace)
    assert training.plan.network.n_output_channels == 2
    n_drawn = sum("kidney" not in record.unannotated for record in training.train_records)
    assert training.info.n_annotated_cases == {"kidney": n_drawn}
    for record, case in zip(training.train_records, cases, strict=True):
        assert case.unannotated == ((2,) if record.unannotated else ())
        ignored = case.label == 255
        assert 0.2 < ignored.mean() < 0.5
        # Neither a class nor a place for a patch to be centred on.
        assert not any(ignored[tuple(c.T)].any() for c in case.coordinates)
        assert not ignored[tuple(case.counted.T)].any()
        assert len(case.counted) == min(MAX_COORDINATES, int((~ignored).sum()))
        assert len(np.unique(case.counted, axis=0)) == len(case.counted)
    fingerprint = read_artifact(workspace.fingerprint_file, Fingerprint, made_by="audit")
    assert sum("kidney" in row.unannotated for row in fingerprint.cases) == 3


def test_batches_say_which_patch_knows_which_class(workspace):
    training, cases = prepared(workspace)
    source = BatchSource(cases, training.plan, training.config, CPU)
    drawn = {case.case_id: case.unannotated == () for case in cases}
    for step in range(4):
        batch = source.batch(step)
        assert batch.is_annotated is not None
        assert batch.is_annotated.device == CPU
        assert batch.is_annotated[:, :2].all()
        assert batch.is_annotated[:, 2].tolist() == [drawn[i] for i in batch.case_ids]
    complete = [case for case in cases if not case.unannotated]
    source = BatchSource(complete, training.plan, training.config, CPU)
    assert source.batch(0).is_annotated is None


def test_a_training_goes_through_and_scores_only_what_was_drawn(workspace):
    training = select_training(quick(steps=4, n_validations=1), workspace)
    result = train(training, workspace, NullTracker())
    summary = result.card.validation
    n_open = sum("kidney" in record.unannotated for record in training.validation_records)
    kidney = summary.classes["kidney"]
    assert kidney.n_not_annotated == n_open
    assert kidney.dice.n + kidney.dice.n_undefined == summary.n_cases - n_open
    assert list(summary.classes) == ["liver", "kidney", "both"]
    assert summary.classes["both"].n_not_annotated == n_open
    means = [summary.classes[name].dice.mean for name in ("liver", "kidney")]
    defined = [mean for mean in means if mean is not None]
    assert summary.mean_foreground_dice == pytest.approx(np.mean(defined))
    scores = (workspace.fold_dir("0") / "validation" / "scores.csv").read_text()
    assert ",region" in scores
    history = (workspace.fold_dir("0") / "history.csv").read_text().splitlines()[0]
    assert "val/dice_both" in history


def test_what_is_open_is_part_of_the_identity_of_a_training(workspace, tmp_path):
    other = Workspace(tmp_path / "work")
    keys = {select_training(quick(), workspace).run_key}
    data = workspace.root.parent / "data"
    for changes in ({"unannotated": {"cases": {"kidney": ["case_000"]}}}, {"regions": {}}):
        task = TaskConfig.model_validate({**PARTIAL, **changes}, strict=False)
        ingest(IngestConfig(), task, data, other, NullTracker())
        audit(AuditConfig(max_pictures=0), other, NullTracker())
        keys.add(select_training(quick(), other).run_key)
    assert len(keys) == 3


def test_settings_that_regions_do_not_have_are_refused(workspace):
    for loss, words in (
        ({"class_weights": {"liver": 2.0}}, "class_weights cannot"),
        ({"include_background": True}, "no output for the background"),
    ):
        with pytest.raises(ConfigError, match=words):
            select_training(quick(loss=loss), workspace)


def test_one_number_is_kept_free_for_ignored_voxels(workspace):
    task = select_training(quick(), workspace).info.task
    one = task.classes[0]
    names = [one.model_copy(update={"name": f"c{n}", "index": n}) for n in range(1, MAX_CLASSES)]
    many = Task(channels=(), classes=tuple(names), ignore_values=(9,))
    refuse_task(many, quick(), workspace)
    last = one.model_copy(update={"name": "last", "index": MAX_CLASSES})
    full = many.model_copy(update={"classes": (*many.classes, last)})
    with pytest.raises(DataError, match="more than 254"):
        refuse_task(full, quick(), workspace)
    refuse_task(full.model_copy(update={"ignore_values": ()}), quick(), workspace)


def two_folders(target: Path, pairs: list[tuple[Path, Path]]) -> Path:
    for number, files in enumerate(pairs):
        for folder, file in zip(("images", "labels"), files, strict=True):
            (target / folder).mkdir(parents=True, exist_ok=True)
            (target / folder / f"case_{number:02d}.nii.gz").write_bytes(file.read_bytes())
    return target


@pytest.mark.slow
def test_openkbp_trains_with_its_undrawn_classes(shared_data, tmp_path):
    """Esophagus and larynx are contoured in about 40 % and half of the cases."""
    source = shared_data / "OpenKBP_HeadNeck"
    labels = sorted((source / "labelsTr").glob("*.nii.gz"))[:20]
    data = two_folders(tmp_path / "data", [(source / "imagesTr" / f.name, f) for f in labels])
    names = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx")
    classes = {name: value for value, name in enumerate((*names, "Mandible"), start=1)}
    workspace, absent = Workspace(tmp_path / "work"), ["Esophagus", "Larynx"]
    findings = []
    for unannotated in ({}, {"absent": absent}):
        section = {"classes": classes, "modality": ["ct"], "unannotated": unannotated}
        config = TaskConfig.model_validate(section, strict=False)
        manifest = ingest(IngestConfig(), config, data, workspace, NullTracker())
        found = audit(AuditConfig(max_pictures=0), workspace, NullTracker()).findings
        findings.append({f.class_name for f in found if f.check_id == "E05"})
    assert findings == [set(absent), set()]
    n_drawn = {name: sum(name not in c.unannotated for c in manifest.cases) for name in absent}
    assert all(0 < n < 20 for n in n_drawn.values())
    settings = quick(steps=3, n_validations=1, patch_size=[32, 32, 32])
    training = select_training(settings, workspace)
    card = train(training, workspace, NullTracker()).card
    assert card.info.n_annotated_cases.keys() == set(absent)
    for name in absent:
        n_held_out = card.validation.n_cases - card.validation.classes[name].n_not_annotated
        assert card.info.n_annotated_cases[name] + n_held_out == n_drawn[name]
    assert card.validation.classes["Brainstem"].n_not_annotated == 0


@pytest.mark.slow
def test_a_real_scribble_trains_without_its_ignored_voxels(shared_data, tmp_path):
    source = shared_data / "prostatex_0000"
    pair = (source / "Prostatex_0000.nii.gz", source / "Prostatex_0000_scribble.nii.gz")
    data, workspace = two_folders(tmp_path / "data", [pair]), Workspace(tmp_path / "work")
    config = TaskConfig.model_validate({"ignore": [255], "modality": ["mr"]}, strict=False)
    ingest(IngestConfig(), config, data, workspace, NullTracker())
    # One case is all there is.
    alone = Waiver(check_id="D05", reason="only to see that it trains")
    config = AuditConfig(max_pictures=0, waivers=(alone,))
    findings = audit(config, workspace, NullTracker()).findings
    assert not {f.check_id for f in findings if f.class_name or f.case_id} & {
        *("E01", "E02", "E07", "E09", "E13", "G13", "G14", "S01", "S03", "S04")
    }
    training = select_training(quick(steps=2, fold="all"), workspace)
    assert training.info.task.ignore_index == 255
    assert train(training, workspace, NullTracker()).card.n_steps == 2
