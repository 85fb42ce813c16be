"""From what was configured, described and found to the task."""

import re
from collections.abc import Iterable, Mapping, Sequence

from pipeline.artifacts import Channel, LabelClass, Modality, Region, Task
from pipeline.core.errors import ConfigError, DataError, did_you_mean
from pipeline.core.task import ClassSource, TaskConfig
from pipeline.ingest.regions import resolve_regions
from pipeline.ingest.unannotated import unannotated_classes as unannotated_classes
from pipeline.ingest.unannotated import with_listed_cases as with_listed_cases
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
        ConfigError: If the configuration names another number of channels than the images have,
            contradicts itself, or names what the dataset does not have.
        DataError: If dataset.json does.
    """
    names = _channel_names(config, folder, n_channels)
    modalities = _modalities(config, folder.modality_names or names, n_channels)
    ignored = folder.ignore_values if config.ignore is None else config.ignore
    classes = _classes(config, folder, {*found_values} - {*ignored})
    selected = {value for values in classes.values() for value in values}
    declared = {v for values in (folder.class_values or {}).values() for v in values}
    background = config.background
    if background is None:
        background = (0, *sorted(declared - selected - {*ignored}))
    _refuse_overlap(selected, background, "background", "task.background")
    _refuse_overlap(selected, ignored, "ignored", "task.ignore")
    if both := set(background).intersection(ignored):
        raise ConfigError(
            f"label values {sorted(both)} are both background and ignored",
            where="task.ignore",
            fix="take them out of task.background or out of task.ignore",
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
        ignore_values=tuple(ignored),
        regions=_regions(config, folder, tuple(classes)),
    )


def check_class_names(config: TaskConfig, folder: DatasetFolder) -> None:
    """Refuse classes made of structures that the dataset does not name, before anything is read.

    Args:
        config: What the user says.
        folder: What the dataset folder says.

    Raises:
        ConfigError: Naming the structure and the closest one there is.
    """
    if config.classes is not None:
        _classes(config, folder, ())


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
        known = folder.class_values or {}
        classes = {name: _source_values(name, s, known) for name, s in config.classes.items()}
        _refuse_shared(classes)
        return classes
    if folder.class_values is not None:
        return dict(sorted(folder.class_values.items(), key=lambda item: min(item[1])))
    background = config.background or (0,)
    return {
        f"class_{value}": (value,)
        for value in sorted(set(found_values))
        if value > 0 and value not in background
    }


def _source_values(
    name: str, source: ClassSource, known: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """Values of a configured class; names stand for the values that the dataset gives them."""
    values: list[int] = []
    for part in source if isinstance(source, tuple) else (source,):
        if isinstance(part, int):
            values.append(part)
        elif part in known:
            values += known[part]
        else:
            raise ConfigError(
                f"class '{name}' is made of '{part}', which the dataset does not name",
                where="task.classes",
                fix=did_you_mean(part, known)
                if known
                else "name values: neither dataset.json nor the labels name any structure",
            )
    return tuple(values)


def _refuse_shared(classes: Mapping[str, tuple[int, ...]]) -> None:
    """Values written twice are refused with the section; here, those that came by name."""
    owner: dict[int, str] = {}
    for name, values in classes.items():
        for value in values:
            if owner.setdefault(value, name) != name:
                raise ConfigError(
                    f"value {value} belongs to '{owner[value]}' and to '{name}'",
                    where="task.classes",
                    fix="give every value, and every name of the dataset, to one class",
                )


def _regions(
    config: TaskConfig, folder: DatasetFolder, class_names: tuple[str, ...]
) -> tuple[Region, ...]:
    if config.regions is not None:
        return resolve_regions(config.regions, class_names)
    # Regions of dataset.json are made of its own classes; other classes need other regions.
    return folder.regions if config.classes is None else ()


def _refuse_overlap(selected: Iterable[int], others: Iterable[int], what: str, where: str) -> None:
    if overlap := set(selected).intersection(others):
        raise ConfigError(
            f"label values {sorted(overlap)} are both {what} and a class",
            where=where,
            fix=f"take them out of {where} or out of task.classes",
        )
