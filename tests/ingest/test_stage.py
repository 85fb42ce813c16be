"""The stage: incremental, honest about bad cases, safe to kill."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import phantoms
import pytest
from clusters import Cluster, wait_until

from pipeline.artifacts import DatasetManifest, read_artifact
from pipeline.core.errors import ConfigError, DataError, UsageError
from pipeline.core.parallel import Outcome, case_runs
from pipeline.core.parallel_config import ParallelConfig, Part
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.lock import one_part
from pipeline.ingest.stage import dataset_digest, ingest, ingest_part
from pipeline.io.store import open_array

SHAPE = (16, 18, 20)


class Recorder(NullTracker):
    def __init__(self):
        self.metrics, self.datasets, self.headlines = {}, [], []

    def log_metrics(self, metrics, *, step=None, headline=True):
        self.metrics |= metrics
        self.headlines.append(headline)

    def log_dataset(self, *, name, digest, context):
        self.datasets.append((name, digest, context))


@pytest.fixture
def data(tmp_path):
    return phantoms.write_dataset(tmp_path / "data", 4, shape=SHAPE)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


def run(data, workspace, task=None, tracker=None, **knobs):
    return ingest(
        IngestConfig(**knobs), task or TaskConfig(), data, workspace, tracker or NullTracker()
    )


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "two_folders"])
def test_manifest_lists_every_case(tmp_path, workspace, layout):
    data = phantoms.write_dataset(tmp_path / "set", 3, layout=layout, shape=SHAPE)
    tracker = Recorder()
    manifest = run(data, workspace, tracker=tracker)
    assert read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest") == manifest
    assert (manifest.name, manifest.layout, manifest.root) == ("set", layout, data)
    assert [c.case_id for c in manifest.ready_cases] == ["case_000", "case_001", "case_002"]
    names = ("class_1", "class_2") if layout == "two_folders" else phantoms.CLASS_NAMES[:2]
    assert manifest.task.class_names == names
    for record in manifest.cases:
        assert open_array(workspace.root, record.image).shape == (1, *SHAPE)
        assert open_array(workspace.root, record.label).shape == SHAPE
    assert tracker.datasets == [("set", manifest.digest, "ingest")]
    assert tracker.metrics["ingest/n_cases"] == 3
    assert tracker.metrics["ingest/n_unreadable"] == 0
    assert not any(tracker.headlines)
    assert {p.relative_to(workspace.root).parts[0] for p in workspace.root.rglob("*")} == {"ingest"}


def test_second_run_changes_nothing_and_says_so(data, workspace, caplog):
    first = run(data, workspace)
    before = snapshot(workspace.root)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        assert run(data, workspace) == first
    assert "nothing changed" in caplog.text
    assert snapshot(workspace.root) == before


def test_second_run_with_a_bad_file_changes_nothing_either(data, workspace, caplog):
    (data / "labelsTr" / "case_002.nii.gz").write_text("no volume")
    first = run(data, workspace)
    before = snapshot(workspace.root)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        assert run(data, workspace) == first
    assert "nothing changed" in caplog.text
    assert snapshot(workspace.root) == before


def test_only_what_changed_is_read_again(data, workspace, caplog):
    first = run(data, workspace)
    before = snapshot(workspace.store_dir)
    image, label, affine = phantoms.case(99, SHAPE, (2.0, 2.0, 2.0))
    phantoms.write_nifti(data / "imagesTr" / "case_001.nii.gz", image, affine)
    phantoms.write_nifti(data / "labelsTr" / "case_001.nii.gz", label, affine)
    (data / "imagesTr" / "case_003.nii.gz").unlink()
    (data / "labelsTr" / "case_003.nii.gz").unlink()
    with caplog.at_level(logging.INFO, logger="pipeline"):
        second = run(data, workspace)
    assert "1 cases read, 2 kept" in caplog.text
    after = snapshot(workspace.store_dir)
    changed = {path.name.split(".")[0] for path in after if after[path] != before[path]}
    assert changed == {"case_001"}
    assert not [path for path in after if path.name.startswith("case_003")]
    assert second.digest != first.digest
    np.testing.assert_array_equal(open_array(workspace.root, second.cases[1].image)[0], image)


def test_one_bad_case_does_not_stop_the_others(data, workspace):
    bad = data / "imagesTr" / "case_001.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-30])
    tracker = Recorder()
    manifest = run(data, workspace, tracker=tracker)
    assert [c.status for c in manifest.cases] == ["ready", "unreadable", "ready", "ready"]
    assert manifest.cases[1].problems[0].check_id == "F03"
    assert tracker.metrics["ingest/n_unreadable"] == 1
    good = phantoms.write_dataset(bad.parents[2] / "again", 4, shape=SHAPE)
    shutil.copy(good / "imagesTr" / bad.name, bad)
    assert len(run(data, workspace).ready_cases) == 4


def test_all_cases_bad_is_still_a_manifest(tmp_path, workspace):
    data = phantoms.write_dataset(tmp_path / "set", 2, layout="two_folders", shape=SHAPE)
    for file in data.rglob("*.nii.gz"):
        file.write_text("no volume")
    manifest = run(data, workspace)
    assert manifest.ready_cases == ()
    assert manifest.task.classes == ()


def test_files_without_partner_are_problems_not_cases(data, workspace):
    (data / "labelsTr" / "case_000.nii.gz").unlink()
    manifest = run(data, workspace)
    assert [c.case_id for c in manifest.cases] == ["case_001", "case_002", "case_003"]
    assert "imagesTr/case_000.nii.gz" in {p.file for p in manifest.problems}


def test_a_case_with_another_number_of_channels_cannot_be_used(tmp_path, workspace):
    data = phantoms.write_dataset(tmp_path / "set", 3, n_channels=2, shape=SHAPE)
    image, _, affine = phantoms.case(0, SHAPE, (2.0, 2.0, 2.0))
    phantoms.write_nifti(data / "imagesTr" / "case_001.nii.gz", image, affine)
    manifest = run(data, workspace)
    assert len(manifest.task.channels) == 2
    assert [c.status for c in manifest.cases] == ["ready", "unreadable", "ready"]
    assert manifest.cases[1].problems[0].check_id == "F06"
    assert run(data, workspace) == manifest


def test_digest_follows_content_not_names(data, workspace, tmp_path):
    first = run(data, workspace)
    for part in ("imagesTr", "labelsTr"):
        (data / part / "case_000.nii.gz").rename(data / part / "zebra.nii.gz")
    renamed = run(data, workspace)
    assert renamed.digest == first.digest
    assert dataset_digest(tuple(reversed(first.cases))) == first.digest
    assert dataset_digest(first.cases[1:]) != first.digest


def test_changed_task_rewrites_the_manifest_alone(data, workspace):
    run(data, workspace)
    before = snapshot(workspace.store_dir)
    manifest = run(data, workspace, TaskConfig(name="mine", classes={"both": (1, 2)}))
    assert (manifest.name, manifest.task.class_names) == ("mine", ("both",))
    assert snapshot(workspace.store_dir) == before


def test_workers_give_the_same_as_one_process(data, tmp_path):
    one = run(data, Workspace(tmp_path / "one"), n_jobs=1)
    two = run(data, Workspace(tmp_path / "two"), n_jobs=2)
    assert one == two


def test_unusable_folders(tmp_path, workspace, data):
    with pytest.raises(UsageError):
        run(tmp_path / "absent", workspace)
    shutil.rmtree(data / "labelsTr")
    with pytest.raises(DataError, match="has a label") as caught:
        run(data, workspace)
    assert "labelsTr" in caught.value.fix
    assert not workspace.root.exists()


def test_a_misspelt_structure_is_refused_before_a_case_is_read(data, workspace):
    task = TaskConfig(classes={"organ": "livr"})
    for run in (
        lambda: ingest(IngestConfig(), task, data, workspace, NullTracker()),
        lambda: ingest_part(IngestConfig(), task, data, workspace, Part(1, 2)),
    ):
        with pytest.raises(ConfigError, match="livr"):
            run()
    assert not workspace.store_dir.exists()


def test_a_task_that_contradicts_the_data(data, workspace):
    with pytest.raises(ConfigError, match="1 channels"):
        run(data, workspace, TaskConfig(modality=("ct", "mr")))


# One ingest in a process of its own: python -c INGEST DATA WORK N_JOBS
INGEST = (
    "import sys; from pathlib import Path; from pipeline.core.task import TaskConfig;"
    "from pipeline.core.tracker import NullTracker; from pipeline.core.workspace import *;"
    "from pipeline.ingest.config import IngestConfig; from pipeline.ingest.stage import ingest;"
    "ingest(IngestConfig(n_jobs=int(sys.argv[3])), TaskConfig(), Path(sys.argv[1]),"
    " Workspace(Path(sys.argv[2])), NullTracker())"
)


def start(data, workspace, n_jobs=1):
    command = [sys.executable, "-c", INGEST, str(data), str(workspace.root), str(n_jobs)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def n_finished(workspace):
    return len(list(workspace.store_dir.glob("*.case.json")))


def contents(workspace):
    return {p.name: p.read_bytes() for p in workspace.store_dir.iterdir()}


def test_killed_in_the_middle_and_run_again(tmp_path, workspace):
    data = phantoms.write_dataset(tmp_path / "set", 40, shape=(48, 48, 48))
    process = start(data, workspace)
    deadline_s = time.monotonic() + 60
    while n_finished(workspace) < 3 and time.monotonic() < deadline_s:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= n_finished(workspace) < 40
    assert not workspace.dataset_file.exists()
    before = snapshot(workspace.store_dir)
    manifest = run(data, workspace)
    after = snapshot(workspace.store_dir)
    kept = [path for path in before if path.name.endswith(".case.json")]
    assert all(after[path] == before[path] for path in kept)
    assert not [path for path in after if path.name.endswith(".part")]
    assert manifest == run(data, Workspace(workspace.root.with_name("fresh")))


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_real_cases_killed_again_and_again_end_as_if_nothing_had_happened(
    shared_data, tmp_path, workspace, n_jobs
):
    data = shared_data / "Task04_Hippocampus"
    fresh = Workspace(tmp_path / "fresh")
    expected = run(data, fresh)
    rng = np.random.default_rng(n_jobs)
    finished = {}
    for _ in range(4):
        n_wanted = n_finished(workspace) + int(rng.integers(1, 40))
        process = start(data, workspace, n_jobs)
        while n_finished(workspace) < n_wanted and process.poll() is None:
            time.sleep(float(rng.uniform(0.0005, 0.01)))
        process.kill()
        process.wait()
        time.sleep(0.5)  # its workers notice that it is gone and end, after their present case
        now = snapshot(workspace.store_dir)
        assert all(now[path] == seen for path, seen in finished.items())
        finished = {path: now[path] for path in now if path.name.endswith(".case.json")}
    assert 0 < len(finished) < 208
    assert run(data, workspace) == expected
    assert workspace.dataset_file.read_bytes() == fresh.dataset_file.read_bytes()
    assert contents(workspace) == contents(fresh)
    now = snapshot(workspace.store_dir)
    assert all(now[path] == seen for path, seen in finished.items())


def test_two_processes_on_one_store_do_each_case_once(tmp_path, workspace):
    data = phantoms.write_dataset(tmp_path / "set", 12, shape=(32, 32, 32))
    processes = [start(data, workspace) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    fresh = Workspace(tmp_path / "fresh")
    manifest = run(data, fresh)
    assert read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest") == manifest
    assert contents(workspace) == contents(fresh)
    before = snapshot(workspace.store_dir)
    run(data, workspace)
    assert snapshot(workspace.store_dir) == before


def test_a_whole_ingest_beside_a_running_part_is_refused(data, workspace):
    with (
        one_part(workspace, Part(1, 2)),
        pytest.raises(UsageError, match="part 1-of-2 is being ingested"),
    ):
        run(data, workspace)


def test_parts_store_and_list_nothing(data, workspace):
    for number in (1, 2):
        assert ingest_part(IngestConfig(), TaskConfig(), data, workspace, Part(number, 2)) == 0
    assert n_finished(workspace) == 4
    assert not workspace.dataset_file.exists()
    before = snapshot(workspace.store_dir)
    assert len(run(data, workspace).ready_cases) == 4
    assert snapshot(workspace.store_dir) == before


def test_a_case_that_ends_its_process_is_one_unreadable_case(data, workspace, monkeypatch):
    lost = DataError("the process was killed", fix="more memory")

    def with_a_loss(function, items, **knobs):
        return [
            Outcome(item, None, lost)
            if item.case_id == "case_001"
            else Outcome(item, function(item), None)
            for item in items
        ]

    monkeypatch.setattr("pipeline.ingest.stage.map_cases", with_a_loss)
    manifest = run(data, workspace)
    assert [c.status for c in manifest.cases] == ["ready", "unreadable", "ready", "ready"]
    assert manifest.cases[1].problems[0].message == "the process was killed"
    monkeypatch.undo()
    assert len(run(data, workspace).ready_cases) == 4


@pytest.mark.slow
def test_on_a_cluster_that_loses_a_worker_it_is_the_same(shared_data, tmp_path, workspace):
    pytest.importorskip("distributed")
    data = shared_data / "Task04_Hippocampus"
    fresh = Workspace(tmp_path / "fresh")
    expected = run(data, fresh)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.add_worker("one")
        cluster.add_worker("two")

        def kill_in_the_middle():
            wait_until(lambda: n_finished(workspace) >= 60)
            cluster.kill("one")

        killer = threading.Thread(target=kill_in_the_middle, daemon=True)
        killer.start()
        config = ParallelConfig(backend="dask", scheduler=cluster.address)
        journal = workspace.stage_dir("ingest") / "cases.jsonl"
        with case_runs(config, journal):
            manifest = run(data, workspace)
        killer.join()
    assert manifest == expected
    assert contents(workspace) == contents(fresh)
    cases = [json.loads(line)["case"] for line in journal.read_text().splitlines()]
    assert sorted(cases) == sorted(c.case_id for c in expected.cases)


def test_manifest_holds_no_words_from_headers(data, workspace):
    import nibabel as nib

    file = data / "imagesTr" / "case_000.nii.gz"
    image = nib.load(file)
    image.header["descrip"] = b"Doe^Jane"
    nib.save(image, file)
    run(data, workspace)
    assert "Doe" not in workspace.dataset_file.read_text()
    assert json.loads(workspace.dataset_file.read_text())["schema_version"] == 1


def test_hippocampus(shared_data, workspace):
    tracker = Recorder()
    started_at_s = time.process_time()
    manifest = run(shared_data / "Task04_Hippocampus", workspace, tracker=tracker)
    # About 1 s; generous because run-time shape checks are on and the machine is shared.
    assert time.process_time() - started_at_s < 10
    assert len(manifest.ready_cases) == 208
    assert manifest.task.class_names == ("Anterior", "Posterior")
    assert manifest.task.channels[0].modality == "mr"
    assert manifest.problems == ()
