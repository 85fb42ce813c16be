"""The grid of a sweep: values per key of the configuration, and every combination of them."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError
from pipeline.experiment import Experiment
from pipeline.runner.request import Request

MAX_COMBINATIONS = 64
# Scores of other cases cannot be ranked with these, and other devices are no other method.
_NOT_SWEPT = ("train.fold", "train.device")
_LONGEST_NAME = 80
_NOT_IN_NAME = re.compile(r"[^\w.=+-]+")

Setting = dict[str, JsonValue]


@dataclass(frozen=True)
class Grid:
    """Values to combine.

    Args:
        name: Name of the folder below sweeps/.
        values: Values per key of the configuration.
        where: Shown in errors.
    """

    name: str
    values: Mapping[str, Sequence[JsonValue]]
    where: str

    @property
    def combinations(self) -> list[Setting]:
        """Every combination; the last key changes fastest."""
        return [
            dict(zip(self.values, chosen, strict=True))
            for chosen in itertools.product(*self.values.values())
        ]


def read_grid(text: str) -> Grid:
    """Read a grid from the command line or from a file.

    Args:
        text: Assignments "train.loss.kind=dice,dice_ce;train.seed=0,1", or a YAML file that maps
            keys to lists of values.

    Returns:
        The grid, of 1 to 64 combinations.

    Raises:
        ConfigError: If it cannot be read, has keys outside `train`, or is too large.
    """
    is_inline = "=" in text and not _is_file(text)
    given = _inline_values(text) if is_inline else _file_values(Path(text))
    where = "--sweep" if is_inline else text
    values = {key: _checked(key, listed, where) for key, listed in given.items()}
    n_combinations = math.prod(len(chosen) for chosen in values.values())
    if not values or n_combinations > MAX_COMBINATIONS:
        raise ConfigError(
            f"a sweep has 1 to {MAX_COMBINATIONS} combinations, not "
            f"{n_combinations if values else 0}",
            where=where,
            fix="take out values that matter less, or sweep one key after the other",
        )
    # By its keys only: a grid that gets more values finds what was trained for it before.
    keys = sorted(values)
    name = _safe_name(",".join(_short_keys(keys)), keys) if is_inline else Path(text).stem
    return Grid(name, values, where)


def with_setting(request: Request, setting: Setting, where: str) -> Request:
    """Put one combination into the configuration, and validate it as a whole.

    Args:
        request: What the user asked for.
        setting: The combination.
        where: Shown in errors.

    Returns:
        The request for this combination.

    Raises:
        ConfigError: If a key or a value is not one of the configuration.
    """
    content: dict[str, Any] = request.experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in setting.items():
        *parents, leaf = key.split(".")
        node = content
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    f"'{parent}' in '{key}' has no keys below it",
                    where=where,
                    fix="'voxline schema' prints every key with its type and limits",
                )
            node = child
        node[leaf] = value
    return replace(request, experiment=validate_config(Experiment, content, where))


def folder_name(setting: Setting) -> str:
    """A name for the folder of a combination: readable, short, and of this combination only."""
    chosen = dict(sorted(setting.items()))
    return _safe_name(setting_name(chosen), chosen)


def setting_name(setting: Setting) -> str:
    """A combination in few words: each key without what all keys of the grid can do without."""
    values = (as_text(value) for value in setting.values())
    return ",".join(f"{k}={v}" for k, v in zip(_short_keys(setting), values, strict=True))


def as_text(value: JsonValue) -> str:
    """A value as a person writes it: a string without quotes, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _inline_values(text: str) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for assignment in filter(None, (part.strip() for part in text.split(";"))):
        key, separator, listed = assignment.partition("=")
        if not separator or key.strip() in values:
            raise ConfigError(
                f"cannot read '{assignment}', or its key stands there twice",
                where="--sweep",
                fix="write train.optimizer.learning_rate=1e-3,3e-3;train.loss.kind=dice,dice_ce",
            )
        # As a YAML list, so that commas inside brackets do not separate values.
        values[key.strip()] = _yaml(f"[{listed}]", "--sweep")
    return values


def _file_values(file: Path) -> dict[str, JsonValue]:
    try:
        content = _yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the grid cannot be read: {error}",
            where=str(file),
            fix="give a YAML file, or the grid itself: --sweep 'train.seed=0,1'",
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            "the grid is no mapping of keys to lists of values",
            where=str(file),
            fix="write one line per key: train.optimizer.learning_rate: [1e-3, 3e-3]",
        )
    return {str(key): values for key, values in content.items()}


def _checked(key: str, values: object, where: str) -> list[Any]:
    if not key.startswith("train."):
        is_section = key.partition(".")[0] in Experiment.model_fields
        raise ConfigError(
            f"'{key}' cannot be swept: it is not in the section train",
            where=where,
            fix="sweep keys such as train.optimizer.learning_rate"
            if is_section or not key
            else f"write the whole key, train.{key}",
        )
    if key in _NOT_SWEPT:
        raise ConfigError(
            f"'{key}' cannot be swept: all combinations share their cases and their device",
            where=where,
            fix="for folds use --fold cv; for devices run one command for each",
        )
    listed: list[Any] = values if isinstance(values, list) else []
    if not listed or len({json.dumps(value) for value in listed}) < len(listed):
        raise ConfigError(
            f"the values of '{key}' are no list of different values",
            where=where,
            fix=f"write {key}: [first, second]",
        )
    return listed


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for the name of a file
        return False


def _short_keys(keys: Iterable[str]) -> list[str]:
    """Last words of keys: as few as tell them apart."""
    words = [key.split(".") for key in keys]
    n_words = 1
    while len({".".join(w[-n_words:]) for w in words}) < len(words):
        n_words += 1
    return [".".join(w[-n_words:]) for w in words]


def _safe_name(text: str, content: object) -> str:
    return f"{_NOT_IN_NAME.sub('_', text)[:_LONGEST_NAME]}-{_digest(content)}"


def _digest(content: object) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=3).hexdigest()


def _yaml(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(
            f"not valid YAML: {' '.join(str(error).split())}",
            where=where,
            fix="check brackets, quotes and indentation",
        ) from None
