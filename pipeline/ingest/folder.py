"""The dataset folder as the section `ingest` wants it read; training and prediction share it."""

from dataclasses import replace
from pathlib import Path

from pipeline.artifacts import Task
from pipeline.core.task import TaskConfig
from pipeline.ingest.config import IngestConfig
from pipeline.io.discover import Choice, DatasetFolder, choice_for, discover


def open_folder(config: IngestConfig, data: Path, names: TaskConfig | None = None) -> DatasetFolder:
    """Find the cases of a dataset.

    Args:
        config: Layout, links, and which files of a case count.
        data: Dataset folder, or a CSV or JSON list of paths.
        names: Section `task`: structures that labels name, and it does not, are left out.

    Returns:
        What `discover` finds.

    Raises:
        UsageError: If there is no such folder.
        ConfigError: If the configuration names files that no case has.
        DataError: If no layout fits, or not the one asked for.
    """
    choice = replace(_wishes(config), selected=_selected(names or TaskConfig()))
    return _open(config, data, choice)


def open_folder_for(
    task: Task, config: IngestConfig, data: Path, names: TaskConfig | None = None
) -> DatasetFolder:
    """Find the cases that a model is to be used on.

    The channels of the model tell which images are meant. Structures that labels name get the value
    of the class of the same name, so that they mean what they meant in training.

    Args:
        task: That of the model.
        config: Layout, links, and which files of a case count.
        data: Dataset folder, or a CSV or JSON list of paths.
        names: Section `task`, where it makes classes of structures with other names.

    Returns:
        What `discover` finds.

    Raises:
        UsageError: If there is no such folder.
        ConfigError: If the configuration names files that no case has.
        DataError: If no layout fits, or not the one asked for.
    """
    model = choice_for(task, names)
    wishes = _wishes(config)
    choice = replace(
        model, channels=wishes.channels, label=wishes.label, mask_order=wishes.mask_order
    )
    return _open(config, data, choice)


def _open(config: IngestConfig, data: Path, choice: Choice) -> DatasetFolder:
    return discover(data, layout=config.layout, allow_links=config.allow_links, choice=choice)


def _wishes(config: IngestConfig) -> Choice:
    return Choice(channels=config.channels, label=config.label, mask_order=config.mask_order)


def _selected(names: TaskConfig) -> tuple[tuple[int | str, ...], ...] | None:
    """What each class is made of, and what is to be ignored, which must not become background."""
    if names.classes is None:
        return None
    sources = tuple(s if isinstance(s, tuple) else (s,) for s in names.classes.values())
    return (*sources, *((value,) for value in names.ignore or ()))
