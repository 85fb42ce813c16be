"""Files are complete or as they were, whatever happens while they are written."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.core.workspace import Workspace, atomic_write, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_new_file_is_complete_and_its_folder_is_made(tmp_path):
    file = tmp_path / "a" / "b" / "x.bin"
    with atomic_write(file) as stream:
        stream.write(b"12")
        assert not file.exists()
        stream.write(b"34")
    assert file.read_bytes() == b"1234"
    assert names(file.parent) == ["x.bin"]


def test_trainings_of_a_sweep_or_of_other_seeds_have_places_of_their_own(tmp_path):
    work = Workspace(tmp_path)
    of_sweep = replace(work, train_root=tmp_path / "sweeps" / "a" / "train")
    of_other_seed = replace(work, seed=2)
    assert work.fold_dir("0") == tmp_path / "train" / "fold_0"
    assert of_sweep.fold_dir("0") == tmp_path / "sweeps" / "a" / "train" / "fold_0"
    assert of_other_seed.fold_dir("0") == tmp_path / "train" / "fold_0_seed_2"
    for other in (of_sweep, of_other_seed):
        assert other.prepared_dir == work.prepared_dir
        assert other.stage_dir("audit") == work.stage_dir("audit")


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path, error):
    file = tmp_path / "x.bin"
    file.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(file) as stream:
            stream.write(b"half of the n")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    file = tmp_path / "best.pt"
    file.write_bytes(b"old")
    # A limit on the file size fails the same way as a full disk: write() returns an error half-way.
    code = """
import resource, sys
from pathlib import Path
from pipeline.core.workspace import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_write(Path(sys.argv[1])) as stream:
        stream.write(b"x" * 100_000)
except OSError as error:
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    assert done.returncode == 7, done.stderr
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["best.pt"]


def test_a_kill_leaves_the_old_file(tmp_path):
    file = tmp_path / "last.pt"
    file.write_bytes(b"old")
    code = """
import os, signal, sys
from pathlib import Path
from pipeline.core.workspace import atomic_write
with atomic_write(Path(sys.argv[1])) as stream:
    stream.write(b"x" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    assert file.read_bytes() == b"old"


def test_results_are_readable_by_others_as_far_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "x.txt", "shared")
    finally:
        os.umask(before)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o640


def test_text_and_json_are_utf_8(tmp_path):
    class Card(BaseModel):
        name: str

    write_text(tmp_path / "x.txt", "Größe µm\n")
    assert (tmp_path / "x.txt").read_bytes() == "Größe µm\n".encode()
    write_json(tmp_path / "x.json", Card(name="Größe"))
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert Card.model_validate_json(text) == Card(name="Größe")
    assert text.endswith("\n")


def test_stages_write_below_their_own_name():
    workspace = Workspace(Path("/w"))
    assert workspace.dataset_file.is_relative_to(workspace.stage_dir("ingest"))
    assert workspace.store_dir.is_relative_to(workspace.stage_dir("ingest"))
    for file in (workspace.findings_file, workspace.fingerprint_file, workspace.splits_file):
        assert file.is_relative_to(workspace.stage_dir("audit"))
    for folder in (workspace.fold_dir("0"), workspace.fold_dir("all"), workspace.prepared_dir):
        assert folder.is_relative_to(workspace.stage_dir("train"))
    assert workspace.infer_dir("heldout") == workspace.stage_dir("infer") / "heldout"
    assert workspace.evaluate_dir("heldout") == workspace.stage_dir("evaluate") / "heldout"
