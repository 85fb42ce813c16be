"""Regions paint what no later region holds, and leave no class out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.core.task import RegionConfig
from pipeline.ingest.regions import resolve_regions

BRATS = {"whole": ("edema", "core", "enh"), "tumor": ("core", "enh"), "enh": ("enh",)}


def test_nested_regions_paint_what_is_left():
    regions = resolve_regions(BRATS, ("edema", "core", "enh"))
    assert [(r.name, r.paints) for r in regions] == [
        ("whole", "edema"),
        ("tumor", "core"),
        ("enh", "enh"),
    ]
    assert resolve_regions({}, ("a",)) == ()


@given(st.permutations(["a", "b", "c", "d"]))
def test_nested_regions_paint_every_class_once(order):
    nested = {f"r{n}": tuple(sorted(order[n:])) for n in range(4)}
    regions = resolve_regions(nested, ("a", "b", "c", "d"))
    assert [region.paints for region in regions] == order


def test_what_a_region_paints_can_be_said():
    wanted = {"both": RegionConfig(classes=("a", "b"), paints="b"), "a": ("a",)}
    assert [r.paints for r in resolve_regions(wanted, ("a", "b"))] == ["b", "a"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"x": ("a", "c")}, "unknown class 'c'"),
        ({"x": ()}, "holds no class"),
        ({"x": ("a", "b")}, "could paint any of a, b"),
        ({"a": ("a",), "x": ("a", "b"), "b": ("b",)}, "nothing to paint"),
        ({"a": ("a",)}, "'b' is painted by no region"),
        ({"x": RegionConfig(classes=("a",), paints="b")}, "not inside it"),
        (
            {"x": RegionConfig(classes=("a", "b"), paints="b"), "a": ("a",), "b": ("b",)},
            "painted by several regions",
        ),
    ],
)
def test_regions_that_cannot_work_are_explained(wanted, words):
    with pytest.raises(ConfigError, match=words) as caught:
        resolve_regions(wanted, ("a", "b"))
    assert caught.value.where == "task.regions"
    assert caught.value.fix
