"""Which image files and which label file are one case, by their names."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Problem, SourceStamp
from pipeline.io.load import strip_suffix

# nnU-Net writes the channel number as four digits at the end of the name.
_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
_ROLE_WORDS = (
    r"images?|imgs?|scans?|volumes?|vols?|labels?|lbls?|masks?|segs?|segmentations?|"
    r"annotations?|preds?|predictions?|gt"
)
_ROLE_AFFIX = re.compile(rf"^(?:{_ROLE_WORDS})[-_. ]+|[-_. ]+(?:{_ROLE_WORDS})$", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Args:
        case_id: Name of the case.
        images: One file per channel, or one file with all channels; a DICOM series is its folder.
        label: The label file, if there is one; where every class has a file of its own, the folder
            that holds them.
        masks: One file per class, sorted by name; empty for an ordinary label file.
        label_values: Class name to the values that its voxels get, where labels name their
            structures (masks, segments, contours); None where the values of the file count.
        mask_order: Names of masks that may overlap, later ones painted over earlier ones.
    """

    case_id: str
    images: tuple[Path, ...]
    label: Path | None
    masks: tuple[Path, ...] = ()
    label_values: Mapping[str, tuple[int, ...]] | None = None
    mask_order: tuple[str, ...] = ()

    @property
    def label_files(self) -> tuple[Path, ...]:
        """Every file the label is read from; empty for a case without a label."""
        return self.masks or ((self.label,) if self.label is not None else ())


@dataclass(frozen=True)
class Pairing:
    """Cases found by name, and what found no partner.

    Args:
        cases: Sorted by case id.
        problems: One per file that could not be used.
        by_channel: Whether image names end in a channel number.
    """

    cases: tuple[CaseFiles, ...]
    problems: tuple[Problem, ...]
    by_channel: bool


def split_channel(stem: str) -> tuple[str, int | None]:
    """Take an nnU-Net channel number off a name: "liver_1_0002" is ("liver_1", 2)."""
    match = _CHANNEL.match(stem)
    return (match["case"], int(match["channel"])) if match else (stem, None)


def folded(name: str) -> str:
    """A name as disks compare it that ignore case, and how macOS writes accents."""
    return unicodedata.normalize("NFC", name).casefold()


def strip_role(stem: str) -> str:
    """Take words such as "_seg" or "img_" off a name, as long as something remains."""
    stripped = _ROLE_AFFIX.sub("", stem)
    return stripped or stem


def pair_files(
    images: Sequence[Path],
    labels: Sequence[Path],
    *,
    root: Path,
    by_channel: bool | None = None,
) -> Pairing:
    """Pair image files with label files.

    Names are compared as they are; without channel numbers; without role words ("_seg"); without
    both. The first of these that pairs the most labels is used for all files. What is left then is
    paired without regard to upper and lower case.

    Args:
        images: Image files.
        labels: Label files; may be empty.
        root: Folder that problems name files relative to.
        by_channel: Whether image names end in channel numbers; None finds out.

    Returns:
        Cases and problems. An image without a label is a case without a label, and a problem if
        there are labels at all.
    """
    images, doubled_images = _without_doubles(images, root)
    labels, doubled_labels = _without_doubles(labels, root)
    rule = _best_rule(images, labels, by_channel=by_channel)
    groups: dict[str, list[Path]] = defaultdict(list)
    for image in sorted(images, key=lambda file: strip_suffix(file.name)):
        groups[rule.image_key(strip_suffix(image.name))].append(image)
    label_of = {rule.label_key(strip_suffix(label.name)): label for label in sorted(labels)}
    cases: list[CaseFiles] = []
    problems = [*doubled_images, *doubled_labels]
    other_case = _by_other_case(label_of, groups)
    for key, files in sorted(groups.items()):
        label = label_of.pop(key, None) or label_of.pop(other_case.get(folded(key), ""), None)
        cases.append(CaseFiles(key, tuple(files), label))
        if label is None and labels:
            problems.append(_without_partner(files[0], "label", key, root))
    problems += [_without_partner(file, "image", key, root) for key, file in label_of.items()]
    if rule.by_channel:
        cases, incomplete = _with_all_channels(cases, root)
        problems += incomplete
    return Pairing(tuple(cases), tuple(problems), rule.by_channel)


