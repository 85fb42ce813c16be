"""From what was configured, described and found to the task."""

import re
from collections.abc import Iterable, Sequence

from pipeline.artifacts import Channel, LabelClass, Modality, Task
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.task import TaskConfig
from pipeline.io.discover import DatasetFolder

_CT_WORDS = frozenset(("ct", "ncct", "cect", "cta", "ctp"))
_PET_WORDS = frozenset(("pet", "suv", "fdg"))
_MR_WORD = re.compile(r"mri?|t[12]\w*|flair\w*|dwi|adc|swi|pdw?|dce|bold|asl")


def resolve_task(
    config: TaskConfig, folder: DatasetFolder, *, n_channels: int, found_values: Iterable[int]
) -> Task:
    """Decide channels and classes: the configuration first, then dataset.json, then the labels.

    Args:
        config: What the user says.
        folder: What the dataset folder says.
        n_channels: Channels of the images.
        found_values: Values in the label files, for when neither of the others names classes.

    Returns:
        The task; without classes if every label is empty and none is declared.

    Raises:
        ConfigError: If the configuration names another number of channels than the images have.
        DataError: If dataset.json does.
    """
    names = _channel_names(config, folder, n_channels)
    modalities = _modalities(config, folder.modality_names or names, n_channels)
    classes = _classes(config, folder, found_values)
    selected = {value for values in classes.values() for value in values}
    declared = {v for values in (folder.class_values or {}).values() for v in values}
    background = config.background
    if background is None:
        background = (0, *sorted(declared - selected))
    if overlap := selected.intersection(background):
        raise ConfigError(
            f"label values {sorted(overlap)} are both background and a class",
            where="task.background",
            fix="take them out of task.background or out of task.classes",
        )
    return Task(
        channels=tuple(
            Channel(name=name, modality=modality)
            for name, modality in zip(names, modalities, strict=True)
        ),
        classes=tuple(
            LabelClass(name=name, index=index, source_values=values)
            for index, (name, values) in enumerate(classes.items(), start=1)
        ),
        background_values=background,
    )


def modality_of(words: str) -> Modality:
    """Guess the modality from a channel's name: "T1w" is "mr", "CT" is "ct".

    Args:
        words: Name or description of the channel.

    Returns:
        The modality; "other" where the words name none, never a guess from intensities.
    """
    tokens = re.findall(r"[a-z0-9]+", words.lower())
    if any(token in _PET_WORDS for token in tokens):
        return "pet"
    if any(token in _CT_WORDS for token in tokens):
        return "ct"
    if any(_MR_WORD.fullmatch(token) for token in tokens):
        return "mr"
    return "other"


def _channel_names(config: TaskConfig, folder: DatasetFolder, n_channels: int) -> tuple[str, ...]:
    if config.channels is not None:
        _check_length(config.channels, n_channels, "task.channels")
        return config.channels
    names = folder.channel_names
    if names and len(names) != n_channels:
        raise DataError(
            f"dataset.json names {len(names)} channels, the images have {n_channels}",
            where=str(folder.root / "dataset.json"),
            fix="correct dataset.json, or set task.channels",
        )
    if len(set(names)) == n_channels:
        return names
    return tuple(f"channel_{index}" for index in range(n_channels))


def _modalities(config: TaskConfig, words: Sequence[str], n_channels: int) -> tuple[Modality, ...]:
    if config.modality is not None:
        _check_length(config.modality, n_channels, "task.modality")
        return config.modality
    return tuple(modality_of(name) for name in words)


def _check_length(names: Sequence[str], n_channels: int, where: str) -> None:
    if len(names) != n_channels:
        raise ConfigError(
            f"{len(names)} given, the images have {n_channels} channels",
            where=where,
            fix="give one per channel",
        )


def _classes(
    config: TaskConfig, folder: DatasetFolder, found_values: Iterable[int]
) -> dict[str, tuple[int, ...]]:
    if config.classes is not None:
        return {
            name: (values,) if isinstance(values, int) else values
            for name, values in config.classes.items()
        }
    if folder.class_values is not None:
        return dict(sorted(folder.class_values.items(), key=lambda item: min(item[1])))
    background = config.background or (0,)
    return {
        f"class_{value}": (value,)
        for value in sorted(set(found_values))
        if value > 0 and value not in background
    }
