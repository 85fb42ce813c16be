"""The section `ingest` and a model decide how a folder is read."""

from trees import touch

from pipeline.artifacts import Channel, LabelClass, Task
from pipeline.core.task import TaskConfig
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.folder import open_folder, open_folder_for


def test_the_section_reaches_discovery(tmp_path):
    touch(tmp_path, *(f"p1/p1_{part}.nii" for part in ("t1", "t2", "seg", "roi")))
    folder = open_folder(
        IngestConfig(layout="case_folders", channels=("t2",), label="roi"), tmp_path
    )
    assert [image.name for image in folder.cases[0].images] == ["p1_t2.nii"]
    assert folder.cases[0].label == tmp_path / "p1" / "p1_roi.nii"
    outside = touch(tmp_path.parent / "outside", "x.nii") / "x.nii"
    (tmp_path / "p1" / "p1_t2.nii").unlink()
    (tmp_path / "p1" / "p1_t2.nii").symlink_to(outside)
    assert len(open_folder(IngestConfig(label="seg", allow_links=True), tmp_path).cases) == 1


def test_the_channels_of_a_model_choose_the_images(tmp_path):
    touch(tmp_path, *(f"p1/p1_{part}.nii" for part in ("t1", "t2", "flair")))
    channels = tuple(Channel(name=name, modality="mr") for name in ("t2", "flair"))
    folder = open_folder_for(Task(channels=channels, classes=()), IngestConfig(), tmp_path)
    assert folder.channel_names == ("t2", "flair")
    assert [image.name for image in folder.cases[0].images] == ["p1_t2.nii", "p1_flair.nii"]


def test_named_structures_mean_what_they_meant_in_training(tmp_path):
    touch(tmp_path, "p1/ct.nii", *(f"p1/segmentations/{n}.nii" for n in ("aorta", "liver", "lobe")))
    classes = tuple(
        LabelClass(name=name, index=index, source_values=(index + 4,))
        for index, name in enumerate(("liver", "lung"), start=1)
    )
    task = Task(channels=(Channel(name="ct", modality="ct"),), classes=classes)
    task = task.model_copy(update={"background_values": (0, 3)})
    folder = open_folder_for(task, IngestConfig(), tmp_path)
    assert folder.class_values == {"liver": (5,), "lung": (6,), "aorta": (0,), "lobe": (0,)}
    names = TaskConfig(classes={"lung": ("lobe",), "liver": 5})
    renamed = open_folder_for(task, IngestConfig(), tmp_path, names)
    assert (renamed.class_values or {})["lobe"] == (6,)
