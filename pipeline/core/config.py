"""Reading YAML into strict pydantic models, with errors a person can act on."""

import json
import types
import typing
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import ConfigError, did_you_mean


class StrictModel(BaseModel):
    """Base of everything that is read from or written to disk: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="null")


M = TypeVar("M", bound=StrictModel)


def load_config(model: type[M], file: Path | None, overrides: Sequence[str] = ()) -> M:
    """Read a YAML file, apply ``a.b=c`` overrides and validate.

    Args:
        model: The model to build.
        file: YAML file (YAML 1.2); None for defaults only.
        overrides: Assignments such as "train.epochs=5"; values are YAML.

    Returns:
        The validated, frozen configuration.

    Raises:
        ConfigError: If the file is missing, is not YAML, or holds an unknown key or a bad value.
    """
    content = _read_yaml(file) if file is not None else {}
    # A section whose lines are all commented out reads as null; it means the defaults.
    content = {k: v for k, v in content.items() if v is not None or k not in model.model_fields}
    for override in overrides:
        _apply_override(content, override)
    where = str(file) if file is not None else "--set"
    return validate_config(model, content, where)


def validate_config(model: type[M], content: dict[str, Any], where: str) -> M:
    """Validate plain data against a model; the error names the key and the nearest match."""
    try:
        # JSON mode accepts lists for tuples and strings for paths but refuses "True" for true.
        return model.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise _config_error(model, error, where) from None


def dump_yaml(model: BaseModel) -> str:
    """Write a model as YAML that loads back to the same model."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # untyped attribute
    yaml.width = 100
    buffer = StringIO()
    yaml.dump(model.model_dump(mode="json"), buffer)
    return buffer.getvalue()


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the configuration: {error}", where=str(file), fix="check --config"
        ) from None
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(
            f"not valid YAML: {' '.join(str(error).split())}",
            where=str(file),
            fix="check indentation and quotes at the line given",
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            "the configuration is not a mapping of sections",
            where=str(file),
            fix="start from configs/demo.yaml",
        )
    return content


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"cannot read the override '{override}'",
            where="--set",
            fix="write it as section.key=value, for example train.epochs=20",
        )
    *parents, leaf = key.strip().split(".")
    node = content
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f"'{name}' in '{key}' has no keys below it", where="--set")
        node = child
    try:
        node[leaf] = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        node[leaf] = text


def _config_error(model: type[StrictModel], error: ValidationError, where: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _field_names(model, path[:-1])
        what = f"unknown key '{path[-1]}'"
        fix = did_you_mean(path[-1], known)
    else:
        what = f"{'.'.join(path) or 'configuration'}: {first['msg']} (got {first['input']!r})"
        fix = "'voxline schema' prints every key with its type and limits"
    more = error.error_count() - 1
    if more:
        what += f" (and {more} more)"
    section = ".".join(path[:-1])
    return ConfigError(what, where=f"{where}, {section}" if section else where, fix=fix)


def _field_names(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names accepted at a path below a model, following unions by their members' names."""
    models = [model]
    for part in path:
        below = [
            _submodels(m.model_fields[part].annotation) for m in models if part in m.model_fields
        ]
        # A tag of a discriminated union appears in the path without being a field.
        models = [m for group in below for m in group] or models
    return [name for m in models for name in m.model_fields]


def _submodels(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [m for argument in typing.get_args(annotation) for m in _submodels(argument)]
    return []