@dataclass(frozen=True)
class _Rule:
    image_key: Callable[[str], str]
    label_key: Callable[[str], str]
    by_channel: bool


_RULES = (
    _Rule(lambda stem: stem, lambda stem: stem, by_channel=False),
    _Rule(lambda stem: split_channel(stem)[0], lambda stem: stem, by_channel=True),
    _Rule(strip_role, strip_role, by_channel=False),
    _Rule(lambda stem: strip_role(split_channel(stem)[0]), strip_role, by_channel=True),
)


def _best_rule(images: Sequence[Path], labels: Sequence[Path], *, by_channel: bool | None) -> _Rule:
    rules = [rule for rule in _RULES if by_channel is None or rule.by_channel == by_channel]
    if not labels:
        return next(rule for rule in rules if rule.by_channel == bool(by_channel))
    return max(rules, key=lambda rule: _n_paired(rule, images, labels))


def _n_paired(rule: _Rule, images: Sequence[Path], labels: Sequence[Path]) -> int:
    image_keys = Counter(rule.image_key(strip_suffix(file.name)) for file in images)
    label_keys = Counter(rule.label_key(strip_suffix(file.name)) for file in labels)
    return sum(
        n == 1 and (image_keys[key] == 1 or (rule.by_channel and key in image_keys))
        for key, n in label_keys.items()
    )


def _by_other_case(labels: Iterable[str], images: Iterable[str]) -> dict[str, str]:
    """Labels that no image is named like, by their name without regard to upper and lower case."""
    there = set(images)
    lone = [key for key in labels if key not in there]
    n_same = Counter(map(folded, lone))
    return {folded(key): key for key in lone if n_same[folded(key)] == 1}


def _without_doubles(files: Sequence[Path], root: Path) -> tuple[list[Path], list[Problem]]:
    """Leave out files that differ only by their suffix: nobody can say which one counts."""
    by_stem: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        by_stem[file.with_name(strip_suffix(file.name))].append(file)
    problems = [
        Problem(
            check_id="F01",
            file=relative_name(file, root),
            message=f"the same name exists twice: {', '.join(sorted(f.name for f in group))}",
            fix="keep one of the files",
        )
        for group in by_stem.values()
        if len(group) > 1
        for file in sorted(group)
    ]
    return [group[0] for group in by_stem.values() if len(group) == 1], problems


def _with_all_channels(
    cases: Iterable[CaseFiles], root: Path
) -> tuple[list[CaseFiles], list[Problem]]:
    """Leave out cases that lack a channel most cases have."""
    found = {c.case_id: tuple(_channel_number(file) for file in c.images) for c in cases}
    usual = Counter(found.values()).most_common(1)[0][0] if found else ()
    problems = [
        Problem(
            check_id="F01",
            file=relative_name(case.images[0], root),
            message=f"case {case.case_id} has channels {_listed(found[case.case_id])}, "
            f"other cases have {_listed(usual)}",
            fix="add the missing channel files, or take the case out",
        )
        for case in cases
        if found[case.case_id] != usual
    ]
    return [case for case in cases if found[case.case_id] == usual], problems


def _channel_number(file: Path) -> int:
    number = split_channel(strip_suffix(file.name))[1]
    return -1 if number is None else number


def _listed(channels: Sequence[int]) -> str:
    return ", ".join("none" if number < 0 else f"_{number:04d}" for number in channels)


def _without_partner(file: Path, missing: str, key: str, root: Path) -> Problem:
    return Problem(
        check_id="F01",
        file=relative_name(file, root),
        message=f"there is no {missing} for {file.name} (looked for '{key}')",
        fix=f"add the {missing} file, give both the same name, or take this file out",
    )


def relative_name(file: Path, root: Path) -> str:
    """A path as the manifest names it: relative to the dataset folder, with forward slashes."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


def stamp_file(file: Path, root: Path) -> SourceStamp:
    """What tells later whether a source file has changed; -1 for a file that cannot be seen.

    Args:
        file: The source file.
        root: Dataset folder that the stamped name is relative to.

    Returns:
        Name, size and time of the last change.
    """
    name = relative_name(file, root)
    try:
        status = file.stat()
    except OSError:  # a link to nowhere; reading it reports the problem
        return SourceStamp(file=name, n_bytes=-1, modified_ns=-1)
    return SourceStamp(file=name, n_bytes=status.st_size, modified_ns=status.st_mtime_ns)
