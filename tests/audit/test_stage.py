import json
import shutil
from pathlib import Path

import pytest
from phantoms import write_dataset

from pipeline.artifacts import (
    DatasetManifest,
    Findings,
    Fingerprint,
    Splits,
    read_artifact,
)
from pipeline.audit.config import AuditConfig, GroupConfig, Waiver
from pipeline.audit.stage import audit
from pipeline.core.errors import ConfigError, DataError, MissingInputError
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace, write_json
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest


class Recorder(NullTracker):
    def __init__(self):
        self.metrics, self.files, self.tags = {}, [], {}

    def set_tags(self, tags):
        self.tags |= tags

    def log_metrics(self, metrics, *, step=None, headline=True):
        self.metrics |= metrics

    def log_file(self, file, *, folder="", headline=False):
        self.files.append(file)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("audit")
    data = write_dataset(root / "Phantoms", 7, seed=5)
    ingest(IngestConfig(), TaskConfig(), data, Workspace(root / "work"), NullTracker())
    return root / "work"


@pytest.fixture
def workspace(ingested, tmp_path) -> Workspace:
    return Workspace(Path(shutil.copytree(ingested, tmp_path / "work")))


def test_leaves_what_the_next_stage_reads(workspace, capsys):
    tracker = Recorder()
    findings = audit(AuditConfig(), workspace, tracker)
    assert findings.verdict == "clean"
    assert read_artifact(workspace.findings_file, Findings, made_by="audit") == findings
    fingerprint = read_artifact(workspace.fingerprint_file, Fingerprint, made_by="audit")
    ids = [f"case_{n:03d}" for n in range(7)]
    assert [case.case_id for case in fingerprint.cases] == ids
    splits = read_artifact(workspace.splits_file, Splits, made_by="audit")
    assert sorted(i for fold in splits.folds for i in fold.validation) == ids
    counts = {"audit/n_errors": 0, "audit/n_warnings": 0, "audit/n_waived": 0}
    assert tracker.metrics == counts
    assert tracker.tags == {"audit.verdict": "clean", "audit.waivers": "none"}
    assert [file.name for file in tracker.files] == ["report.html", "findings.json"]
    assert tracker.files[0].is_file()
    assert "7 cases: clean" in capsys.readouterr().out


def test_a_second_audit_gives_the_same_files_and_reads_no_volume(workspace):
    audit(AuditConfig(), workspace, NullTracker())
    names = ("findings.json", "fingerprint.json", "splits.json", "report.html")
    folder = workspace.stage_dir("audit")
    before = {name: (folder / name).read_bytes() for name in names}
    audit(AuditConfig(), workspace, NullTracker())
    assert {name: (folder / name).read_bytes() for name in names} == before
    shutil.rmtree(workspace.store_dir)
    audit(AuditConfig(max_pictures=0), workspace, NullTracker())
    assert (folder / "fingerprint.json").read_bytes() == before["fingerprint.json"]


def test_worker_processes_give_the_same_result(workspace):
    here = audit(AuditConfig(n_jobs=1, max_pictures=0), workspace, NullTracker())
    shutil.rmtree(workspace.stage_dir("audit"))
    there = audit(AuditConfig(n_jobs=2, max_pictures=0), workspace, NullTracker())
    assert here == there


def test_writes_only_into_its_own_folder(workspace):
    before = {f for f in workspace.root.rglob("*") if f.is_file()}
    audit(AuditConfig(), workspace, NullTracker())
    new = {f for f in workspace.root.rglob("*") if f.is_file()} - before
    assert all(f.is_relative_to(workspace.stage_dir("audit")) for f in new)


def test_waived_errors_let_training_pass_and_unused_waivers_are_told(workspace, caplog):
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    cases = list(manifest.cases)
    facts = cases[2].label_file.model_copy(update={"scl_slope": 2.0})
    cases[2] = cases[2].model_copy(update={"label_file": facts})
    write_json(workspace.dataset_file, manifest.model_copy(update={"cases": tuple(cases)}))
    assert audit(AuditConfig(max_pictures=0), workspace, NullTracker()).verdict == "errors"
    waivers = (
        Waiver(check_id="F07", case_id="case_002", reason="checked"),
        Waiver(check_id="G02", reason="of an older release"),
    )
    found = audit(AuditConfig(max_pictures=0, waivers=waivers), workspace, NullTracker())
    assert found.verdict == "clean"
    assert [f.waived for f in found.findings if f.check_id == "F07"] == ["checked"]
    assert found.unused_waivers == ("G02 for every case: of an older release",)
    assert "of an older release" in caplog.text


def test_groups_reach_the_folds(workspace):
    config = AuditConfig(max_pictures=0, groups=GroupConfig(pattern="^case_00([0-3])"))
    audit(config, workspace, NullTracker())
    splits = json.loads(workspace.splits_file.read_text())
    assert splits["groups"] == {f"case_00{n}": str(n) for n in range(4)}


def test_required_class_must_exist(workspace):
    with pytest.raises(ConfigError, match="no class 'livr'") as error:
        audit(AuditConfig(required_classes=("livr",)), workspace, NullTracker())
    assert "liver" in error.value.fix


def test_missing_input_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(MissingInputError) as error:
        audit(AuditConfig(), Workspace(tmp_path), NullTracker())
    assert "voxline ingest" in error.value.fix


def test_a_damaged_store_is_named(workspace):
    next(workspace.store_dir.glob("*.npy")).write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        audit(AuditConfig(), workspace, NullTracker())


def test_too_few_cases_is_a_finding_not_a_crash(workspace):
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    write_json(workspace.dataset_file, manifest.model_copy(update={"cases": manifest.cases[:1]}))
    found = audit(AuditConfig(), workspace, NullTracker())
    assert ("D05", "error") in {(f.check_id, f.severity) for f in found.findings}
    assert read_artifact(workspace.splits_file, Splits, made_by="audit").folds == ()
