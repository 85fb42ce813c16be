"""`dataset.json` as the Medical Segmentation Decathlon and nnU-Net write it."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError

DESCRIPTION_NAME = "dataset.json"
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_FIX = "correct dataset.json, or take it away: everything in it can be found or configured"


@dataclass(frozen=True)
class Description:
    """What a `dataset.json` says.

    Args:
        channel_names: In channel order; empty if not said.
        class_values: Class name to the values of its voxels, background left out; None if not said
            or not understood.
        listed: Pairs of image and label path as listed for training, absolute.
        declares_channels: Whether it is written in nnU-Net's words, so that names end in channels.
        problems: What is wrong with it but does not stop the work.
        n_training: Labelled cases it promises (`numTraining`); None if it does not say.
    """

    channel_names: tuple[str, ...] = ()
    class_values: dict[str, tuple[int, ...]] | None = None
    listed: tuple[tuple[Path, Path], ...] = ()
    declares_channels: bool = False
    problems: tuple[Problem, ...] = ()
    n_training: int | None = None


def read_description(root: Path) -> Description:
    """Read `dataset.json` of a dataset folder; without one, everything is unknown.

    Args:
        root: The dataset folder, absolute.

    Returns:
        What it says. Labels that cannot be understood become a problem, not an error.

    Raises:
        DataError: If it is not JSON, not an object, or lists files outside the folder.
    """
    file = root / DESCRIPTION_NAME
    if not file.is_file():
        return Description()
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"dataset.json cannot be read: {error}", where=str(file), fix=_FIX
        ) from None
    if not isinstance(content, dict):
        raise DataError("dataset.json is not a JSON object", where=str(file), fix=_FIX)
    class_values, problems = _class_values(content.get("labels"))
    return Description(
        channel_names=_channel_names(content.get("channel_names") or content.get("modality")),
        class_values=class_values,
        listed=_listed_pairs(content.get("training"), root),
        declares_channels="channel_names" in content or "file_ending" in content,
        problems=tuple(problems),
        n_training=_count(content.get("numTraining")),
    )


def _channel_names(content: Any) -> tuple[str, ...]:
    if isinstance(content, Mapping):
        numbered = {int(key): str(name) for key, name in content.items() if str(key).isdecimal()}
        return tuple(name for _, name in sorted(numbered.items()))
    return tuple(str(name) for name in content) if isinstance(content, list) else ()


def _class_values(content: Any) -> tuple[dict[str, tuple[int, ...]] | None, list[Problem]]:
    """Read either direction: {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net)."""
    if not isinstance(content, Mapping) or not content:
        return None, []
    by_value = all(_integers(key) for key in content)
    pairs = [
        (str(name), _integers(value))
        for name, value in ((v, k) if by_value else (k, v) for k, v in content.items())
    ]
    unclear = [name for name, values in pairs if not values]
    names = [name for name, _ in pairs]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if unclear or doubled:
        what = f"no integer value for {unclear}" if unclear else f"names used twice: {doubled}"
        return None, [_problem(f"the labels are not usable: {what}")]
    problems = []
    classes = {name: values for name, values in pairs if values != (0,)}
    if "ignore" in classes:
        values = classes.pop("ignore")
        problems.append(_problem(f"the 'ignore' label {values} is not supported yet"))
    used = [value for values in classes.values() for value in values]
    if len(used) != len(set(used)) or 0 in used:
        return None, [*problems, _problem("regions that overlap are not supported yet")]
    return classes, problems


def _count(value: Any) -> int | None:
    numbers = () if isinstance(value, list) else _integers(value)
    return numbers[0] if numbers else None


def _integers(value: Any) -> tuple[int, ...]:
    """The integers in a number, its text, or a list of them; empty if it is none of these."""
    if isinstance(value, list):
        return tuple(number for item in value for number in _integers(item))
    text = str(value).strip()
    is_integer = not isinstance(value, bool) and _INTEGER.fullmatch(text)
    return (int(text),) if is_integer else ()


def _listed_pairs(content: Any, root: Path) -> tuple[tuple[Path, Path], ...]:
    if not isinstance(content, list):
        return ()
    return tuple(
        (_inside(item["image"], root), _inside(item["label"], root))
        for item in content
        if isinstance(item, dict)
        and isinstance(item.get("image"), str)
        and isinstance(item.get("label"), str)
    )


def _inside(name: str, root: Path) -> Path:
    # By the text alone: links inside the folder are the owner's and may lead anywhere.
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(root) or "\0" in name:
        raise DataError(
            f"dataset.json lists a file outside the dataset folder: {name!r}",
            where=str(root / DESCRIPTION_NAME),
            fix="list paths relative to dataset.json, such as ./imagesTr/case_001.nii.gz",
        )
    return path


def _problem(message: str) -> Problem:
    return Problem(
        check_id="E12",
        file=DESCRIPTION_NAME,
        message=message,
        fix="correct dataset.json, or set task.classes",
    )
