"""Which share of the cases, and where: every case in exactly one part, nonsense refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError, UsageError
from pipeline.core.parallel_config import ParallelConfig, Part, parse_part


@given(st.integers(0, 60), st.integers(1, 12))
def test_every_case_is_in_exactly_one_part_and_parts_are_even(n_items, n_parts):
    items = list(range(n_items))
    parts = [Part(number, n_parts).of(items) for number in range(1, n_parts + 1)]
    assert sorted(item for part in parts for item in part) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_read_and_named():
    assert parse_part(" 2 / 8 ") == Part(2, 8)
    assert parse_part("2/8").name == "2-of-8"


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/2/3", "1.5/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="no part"):
        validate_config(ParallelConfig, {"part": text}, "--part")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"backend": "dask"}, "address of its scheduler"),
        ({"scheduler": "tcp://10.0.0.1:8786"}, "--backend dask"),
        ({"backend": "dask", "scheduler": "10.0.0.1"}, "pattern"),
        ({"backend": "ray"}, "backend"),
        ({"n_jobs": 0}, "n_jobs"),
    ],
)
def test_settings_that_contradict_are_refused(content, what):
    with pytest.raises(ConfigError, match=what):
        validate_config(ParallelConfig, content, "--set")


def test_every_knob_is_described():
    assert all(field.description for field in ParallelConfig.model_fields.values())
