"""What a file is inside its case, by the part of its name that the other files do not share."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.io.layouts.tree import stem, words_of

_SEPARATORS = "-_. "
# A file that is named exactly like its case.
_PLAIN = "image"


def named_roles(files: Sequence[Path], case_name: str) -> dict[str, Path]:
    """Name the files of a case by what is left without their common beginning.

    Args:
        files: Files of one case.
        case_name: Name of the case's folder; a lone file begins with it or keeps its name.

    Returns:
        Such as "t1" and "seg" for p7_t1.nii.gz and p7_seg.nii.gz; "image" where nothing is left.
    """
    stems = [stem(file) for file in files]
    start = _common_start(stems) if len(stems) > 1 else case_name
    roles = [name.removeprefix(start).lstrip(_SEPARATORS) or _PLAIN for name in stems]
    return dict(zip(roles, files, strict=True))


def short_names(roles: Sequence[str]) -> tuple[str, ...]:
    """Take the words off that all names end in: T1_brain_mni, T2_brain_mni are T1 and T2."""
    words = [re.split(r"([-_. ]+)", role) for role in roles]
    while len(words) > 1 and all(len(w) > 2 for w in words) and len({w[-1] for w in words}) == 1:
        words = [w[:-2] for w in words]
    return tuple("".join(w) for w in words)


def find_role(asked: str, roles: Iterable[str]) -> str | None:
    """The one role that a name means: itself, or beginning with the same words; None if unclear."""
    known = list(roles)
    if asked in known:
        return asked
    wanted = words_of(asked)
    matching = [role for role in known if words_of(role)[: len(wanted)] == wanted]
    same = [role for role in matching if words_of(role) == wanted]
    candidates = same or matching
    return candidates[0] if wanted and len(candidates) == 1 else None


def asked_role(asked: str, roles: Sequence[str], where: str) -> str:
    """The role a user asks for.

    Raises:
        ConfigError: If no file, or more than one, is called so.
    """
    found = find_role(asked, roles)
    if found is None:
        raise ConfigError(
            f"no file of the cases is called '{asked}', or several are",
            where=where,
            fix=did_you_mean(asked, roles),
        )
    return found


def chosen_roles(
    roles: Sequence[str], *, asked: tuple[str, ...] | None, expected: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The images that become channels, in order, where somebody says which.

    Args:
        roles: Images that there are.
        asked: Names the user gave; each must be there.
        expected: Names of a model's channels; they count only if all of them are there.

    Returns:
        Roles in the order of the names; None if nobody says.

    Raises:
        ConfigError: If an asked name is not there.
    """
    if asked is not None:
        return tuple(asked_role(name, roles, "ingest.channels") for name in asked)
    found = [find_role(name, roles) for name in expected]
    usable = tuple(role for role in found if role is not None)
    return usable if usable and len(set(usable)) == len(expected) else None


def _common_start(stems: Sequence[str]) -> str:
    """The longest common beginning that ends between words."""
    first, last = min(stems), max(stems)
    n_same = next(
        (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    start = first[:n_same]
    while start and not all(_ends_word(start, name) for name in stems):
        start = start[:-1]
    return start


def _ends_word(start: str, name: str) -> bool:
    is_whole = len(name) == len(start)
    return is_whole or start[-1] in _SEPARATORS or name[len(start)] in _SEPARATORS
