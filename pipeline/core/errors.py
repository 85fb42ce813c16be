"""The error tree: every error says what is wrong, where, and how to fix it."""

import difflib
from collections.abc import Iterable

from typing_extensions import override

EXIT_DONE = 0
EXIT_WARNINGS = 1
EXIT_DATA_ERRORS = 2
EXIT_USAGE = 3
EXIT_INTERRUPTED = 130


class VoxlineError(Exception):
    """Base of all errors a user can cause or cure.

    Args:
        what: The problem in one sentence.
        where: File, case or configuration key concerned.
        fix: What the user can do about it.
    """

    exit_status = EXIT_DATA_ERRORS

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    @override
    def __str__(self) -> str:
        lines = [f"{type(self).__name__}: {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class UsageError(VoxlineError):
    """The command line cannot be understood or asks for something impossible."""

    exit_status = EXIT_USAGE


class ConfigError(VoxlineError):
    """A configuration file or a --set override is wrong."""

    exit_status = EXIT_USAGE


class DataError(VoxlineError):
    """The data cannot be used as it is."""


class GeometryError(DataError):
    """Two grids that must agree do not, or an affine is unusable."""


class FileFormatError(DataError):
    """A file is not what its name promises.

    Args:
        what: The problem in one sentence.
        check_id: Audit check that names this fault, such as "F03".
        where: The file.
        fix: What the user can do about it.
    """

    def __init__(self, what: str, *, check_id: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.check_id = check_id

    @override
    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling used by worker processes.
        return (_rebuild_file_format_error, (self.what, self.check_id, self.where, self.fix))


def _rebuild_file_format_error(what: str, check_id: str, where: str, fix: str) -> "FileFormatError":
    return FileFormatError(what, check_id=check_id, where=where, fix=fix)


class MissingInputError(DataError):
    """A stage needs the output of another stage that is not there."""

    exit_status = EXIT_USAGE


class CheckpointError(DataError):
    """A checkpoint or model file cannot be read or does not belong here."""


class TrainingError(VoxlineError):
    """Training cannot go on; the last good checkpoint is safe."""


class InterruptedByUserError(VoxlineError):
    """The user asked to stop; everything is kept."""

    exit_status = EXIT_INTERRUPTED


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name closest to a misspelt one.

    Args:
        name: What the user wrote.
        known: Names that would be accepted.

    Returns:
        A sentence with the suggestion, or with all accepted names when none is close.
    """
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"accepted: {', '.join(candidates)}" if candidates else "nothing is accepted here"
