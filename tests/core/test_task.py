"""From values in label files to class indices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.task import Channel, LabelClass, Task, TaskConfig, map_label_values


def task_of(*source_values: tuple[int, ...], background: tuple[int, ...] = (0,)) -> Task:
    classes = [
        LabelClass(name=f"class{index}", index=index, source_values=values)
        for index, values in enumerate(source_values, start=1)
    ]
    return Task(
        channels=(Channel(name="CT", modality="ct"),),
        classes=tuple(classes),
        background_values=background,
    )


BRATS = task_of((1, 4), (2,), background=(0, 3))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "uint64", "float32"])
def test_values_are_mapped_whatever_the_number_type(dtype):
    label = np.array([[[0, 1, 2], [3, 4, 0]]]).astype(dtype)
    mapped = map_label_values(label, BRATS)
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[[0, 1, 2], [0, 1, 0]]]


@given(
    hnp.arrays(np.int32, st.tuples(*[st.integers(0, 4)] * 3), elements=st.integers(-3, 70_002)),
    st.sets(st.integers(1, 70_000), min_size=1, max_size=4),
)
def test_every_value_is_mapped_or_refused(label, values):
    ordered = sorted(values, reverse=True)
    task = task_of(*((value,) for value in ordered))
    undeclared = set(np.unique(label).tolist()) - values - {0}
    if undeclared:
        with pytest.raises(DataError) as caught:
            map_label_values(label, task)
        assert all(str(value) in caught.value.what for value in sorted(undeclared)[:8])
        return
    mapped = map_label_values(label, task)
    assert mapped.shape == label.shape
    for index, value in enumerate(ordered, start=1):
        assert np.array_equal(mapped == index, label == value)


@pytest.mark.parametrize("bad", [0.9, 1.01, float("nan"), float("inf")])
def test_values_that_are_no_integers_are_refused(bad):
    label = np.zeros((2, 2, 2), dtype=np.float32)
    label[0, 0, 0] = bad
    with pytest.raises(DataError):
        map_label_values(label, task_of((1,)))


def test_float_noise_below_the_tolerance_of_the_audit_is_rounded():
    label = np.full((1, 1, 2), 2.0000002, dtype=np.float64)
    assert map_label_values(label, task_of((1,), (2,))).tolist() == [[[2, 2]]]


def test_a_boolean_mask_is_class_one():
    assert map_label_values(np.array([[[True, False]]]), task_of((1,))).tolist() == [[[1, 0]]]


def test_more_than_255_classes_need_two_bytes():
    task = task_of(*((value,) for value in range(1, 301)))
    mapped = map_label_values(np.array([[[300, 0, 256]]]), task)
    assert mapped.dtype == np.uint16
    assert mapped.tolist() == [[[300, 0, 256]]]


def test_ids_beyond_the_table_are_found_by_search():
    task = task_of((1_000_000,), (-5,))
    assert map_label_values(np.array([[[-5, 0, 1_000_000]]]), task).tolist() == [[[2, 0, 1]]]
    with pytest.raises(DataError, match="999999"):
        map_label_values(np.array([[[999_999]]]), task)


def test_declared_values_are_those_of_all_classes_and_background():
    assert BRATS.declared_values == {0, 1, 2, 3, 4}
    assert BRATS.class_names == ("class1", "class2")


@pytest.mark.parametrize("classes", [{"a": 1, "b": [2, 1]}, {"a": 0}, {"a": [1, 0]}, {"a": [3, 3]}])
def test_a_value_belongs_to_one_class_and_zero_to_none(classes):
    with pytest.raises(ConfigError, match="classes"):
        validate_config(TaskConfig, {"classes": classes}, "x.yaml")


def test_classes_accept_one_value_or_several():
    config = validate_config(TaskConfig, {"classes": {"a": 1, "b": [2, 4]}}, "x.yaml")
    assert config.classes == {"a": 1, "b": (2, 4)}


def test_classes_ignored_values_regions_and_cases_without_annotation_can_be_written():
    config = validate_config(
        TaskConfig,
        {
            "classes": {"heart": "Heart", "lung": ["Lung L", 7]},
            "ignore": [255],
            "regions": {"all": ["heart", "lung"], "heart": {"classes": ["heart"]}},
            "unannotated": {"absent": "all", "cases": {"lung": ["c1"]}, "csv": "x.csv"},
        },
        "x.yaml",
    )
    assert config.classes == {"heart": "Heart", "lung": ("Lung L", 7)}
    assert config.regions is not None
    assert list(config.regions) == ["all", "heart"]
    assert config.unannotated.absent == "all"
    assert TaskConfig().unannotated.absent == ()
    with pytest.raises(ConfigError, match="'Heart' belongs to"):
        validate_config(TaskConfig, {"classes": {"a": "Heart", "b": ["Heart"]}}, "x.yaml")


def test_ignored_voxels_get_an_index_beyond_the_classes():
    task = task_of((1,), background=(0,)).model_copy(update={"ignore_values": (9, 255)})
    assert task.ignore_index == 255
    assert map_label_values(np.array([[[0, 1, 9, 255]]]), task).tolist() == [[[0, 1, 255, 255]]]
    assert task.declared_values == {0, 1, 9, 255}


@given(
    st.sets(st.integers(-5, 300) | st.integers(-(2**40), 2**40), min_size=2, max_size=12),
    st.integers(0, 2**31),
)
def test_mapping_agrees_with_a_dictionary(values, seed):
    first, *others = sorted(values)
    task = task_of(*((value,) for value in others), background=(first,))
    expected = {first: 0} | {value: index for index, value in enumerate(others, start=1)}
    label = np.random.default_rng(seed).choice(np.array(sorted(values)), (3, 4, 5))
    mapped = map_label_values(label, task)
    assert mapped.dtype == np.uint8
    assert mapped.shape == label.shape
    assert [expected[int(v)] for v in label.flat] == mapped.ravel().tolist()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.uint64, np.float32, ">i2"])
def test_any_number_type_and_layout(dtype):
    label = np.zeros((2, 3, 4), dtype=dtype, order="F")
    label[1] = 1
    mapped = map_label_values(label[:, ::-1], task_of((1,)))
    assert mapped.tolist() == label[:, ::-1].astype(int).tolist()


@pytest.mark.parametrize("value", [-1, 2, 4, 300, 2**40])
@pytest.mark.parametrize("classes", [((1,), (3,)), ((1,), (2**33,))])
def test_undeclared_values_are_refused_by_value(value, classes):
    label = np.array([[[0, 1, value]]], dtype=np.int64)
    with pytest.raises(DataError, match=rf"no class declares: {value}"):
        map_label_values(label, task_of(*classes))
