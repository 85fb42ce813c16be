"""What a layout makes of a folder: cases, or the reason why it does not fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import ConfigError
from pipeline.core.task import Region, Task, TaskConfig
from pipeline.io.description import Description
from pipeline.io.pairing import CaseFiles, relative_name


@dataclass(frozen=True)
class Choice:
    """What the user, or the model in use, says about cases with several files.

    Args:
        n_channels: Channels per case, if known.
        channels: Names of the images that become channels, in this order; None takes all.
        expected: Names of a model's channels: they choose the images where files are named so.
        label: Name of the file that is the label, where several could be.
        mask_order: Names of masks that may overlap, the one that wins last.
        known_values: Values of a model's classes: structures of these names get them.
        drops_others: Whether structures that the model does not know are background to it.
        selected: Names and values that the task makes one class of, for every class; None takes
            every structure that labels name.
    """

    n_channels: int | None = None
    channels: tuple[str, ...] | None = None
    expected: tuple[str, ...] = ()
    label: str | None = None
    mask_order: tuple[str, ...] = ()
    known_values: Mapping[str, tuple[int, ...]] | None = None
    drops_others: bool = False
    selected: tuple[tuple[int | str, ...], ...] | None = None


@dataclass(frozen=True)
class Reading:
    """A folder, read in one layout.

    Args:
        layout: Name of the layout.
        root: The folder that file names are relative to, absolute.
        reason: What showed the layout, in words.
        cases: In any order; label is None where there is none.
        problems: Files that could not be used.
        channel_names: Names of the channels; empty if unknown.
        modality_names: Words for the modality per channel; empty if unknown.
        class_values: Class name to values of its voxels; None if unknown.
        ignore_values: Values of voxels to be ignored.
        regions: Overlapping outputs, where the folder declares them.
    """

    layout: str
    root: Path
    reason: str
    cases: tuple[CaseFiles, ...]
    problems: tuple[Problem, ...] = ()
    channel_names: tuple[str, ...] = ()
    modality_names: tuple[str, ...] = ()
    class_values: dict[str, tuple[int, ...]] | None = None
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()

    @property
    def n_labelled(self) -> int:
        """Number of cases with a label."""
        return sum(case.label is not None for case in self.cases)

    @property
    def files(self) -> frozenset[Path]:
        """Every file of every case."""
        return frozenset(f for case in self.cases for f in (*case.images, *case.label_files))


@dataclass(frozen=True)
class NoFit:
    """A layout that does not fit.

    Args:
        looked_for: What its folders hold.
        found: What this one holds instead; empty if simply nothing of it.
        error: Raised if no layout finds labels: what was asked for is not there.
    """

    looked_for: str
    found: str = ""
    error: ConfigError | None = None


Reader = Callable[[Path, Choice], Reading | NoFit]


def described(reading: Reading, description: Description) -> Reading:
    """Complete a reading by what `dataset.json` says; its names win over those of the files."""
    names = description.channel_names or reading.channel_names
    return replace(
        reading,
        problems=(*description.problems, *reading.problems),
        channel_names=names,
        modality_names=names,
        class_values=description.class_values or reading.class_values,
        ignore_values=description.ignore_values,
        regions=description.regions,
    )


def choice_for(task: Task, names: TaskConfig | None = None) -> Choice:
    """What a model wants of the folders that it is used on.

    Args:
        task: That of the model. Its channels tell which images are meant; structures that labels
            name get the value of the class of the same name, as in training.
        names: Section `task`, where it makes classes of structures with other names.

    Returns:
        The choice.
    """
    classes = (names or TaskConfig()).classes
    known = {c.name: c.source_values for c in task.classes}
    for name, source in (classes or {}).items():
        parts = source if isinstance(source, tuple) else (source,)
        known |= {part: known[name] for part in parts if isinstance(part, str) and name in known}
    return Choice(
        n_channels=len(task.channels),
        expected=tuple(channel.name for channel in task.channels),
        known_values=known,
        # Where structures were left out in training, or are now, the others are background.
        drops_others=classes is not None or any(task.background_values),
    )


def without_label(case: CaseFiles, root: Path) -> Problem:
    """The problem of a case whose label is missing although others have one."""
    return Problem(
        check_id="F01",
        file=relative_name(case.images[0], root),
        message=f"there is no label for case {case.case_id}",
        fix="add the label file, or take the case out",
    )
