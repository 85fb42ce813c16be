import pytest

from pipeline.core.errors import UsageError
from pipeline.core.workspace import Workspace
from pipeline.train.fold_folder import archive, only_one


def test_a_second_training_of_a_fold_is_refused_while_the_first_runs(tmp_path):
    folder = tmp_path / "train" / "fold_0"
    with (
        only_one(folder),
        pytest.raises(UsageError, match="another process is training this fold"),
        only_one(folder),
    ):
        pass
    with only_one(folder):
        pass


def test_two_folds_train_side_by_side(tmp_path):
    with only_one(tmp_path / "fold_0"), only_one(tmp_path / "fold_1"):
        pass


def test_an_earlier_training_is_put_aside_as_a_whole(tmp_path):
    workspace = Workspace(tmp_path)
    folder = workspace.fold_dir("0")
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("step\n")
    archive(workspace, folder)
    assert (folder / "history.csv").is_file()
    (folder / "last.pt").write_bytes(b"1")
    archive(workspace, folder)
    assert not folder.exists()
    (kept,) = (tmp_path / "train" / "archive").iterdir()
    assert sorted(file.name for file in kept.iterdir()) == ["history.csv", "last.pt"]
