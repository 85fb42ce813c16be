"""From the files of every case to channels and labels: what most cases have, or what was asked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.text import some_of
from pipeline.io.description import read_description
from pipeline.io.layouts.reading import Choice, NoFit, Reading, described, without_label
from pipeline.io.layouts.roles import asked_role, chosen_roles, find_role, short_names
from pipeline.io.layouts.tree import LABEL_WORDS, words_of
from pipeline.io.pairing import CaseFiles, relative_name

# Any file of its kind: the only one there is, whatever its name.
_ANY = "*"


@dataclass(frozen=True)
class CaseParts:
    """The files of one case by the part of their name that is theirs alone.

    Args:
        case_id: Name of the case.
        place: Folder of the case, for messages.
        images: Files that may be channels.
        labels: Files that may be the label.
        mask_dir: Folder with one label file per class, if there is one.
        masks: The files in it.
    """

    case_id: str
    place: Path
    images: dict[str, Path]
    labels: dict[str, Path]
    mask_dir: Path | None = None
    masks: tuple[Path, ...] = ()


def assemble(
    found: Sequence[CaseParts], root: Path, choice: Choice, *, layout: str, looked_for: str
) -> Reading | NoFit:
    """Decide which files are channels and which is the label, the same for every case.

    Args:
        found: The cases; at least one.
        root: Dataset folder.
        choice: What was asked for.
        layout: Name of the layout.
        looked_for: What the layout expects, in words.

    Returns:
        The cases that have every channel; the others are among the problems.

    Raises:
        ConfigError: If a channel or label is asked for that no case has.
    """
    if choice.label is not None:
        found = _with_asked_label(found, choice.label)
    label = _label(found)
    if not label:
        names = some_of(sorted({role for parts in found for role in parts.labels}), 5)
        return NoFit(looked_for, f"several possible labels per case ({names}): set ingest.label")
    channels = _channels(found, choice)
    if not channels:
        return NoFit(looked_for, "no image is common to most cases")
    cases = [_case(parts, channels, label, choice) for parts in found]
    complete = tuple(case for case in cases if case is not None)
    pairs = zip(found, cases, strict=True)
    problems = [_incomplete(parts, channels, root) for parts, case in pairs if case is None]
    if any(case.label for case in complete):
        problems += [without_label(case, root) for case in complete if case.label is None]
    channel_names = short_names(channels) if len(channels) > 1 else ()
    reading = Reading(
        layout=layout,
        root=root,
        reason=_reason(complete, channel_names, label),
        cases=complete,
        problems=tuple(problems),
        channel_names=channel_names,
    )
    return described(reading, read_description(root))


def _with_asked_label(found: Sequence[CaseParts], asked: str) -> Sequence[CaseParts]:
    """The file that was asked for is the only label of its case, whatever its name looks like."""
    moved = [_with_only_label(parts, asked) for parts in found]
    if not any(parts.labels for parts in moved):
        # Nothing has this name in any case: the error says which names there are.
        asked_role(
            asked,
            sorted({role for parts in found for role in (*parts.labels, *parts.images)}),
            "ingest.label",
        )
    return moved


def _with_only_label(parts: CaseParts, asked: str) -> CaseParts:
    label = find_role(asked, (*parts.labels, *parts.images))
    files = {**parts.labels, **parts.images}
    return replace(
        parts,
        images={role: file for role, file in parts.images.items() if role != label},
        labels={label: files[label]} if label is not None else {},
        mask_dir=None,
        masks=(),
    )


def _label(found: Sequence[CaseParts]) -> str:
    """Which files are the labels; empty if that is not clear."""
    if all(len(parts.labels) < 2 or parts.masks for parts in found):
        return _ANY
    labels = {role for parts in found for role in parts.labels}
    # "seg" beside "brain_mask": the one that is nothing but a label.
    pure = [role for role in labels if set(words_of(role)) <= LABEL_WORDS]
    # BIDS: a map of classes beside masks of single things.
    maps = [role for role in labels if words_of(role)[-1] == "dseg"]
    return next((names[0] for names in (pure, maps) if len(names) == 1), "")


def _channels(found: Sequence[CaseParts], choice: Choice) -> tuple[str, ...]:
    """Images in channel order; any, where every case has one, of whatever name."""
    counts = Counter(role for parts in found for role in parts.images)
    chosen = chosen_roles(sorted(counts), asked=choice.channels, expected=choice.expected)
    if chosen is not None:
        return chosen
    if all(len(parts.images) <= 1 for parts in found):
        return (_ANY,) if counts else ()
    usual = (role for role, n in counts.items() if 2 * n > len(found))
    return tuple(sorted(usual, key=words_of))


def _case(
    parts: CaseParts, channels: Sequence[str], label: str, choice: Choice
) -> CaseFiles | None:
    """The files of a case; None if it lacks a channel."""
    roles = list(parts.images) if tuple(channels) == (_ANY,) else list(channels)
    if not roles or not set(roles) <= set(parts.images):
        return None
    images = tuple(parts.images[role] for role in roles)
    if len(parts.masks) > 1:
        return CaseFiles(
            parts.case_id, images, parts.mask_dir, parts.masks, mask_order=choice.mask_order
        )
    if parts.masks:
        return CaseFiles(parts.case_id, images, parts.masks[0])
    names = list(parts.labels) if label == _ANY else [label]
    return CaseFiles(parts.case_id, images, parts.labels.get(names[0]) if names else None)


def _incomplete(parts: CaseParts, channels: Sequence[str], root: Path) -> Problem:
    missing = [role for role in channels if role != _ANY and role not in parts.images]
    what = f"no {some_of(missing, 5)}, which other cases have" if missing else "no image"
    return Problem(
        check_id="F01",
        file=relative_name(parts.place, root),
        message=f"case {parts.case_id} has {what}",
        fix="add the missing files, or take the case out; ingest.channels chooses among images",
    )


def _reason(cases: Sequence[CaseFiles], names: Sequence[str], label: str) -> str:
    text = f"channels {some_of(names, 6)}" if names else "one image per case"
    if any(case.masks for case in cases):
        return f"{text}, a folder of masks with one file per class"
    if not any(case.label for case in cases):
        return f"{text}, no labels"
    return f"{text}, one label" if label == _ANY else f"{text}, label '{label}'"
