"""Label values become class indices exactly, or not at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.task import LabelClass, Task, TaskConfig, map_label_values


def task_of(*values_per_class, background=(0,)):
    return Task(
        channels=(),
        classes=tuple(
            LabelClass(name=f"c{index}", index=index, source_values=values)
            for index, values in enumerate(values_per_class, start=1)
        ),
        background_values=background,
    )


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


def test_merged_values_and_background():
    label = np.array([[[0, 1, 2, 9, 255]]], dtype=np.int16)
    mapped = map_label_values(label, task_of((1, 2), (9,), background=(0, 255)))
    assert mapped.ravel().tolist() == [0, 1, 1, 2, 0]


def test_many_classes_need_two_bytes():
    task = task_of(*((value,) for value in range(1, 301)))
    label = np.arange(301, dtype=np.int32).reshape(7, 43, 1)
    mapped = map_label_values(label, task)
    assert mapped.dtype == np.uint16
    assert np.array_equal(mapped, label)


@pytest.mark.parametrize("value", [-1, 2, 4, 300, 2**40])
@pytest.mark.parametrize("classes", [((1,), (3,)), ((1,), (2**33,))])
def test_undeclared_values_are_refused_by_value(value, classes):
    label = np.array([[[0, 1, value]]], dtype=np.int64)
    with pytest.raises(DataError, match=rf"no class declares: {value}"):
        map_label_values(label, task_of(*classes))


def test_float_noise_passes_but_fractions_do_not():
    label = np.array([[[0.0, 1.0000001, 1.9999999]]])
    assert map_label_values(label, task_of((1,), (2,))).ravel().tolist() == [0, 1, 2]
    for bad in (0.5, np.nan, np.inf):
        label[0, 0, 0] = bad
        with pytest.raises(DataError, match=r"not finite|not integers"):
            map_label_values(label, task_of((1,), (2,)))


def test_empty_arrays_and_declared_values():
    assert map_label_values(np.zeros((0, 3, 3), np.int8), task_of((1,))).shape == (0, 3, 3)
    assert task_of((1, 2), (9,), background=(0, 255)).declared_values == {0, 1, 2, 9, 255}


@pytest.mark.parametrize(
    ("classes", "words"), [({"a": 1, "b": [1, 2]}, "belongs to 'a'"), ({"a": 0}, "background")]
)
def test_configured_classes_must_not_share_values(classes, words):
    with pytest.raises(ConfigError, match=words):
        validate_config(TaskConfig, {"classes": classes}, "test")


def test_configured_classes_take_one_value_or_several():
    config = validate_config(TaskConfig, {"classes": {"a": 1, "b": [2, 3]}}, "test")
    assert config.classes == {"a": 1, "b": (2, 3)}
