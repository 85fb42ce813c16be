"""`voxline data`: from an archive to a folder that ingest takes."""

import tarfile

import pytest
from phantoms import write_dataset

from pipeline.core.errors import DataError
from pipeline.io.download import md5_of
from pipeline.runner.data import MD5, run_data

NAME = "Task04_Hippocampus"


@pytest.fixture
def archive(tmp_path):
    folder = write_dataset(tmp_path / "made" / NAME, 2, 0)
    file = tmp_path / "mirror.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(folder, NAME)
    return file


def test_an_archive_becomes_a_dataset_once(voxline, tmp_path, capsys, caplog, archive):
    to = tmp_path / "data"
    assert run_data(NAME, to, archive.as_uri(), md5=md5_of(archive)) == 0
    assert capsys.readouterr().out == f"{to / NAME}\n"
    assert archive.is_file()
    # The second time nothing is fetched: the address does not even exist.
    status, out, err = voxline("data", NAME, "--to", to, "--url", "http://127.0.0.1:9/a.tar")
    assert (status, out) == (0, f"{to / NAME}\n")
    assert "there already and complete" in err
    off = ("--set", "tracking.enabled=false")
    assert voxline("ingest", "--data", to / NAME, "--work", "w", *off)[0] == 0


def test_an_incomplete_folder_is_named(tmp_path, archive):
    run_data(NAME, tmp_path, archive.as_uri(), md5=md5_of(archive))
    (tmp_path / NAME / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 4 files are missing: .*case_001") as raised:
        run_data(NAME, tmp_path, archive.as_uri())
    assert "move it away" in raised.value.fix
    (tmp_path / NAME / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"dataset\.json cannot be used"):
        run_data(NAME, tmp_path)


def test_the_public_checksum_holds_for_mirrors(voxline, tmp_path, archive):
    status, _, err = voxline("data", NAME, "--to", "d", "--url", archive.as_uri())
    assert status == 2
    assert f"not {MD5[NAME]}" in err
    assert not (tmp_path / "d" / NAME).exists()


def test_names_are_suggested(voxline):
    status, _, err = voxline("data", "Task04_hippocampus")
    assert status == 3
    assert f"did you mean '{NAME}'?" in err


def test_there_are_ten():
    assert [name[:6] for name in MD5] == [f"Task{n:02d}" for n in range(1, 11)]
    assert all(len(md5) == 32 and int(md5, 16) for md5 in MD5.values())
