"""A change of any file of a volume shows."""

import numpy as np
from format_builders import write_volume

from pipeline.io.stamps import stamp_volume


def test_a_change_in_any_file_of_a_volume_is_noticed(tmp_path):
    array, affine = np.zeros((4, 5, 6), np.uint8), np.diag([1.0, 2, 3, 1])
    for name, other in (("a.mhd", "a.raw"), ("b.img", "b.hdr"), ("c.nhdr", "c.raw")):
        file = write_volume(tmp_path / name, array, affine, packed=False)
        before = stamp_volume(file, tmp_path)
        assert before.file == name
        (tmp_path / other).write_bytes((tmp_path / other).read_bytes() + b"0")
        assert stamp_volume(file, tmp_path).n_bytes == before.n_bytes + 1


def test_a_folder_of_slices_has_one_stamp(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    assert stamp_volume(folder, tmp_path).modified_ns == -1
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(bytes(10))
    stamp = stamp_volume(folder, tmp_path)
    assert (stamp.file, stamp.n_bytes) == ("series", 30)
    assert stamp_volume(tmp_path / "gone.nii", tmp_path).n_bytes == -1
