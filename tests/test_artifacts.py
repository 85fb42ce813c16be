"""Everything stages leave for each other comes back from disk as it was."""

import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, MinLen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from pipeline import artifacts
from pipeline.artifacts import Artifact, Splits, read_artifact
from pipeline.core.errors import MissingInputError
from pipeline.core.workspace import write_json

SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    int: st.integers(1, 2**53),
    float: st.floats(1e-9, 1e9),
    bool: st.booleans(),
    type(None): st.none(),
    Path: st.text("abc/", min_size=1, max_size=6).map(Path),
}
JSON = st.recursive(
    st.one_of(SIMPLE[str], SIMPLE[int], SIMPLE[float], SIMPLE[bool], st.none()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SIMPLE[str], inner, max_size=2),
    max_leaves=4,
)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation; numbers are positive, which every bound in use allows."""
    if annotation is JsonValue or annotation in SIMPLE:
        return JSON if annotation is JsonValue else SIMPLE[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models_of(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values_of(a) for a in arguments])
    if origin is dict:
        return st.dictionaries(SIMPLE[str], values_of(arguments[1]), max_size=2)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*[values_of(a) for a in arguments])
    raise NotImplementedError(f"teach this test about {annotation}")


def models_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    return st.builds(model, **{n: values_in(f) for n, f in model.model_fields.items()})


def values_in(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Values of a field; of its bounds only patterns and lengths need a thought."""
    bounds = [m for m in field.metadata if not isinstance(m, Ge | Gt)]
    if len(bounds) == 1 and isinstance(bounds[0], MinLen):
        return values_of(field.annotation).filter(
            lambda values: len(values) >= bounds[0].min_length
        )
    if len(bounds) == 1 and getattr(bounds[0], "pattern", None):
        return st.from_regex(bounds[0].pattern, fullmatch=True)
    if len(bounds) == 1 and isinstance(bounds[0], Le) and field.annotation is float:
        return st.floats(1e-9, bounds[0].le)
    assert not bounds, f"teach this test about {bounds}"
    return values_of(field.annotation)


ARTIFACTS = [
    kind
    for kind in vars(artifacts).values()
    if isinstance(kind, type) and issubclass(kind, Artifact) and kind is not Artifact
]


@pytest.mark.parametrize("kind", ARTIFACTS)
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_writing_and_reading_is_identity(tmp_path, kind, data):
    artifact = data.draw(models_of(kind))
    file = tmp_path / "artifact.json"
    write_json(file, artifact)
    assert read_artifact(file, kind, made_by="audit") == artifact


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_every_artifact_carries_its_version(kind):
    assert kind.model_fields["schema_version"].default == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"schema_version": 1, "method": "kfold", "seed": 1, "folds": [{"train"',
        b"[]",
        b"3",
        b"\xff\xfe",
        b'{"schema_version": 2, "method": "kfold", "seed": 1, "folds": []}',
        b'{"schema_version": 1, "method": "kfold", "seed": "1", "folds": []}',
        b'{"schema_version": 1, "method": "kfold", "seed": 1, "folds": [], "extra": 1}',
    ],
)
def test_a_damaged_file_is_named_with_the_stage_that_makes_it(tmp_path, content):
    file = tmp_path / "splits.json"
    file.write_bytes(content)
    with pytest.raises(MissingInputError) as caught:
        read_artifact(file, Splits, made_by="audit")
    assert "splits.json" in caught.value.what
    assert caught.value.where == str(file)
    assert "voxline audit" in caught.value.fix


def test_an_absent_file_is_named_with_the_stage_that_makes_it(tmp_path):
    with pytest.raises(MissingInputError, match="not there") as caught:
        read_artifact(tmp_path / "splits.json", Splits, made_by="audit")
    assert "voxline audit" in caught.value.fix


def test_a_folder_in_place_of_the_file_is_no_traceback(tmp_path):
    (tmp_path / "splits.json").mkdir()
    with pytest.raises(MissingInputError, match="cannot be read"):
        read_artifact(tmp_path / "splits.json", Splits, made_by="audit")
