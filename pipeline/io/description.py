"""`dataset.json` as the Medical Segmentation Decathlon and nnU-Net write it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError
from pipeline.core.task import Region

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
        ignore_values: Values of nnU-Net's "ignore" label.
        regions: nnU-Net's overlapping regions over the classes of `class_values`.
    """

    channel_names: tuple[str, ...] = ()
    class_values: dict[str, tuple[int, ...]] | None = None
    listed: tuple[tuple[Path, Path], ...] = ()
    declares_channels: bool = False
    problems: tuple[Problem, ...] = ()
    n_training: int | None = None
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()


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
    return parse_description(content, root)


def parse_description(content: Mapping[str, Any], root: Path) -> Description:
    """Understand the content of a `dataset.json`, or of a list that borrows its words.

    Args:
        content: The JSON object.
        root: Folder that listed paths are relative to, absolute.

    Returns:
        What it says.

    Raises:
        DataError: If it lists files outside the folder.
    """
    labels = _read_labels(content.get("labels"), content.get("regions_class_order"))
    return Description(
        channel_names=_channel_names(content.get("channel_names") or content.get("modality")),
        class_values=labels.class_values,
        listed=_listed_pairs(content.get("training"), root),
        declares_channels="channel_names" in content or "file_ending" in content,
        problems=(_problem(labels.fault),) if labels.fault else (),
        n_training=_count(content.get("numTraining")),
        ignore_values=labels.ignore_values,
        regions=labels.regions,
    )


def _channel_names(content: Any) -> tuple[str, ...]:
    if isinstance(content, Mapping):
        numbered = {int(key): str(name) for key, name in content.items() if str(key).isdecimal()}
        return tuple(name for _, name in sorted(numbered.items()))
    if isinstance(content, str):
        return (content,)
    return tuple(str(name) for name in content) if isinstance(content, list) else ()


@dataclass(frozen=True)
class _Labels:
    """The entry `labels`; where it cannot be used, `fault` says why."""

    class_values: dict[str, tuple[int, ...]] | None = None
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    fault: str = ""


def _read_labels(content: Any, order: Any) -> _Labels:
    """Read either direction: {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net)."""
    if not isinstance(content, Mapping) or not content:
        return _Labels(fault='the labels are no object such as {"liver": 1}' if content else "")
    by_value = all(_integers(key) for key in content)
    pairs = [
        (str(name), _integers(value))
        for name, value in ((v, k) if by_value else (k, v) for k, v in content.items())
    ]
    classes = {name: values for name, values in pairs if values != (0,)}
    # nnU-Net knows the ignore label by this very name.
    ignored = classes.pop("ignore", ())
    if fault := _fault_of(pairs, classes, ignored):
        return _Labels(fault=f"the labels are not usable: {fault}")
    used = [value for values in classes.values() for value in values]
    if len(used) == len(set(used)):
        return _Labels(classes, ignored)
    return _read_regions(classes, _integers(order), ignored)


def _fault_of(
    pairs: Sequence[tuple[str, tuple[int, ...]]],
    classes: Mapping[str, tuple[int, ...]],
    ignored: tuple[int, ...],
) -> str:
    if unclear := [name for name, values in pairs if not values]:
        return f"no integer value for {unclear}"
    names = [name for name, _ in pairs]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        return f"names used twice: {doubled}"
    reserved = {0, *ignored}
    if mixed := sorted(name for name, values in classes.items() if reserved & set(values)):
        return f"values of the background or of 'ignore' in {mixed}"
    return ""


def _read_regions(
    regions: Mapping[str, tuple[int, ...]], painted: tuple[int, ...], ignored: tuple[int, ...]
) -> _Labels:
    """Split overlapping regions into classes: values that lie in the same regions are one class.

    Args:
        regions: Name to values, in the order they are painted.
        painted: `regions_class_order`: the value each of them is written as.
        ignored: Values of the ignore label.
    """
    if len(painted) != len(regions):
        return _Labels(
            fault=f"regions overlap, and regions_class_order does not give a value for each of "
            f"the {len(regions)} regions"
        )
    painted_by = dict(zip(painted, regions, strict=True))
    members: dict[tuple[str, ...], list[int]] = {}
    for value in sorted({value for values in regions.values() for value in values}):
        inside = tuple(name for name, values in regions.items() if value in values)
        members.setdefault(inside, []).append(value)
    classes: dict[str, tuple[int, ...]] = {}
    for inside, values in members.items():
        painter = next((painted_by[v] for v in values if painted_by.get(v) in inside), None)
        if painter is None:
            return _Labels(fault=f"regions_class_order paints the values {values} in no region")
        is_alone = set(regions[painter]) == set(values)
        classes[painter if is_alone else f"{painter}_only"] = tuple(values)
    class_of = {value: name for name, values in classes.items() for value in values}
    if len(set(painted)) != len(painted) or any(
        value not in regions[name] for value, name in painted_by.items()
    ):
        return _Labels(fault="regions_class_order gives a region a value that is not its own")
    return _Labels(
        classes,
        ignored,
        tuple(
            Region(
                name=name,
                classes=tuple(dict.fromkeys(class_of[value] for value in sorted(values))),
                paints=class_of[value_painted],
            )
            for (name, values), value_painted in zip(regions.items(), painted, strict=True)
        ),
    )


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
