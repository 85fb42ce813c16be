"""Damage in the store is found by its hash, named by case, and mended by the next ingest."""

import phantoms
import pytest

from pipeline.core.errors import MissingInputError
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest
from pipeline.ingest.verify import verify_store


@pytest.fixture
def data(tmp_path):
    return phantoms.write_dataset(tmp_path / "data", 3, shape=(16, 16, 16))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


def run(data, workspace):
    return ingest(IngestConfig(), TaskConfig(), data, workspace, NullTracker())


def contents(workspace):
    return {p.name: p.read_bytes() for p in workspace.store_dir.iterdir()}


def flip_one_bit(file):
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def test_a_sound_store_is_left_as_it_is(data, workspace):
    manifest = run(data, workspace)
    before = contents(workspace)
    verification = verify_store(IngestConfig(), workspace)
    assert (verification.n_cases, verification.damaged) == (3, {})
    n_voxels = 3 * 16**3
    assert verification.n_bytes == n_voxels * (2 + 1)  # int16 images, uint8 labels
    assert contents(workspace) == before
    assert run(data, workspace) == manifest


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda s: flip_one_bit(s / "case_001.label.npy"), "label: its voxels"),
        (lambda s: flip_one_bit(s / "case_001.image.npy"), "image: its voxels"),
        (lambda s: (s / "case_001.image.npy").unlink(), "missing"),
        (lambda s: (s / "case_001.image.npy").write_bytes(b""), "damaged"),
        (lambda s: (s / "case_001.label.json").write_text("{"), "label: a sidecar"),
        (
            lambda s: (s / "case_001.image.json").write_bytes(
                (s / "case_002.image.json").read_bytes()
            ),
            "sidecar and dataset.json differ",
        ),
    ],
)
def test_damage_is_named_by_case_and_read_again_next_time(data, workspace, caplog, damage, what):
    manifest = run(data, workspace)
    before = contents(workspace)
    damage(workspace.store_dir)
    verification = verify_store(IngestConfig(), workspace)
    assert list(verification.damaged) == ["case_001"]
    assert what in verification.damaged["case_001"]
    assert "case case_001 is damaged" in caplog.text
    assert run(data, workspace) == manifest
    assert contents(workspace) == before
    assert verify_store(IngestConfig(), workspace).damaged == {}


def test_without_a_manifest_there_is_nothing_to_verify(workspace):
    with pytest.raises(MissingInputError, match="there is no dataset"):
        verify_store(IngestConfig(), workspace)
    assert not workspace.root.exists()
