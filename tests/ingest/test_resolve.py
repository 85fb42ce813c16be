"""Configuration beats dataset.json beats what is found in the labels."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts import Region
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.task import TaskConfig
from pipeline.ingest.resolve import modality_of, resolve_task
from pipeline.io.discover import DatasetFolder


def folder_of(channels=(), classes=None):
    return DatasetFolder(Path("/d"), "d", "decathlon", "", (), (), channels, channels, classes)


def resolve(config=None, folder=None, n_channels=1, found=()):
    return resolve_task(
        config or TaskConfig(), folder or folder_of(), n_channels=n_channels, found_values=found
    )


@pytest.mark.parametrize(
    ("words", "modality"),
    [
        *[(words, "ct") for words in ("CT", "ct", "cect", "CT (portal venous)", "low-dose_ct")],
        *[(words, "mr") for words in ("MRI", "MR", "T1", "T1w", "t1ce", "T2-weighted", "FLAIR")],
        *[(words, "mr") for words in ("flair3D", "ADC", "DWI_b1000")],
        *[(words, "pet") for words in ("PET", "PET/CT suv", "FDG")],
        *[
            (words, "other")
            for words in ("", "ultrasound", "image", "vector", "projected", "noNorm")
        ],
    ],
)
def test_modality_of(words, modality):
    assert modality_of(words) == modality


def test_nothing_said_takes_values_as_classes():
    task = resolve(found=[0, 3, 1, -2])
    assert [(c.name, c.index, c.source_values) for c in task.classes] == [
        ("class_1", 1, (1,)),
        ("class_3", 2, (3,)),
    ]
    assert [(c.name, c.modality) for c in task.channels] == [("channel_0", "other")]
    assert resolve().classes == ()


def test_dataset_json_names_channels_and_classes_in_value_order():
    folder = folder_of(("CT", "PET"), {"tumor": (7,), "liver": (1, 2)})
    task = resolve(folder=folder, n_channels=2, found=[99])
    assert task.class_names == ("liver", "tumor")
    assert [c.index for c in task.classes] == [1, 2]
    assert [(c.name, c.modality) for c in task.channels] == [("CT", "ct"), ("PET", "pet")]


def test_configuration_wins_and_unselected_classes_become_background():
    folder = folder_of(("MRI",), {"a": (1,), "b": (2,), "c": (3,)})
    config = TaskConfig(classes={"mine": (3, 2)}, modality=("ct",), channels=("x",))
    task = resolve(config, folder)
    assert task.classes[0].source_values == (3, 2)
    assert task.background_values == (0, 1)
    assert (task.channels[0].name, task.channels[0].modality) == ("x", "ct")
    explicit = TaskConfig(classes={"mine": 3}, background=(0, 2))
    assert resolve(explicit, folder).background_values == (0, 2)
    assert resolve(TaskConfig(background=(0, 255)), found=[1, 255]).class_names == ("class_1",)


def test_same_words_for_several_channels_get_plain_names():
    task = resolve(folder=folder_of(("MRI", "MRI")), n_channels=2)
    assert [(c.name, c.modality) for c in task.channels] == [
        ("channel_0", "mr"),
        ("channel_1", "mr"),
    ]


def test_ignored_values_are_neither_class_nor_background():
    described = folder_of(("MRI",), {"a": (1,), "b": (2,)})
    described = replace(described, ignore_values=(9,))
    task = resolve(TaskConfig(classes={"a": 1}), described)
    assert (task.background_values, task.ignore_values) == ((0, 2), (9,))
    assert resolve(TaskConfig(ignore=(2,)), found=[1, 2]).class_names == ("class_1",)
    assert resolve(TaskConfig(ignore=()), described).ignore_values == ()
    with pytest.raises(ConfigError, match="ignored and a class"):
        resolve(TaskConfig(classes={"a": 1}, ignore=(1,)))
    with pytest.raises(ConfigError, match="both background and ignored"):
        resolve(TaskConfig(background=(0, 5), ignore=(5,)))


def test_classes_can_be_named_as_the_dataset_names_them():
    described = folder_of((), {"GTV_CT": (1,), "GTV_MR": (2,), "Heart": (3,)})
    task = resolve(TaskConfig(classes={"GTV": ("GTV_CT", "GTV_MR"), "x": 7}), described)
    assert [c.source_values for c in task.classes] == [(1, 2), (7,)]
    assert task.background_values == (0, 3)
    with pytest.raises(ConfigError, match="'heart'") as caught:
        resolve(TaskConfig(classes={"Heart": "heart"}), described)
    assert caught.value.fix == "did you mean 'Heart'?"
    with pytest.raises(ConfigError, match="value 3 belongs to 'a' and to 'b'"):
        resolve(TaskConfig(classes={"a": 3, "b": "Heart"}), described)
    with pytest.raises(ConfigError) as caught:
        resolve(TaskConfig(classes={"a": "Heart"}))
    assert "neither dataset.json" in caught.value.fix


def test_regions_of_the_configuration_or_of_dataset_json():
    regions = (
        Region(name="whole", classes=("a", "b"), paints="a"),
        Region(name="b", classes=("b",), paints="b"),
    )
    described = replace(folder_of((), {"a": (1,), "b": (2,)}), regions=regions)
    assert resolve(folder=described).regions == regions
    assert resolve(TaskConfig(regions={}), described).regions == ()
    assert resolve(TaskConfig(classes={"b": 2}), described).regions == ()
    configured = resolve(TaskConfig(regions={"w": ("b", "a"), "a": ("a",)}), described)
    assert [region.paints for region in configured.regions] == ["b", "a"]
    assert configured.n_outputs == 2


def test_contradictions_are_named():
    with pytest.raises(ConfigError) as caught:
        resolve(TaskConfig(channels=("a", "b")))
    assert caught.value.where == "task.channels"
    with pytest.raises(ConfigError) as caught:
        resolve(TaskConfig(modality=("ct", "ct")))
    assert caught.value.where == "task.modality"
    with pytest.raises(DataError, match="names 2 channels"):
        resolve(folder=folder_of(("CT", "PET")))
    with pytest.raises(ConfigError, match="both background"):
        resolve(TaskConfig(classes={"a": 1}, background=(1,)))
