"""Archives from the network: whole or not at all, and nothing outside their folder."""

import io
import tarfile

import pytest

from pipeline.core.errors import DataError
from pipeline.io.archive import Limits, unpack


def member(name, content=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(file, *members, mode="w"):
    with tarfile.open(file, mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file


GOOD = (
    member("Task", kind=tarfile.DIRTYPE, mode=0o777),
    member("Task/dataset.json", b"{}", mode=0o4777, uid=12345),
    member("Task/imagesTr/a.nii.gz", b"voxels" * 1000),
    member("./Task/labelsTr/a.nii.gz", b"labels"),
    member("Task/imagesTr/._a.nii.gz", b"macOS"),
    member("._Task", b"macOS"),
)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_good_archive_is_unpacked(tmp_path, mode):
    archive = write_tar(tmp_path / "a.tar", *GOOD, mode=mode)
    folder = unpack(archive, tmp_path / "to" / "Task", Limits(ratio=1000.0))
    files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    assert sorted(files) == ["dataset.json", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"]
    assert files["imagesTr/a.nii.gz"].read_bytes() == b"voxels" * 1000
    assert not files["dataset.json"].stat().st_mode & 0o7000
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["Task"]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (member("Task/../../outside", b"x"), "leads out"),
        (member("../outside", b"x"), "leads out"),
        (member("/outside-of-it", b"x"), "leads out"),
        (member("Task\\..\\outside", b"x"), "leads out"),
        (member("Other/file", b"x"), "outside the folder Task"),
        (member("Task/link", kind=tarfile.SYMTYPE, linkname="../../.."), "neither a plain file"),
        (member("Task/link", kind=tarfile.LNKTYPE, linkname="Task/dataset.json"), "neither"),
        (member("Task/pipe", kind=tarfile.FIFOTYPE), "neither"),
        (member("Task/disk", kind=tarfile.BLKTYPE, devmajor=8), "neither"),
        (member("Task/dataset.json", b"again"), "twice"),
    ],
)
def test_what_is_no_plain_file_in_the_folder_is_refused(tmp_path, bad, expected):
    archive = write_tar(tmp_path / "a.tar", *GOOD, bad)
    with pytest.raises(DataError, match=expected):
        unpack(archive, tmp_path / "to" / "Task")
    # Nothing stays, not even what came before the bad one.
    assert list((tmp_path / "to").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "to"]


def test_writing_through_a_link_is_impossible(tmp_path):
    (tmp_path / "victim").mkdir()
    link = member("Task/sub", kind=tarfile.SYMTYPE, linkname=str(tmp_path / "victim"))
    archive = write_tar(tmp_path / "a.tar", link, member("Task/sub/file", b"x"))
    with pytest.raises(DataError, match="neither"):
        unpack(archive, tmp_path / "Task")
    assert list((tmp_path / "victim").iterdir()) == []


def test_bombs_are_stopped_early(tmp_path):
    bomb = member("Task/zeros", bytes(30_000_000))
    archive = write_tar(tmp_path / "a.tar", bomb, mode="w:gz")
    assert archive.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpacked it has more than"):
        unpack(archive, tmp_path / "Task")
    many = [member(f"Task/{n}") for n in range(30)]
    with pytest.raises(DataError, match="more than 20 files"):
        unpack(write_tar(tmp_path / "b.tar", *many), tmp_path / "Task", Limits(n_files=20))
    with pytest.raises(DataError, match="unpacked it has more than"):
        unpack(write_tar(tmp_path / "c.tar", *GOOD), tmp_path / "Task", Limits(n_bytes=100))
    assert not (tmp_path / "Task").exists()


def test_a_header_that_claims_more_than_there_is(tmp_path):
    info, content = member("Task/a", b"x" * 600)
    archive = tmp_path / "a.tar"
    info.size = 1 << 40
    archive.write_bytes(info.tobuf() + content)
    with pytest.raises(DataError, match="more than"):
        unpack(archive, tmp_path / "Task")
    info.size = 5000
    archive.write_bytes(info.tobuf() + content)
    with pytest.raises(DataError, match="not unpacked"):
        unpack(archive, tmp_path / "Task")


@pytest.mark.parametrize("n_bytes", [0, 100, 700, 1600, 3000, 5000])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_leaves_nothing_half(tmp_path, n_bytes, mode):
    whole = write_tar(tmp_path / "whole.tar", *GOOD, mode=mode).read_bytes()
    if n_bytes >= len(whole):
        pytest.skip("the compressed archive is shorter")
    archive = tmp_path / "a.tar"
    archive.write_bytes(whole[:n_bytes])
    with pytest.raises(DataError, match="not unpacked"):
        unpack(archive, tmp_path / "Task", Limits(ratio=1e6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "whole.tar"]


def test_no_archive_and_another_folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"<html>" * 400)
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path / "a.tar", tmp_path / "Task")
    with pytest.raises(DataError, match="no folder Task"):
        unpack(write_tar(tmp_path / "b.tar", member("._x", b"")), tmp_path / "Task")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "Task").mkdir()
    (tmp_path / "Task" / "mine").write_text("mine")
    with pytest.raises(DataError, match="of this name already"):
        unpack(write_tar(tmp_path / "a.tar", *GOOD), tmp_path / "Task")
    assert [path.name for path in (tmp_path / "Task").iterdir()] == ["mine"]
