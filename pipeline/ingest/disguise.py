"""A dataset folder under pseudonyms: links that are named by them stand for its files.

Whatever reads the links names them in records, logs, messages and reports; that is how original
names stay out of all of these, without any of them having to know.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from pipeline.artifacts import Problem
from pipeline.core.errors import EXIT_USAGE, DataError, UsageError, VoxlineError
from pipeline.core.workspace import Workspace, write_text
from pipeline.ingest.pseudonyms import PRIVATE_FOLDER, TABLE_NAME, add_rows, new_rows, read_table
from pipeline.io.discover import CaseFiles, DatasetFolder
from pipeline.io.load import source_files, strip_suffix
from pipeline.io.masks import mask_name
from pipeline.io.pairing import relative_name

logger = logging.getLogger(__name__)

# Private part of a work folder, beside the table.
PRIVATE_NAME = "pseudonyms"
_FILES, _SOURCE, _PROBLEMS, _ERROR = "files", "source.txt", "problems.txt", "error.txt"
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_DATA_SUFFIXES = (".raw", ".zraw", ".gz", ".bz2")
# As the audit finds patients in names; pseudonyms keep what it needs.
_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)(?=[/_.]|$)")
# Where headers of .mhd and .nhdr name the file with the voxels.
_DATA_FILE = re.compile(
    rb"(?im)^(ElementDataFile[ \t]*=[ \t]*|data ?file:[ \t]*)([^\r\n]+?)[ \t]*$"
)


@dataclass(frozen=True)
class Naming:
    """Where a dataset is opened for, and whether by pseudonyms.

    Args:
        workspace: Work folder.
        is_wanted: `ingest.pseudonymize`; a work folder that has begun with pseudonyms keeps them.
        is_training_data: Whether it becomes the work folder's own dataset.
    """

    workspace: Workspace
    is_wanted: bool
    is_training_data: bool = False


def open_named(naming: Naming, data: Path, open_it: Callable[[], DatasetFolder]) -> DatasetFolder:
    """Open a dataset folder, under pseudonyms where these are wanted or were used before.

    Args:
        naming: What is wanted, and where.
        data: The dataset.
        open_it: Finds its cases.

    Returns:
        What `open_it` finds; under pseudonyms its cases, files and root are links in the private
        part of the work folder.

    Raises:
        UsageError: If the work folder's dataset was ingested under its own names, and what
            `open_it` raises.
        ConfigError: If the table of pseudonyms cannot be used.
        DataError: What `open_it` raises; under pseudonyms the reason is in a private file.
    """
    workspace = naming.workspace
    has_begun = _is_private(_manifest_root(workspace))
    if not (naming.is_wanted or has_begun or _is_known(workspace, data)):
        return open_it()
    if naming.is_training_data and not has_begun and workspace.dataset_file.is_file():
        raise UsageError(
            "the cases of this work folder were ingested under their own names, which stand in its "
            "logs and in MLflow",
            where=str(workspace.root),
            fix="name a new folder with --work, or leave --pseudonymize out",
        )
    if not naming.is_wanted:
        logger.info("this work folder uses pseudonyms: so does this run")
    private_dir(workspace)
    try:
        folder = open_it()
    except VoxlineError as error:
        raise _hidden(error, workspace) from None
    return disguise(folder, workspace)


def disguise(folder: DatasetFolder, workspace: Workspace) -> DatasetFolder:
    """Replace everything in a dataset folder that shows names.

    Args:
        folder: As found; its name stays, as do those of channels and classes.
        workspace: Gets `pseudonyms.csv`, and `pseudonyms/<dataset>/files/<pseudonym>/` with links.

    Returns:
        The same cases under pseudonyms, sorted by them. Files that could not be used are counted;
        their names and the reasons are in the private `problems.txt`.

    Raises:
        ConfigError: If the table of pseudonyms cannot be used.
    """
    private = private_dir(workspace) / folder.name
    with FileLock(private_dir(workspace) / ".lock"):
        pseudonyms = _pseudonyms(folder, workspace.root / TABLE_NAME)
        write_text(private / _SOURCE, f"{folder.source or folder.root}\n")
        cases, problems = _link_cases(folder, pseudonyms, private / _FILES)
        write_text(private / _PROBLEMS, "".join(map(_line, problems)))
    if problems:
        logger.info("what is wrong in the dataset folder: %s", private / _PROBLEMS)
    n_labelled = sum(case.label is not None for case in cases)
    return replace(
        folder,
        root=private / _FILES,
        reason=f"{len(cases)} cases, {n_labelled} with a label; names are pseudonyms",
        cases=tuple(sorted(cases, key=lambda case: case.case_id)),
        problems=tuple(_public(p, number) for number, p in enumerate(problems, start=1)),
        source=None,
    )


def original_source(root: Path) -> Path | None:
    """The dataset that a folder of links stands for; None for any other folder."""
    if not _is_private(root):
        return None
    try:
        return Path((root.parent / _SOURCE).read_text(encoding="utf-8").removesuffix("\n"))
    except OSError:
        return None


def private_dir(workspace: Workspace) -> Path:
    """The folder with the links, for the owner alone; made if it is not there."""
    folder = workspace.root / PRIVATE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(PRIVATE_FOLDER)
    return folder


def _pseudonyms(folder: DatasetFolder, table_file: Path) -> dict[str, str]:
    table = read_table(table_file)
    case_ids = [case.case_id for case in folder.cases]
    added = new_rows(table, folder.name, case_ids, _subjects(folder))
    add_rows(table_file, added)
    if added:
        logger.info("%d new pseudonyms, in %s", len(added), table_file)
    rows = (*table, *added)
    return {row.case_id: row.pseudonym for row in rows if row.dataset == folder.name}


def _subjects(folder: DatasetFolder) -> dict[str, str]:
    """Subjects of cases that are named as in BIDS; as in the audit, all cases or none."""
    found: dict[str, str] = {}
    for case in folder.cases:
        names = (case.case_id, *(relative_name(image, folder.root) for image in case.images))
        match = next(filter(None, map(_SUBJECT.search, names)), None)
        if match is not None:
            found[case.case_id] = match[1]
    return found if len(found) == len(folder.cases) else {}


def _link_cases(
    folder: DatasetFolder, pseudonyms: Mapping[str, str], place: Path
) -> tuple[list[CaseFiles], list[Problem]]:
    cases, problems = [], list(folder.problems)
    for case in folder.cases:
        try:
            cases.append(_link_case(case, pseudonyms[case.case_id], place))
        except _NoLinkError as error:
            name = relative_name(error.file, folder.root)
            problems.append(_without_link(case.case_id, name))
    return cases, problems


class _NoLinkError(Exception):
    """A header whose name of the data file cannot be replaced."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self.file = file


def _link_case(case: CaseFiles, pseudonym: str, place: Path) -> CaseFiles:
    folder = place / pseudonym
    names = (
        ["image"] if len(case.images) == 1 else [f"image_{n:04d}" for n in range(len(case.images))]
    )
    images = tuple(
        _link_volume(image, folder / name) for image, name in zip(case.images, names, strict=True)
    )
    label = case.label
    masks: tuple[Path, ...] = ()
    if case.masks:
        label = folder / "label"
        # Masks are called after their classes, which stay visible.
        masks = tuple(_link_volume(m, label / mask_name(m, case.case_id)) for m in case.masks)
    elif label is not None:
        label = _link_volume(label, folder / "label")
    return replace(case, case_id=pseudonym, images=images, label=label, masks=masks)


def _link_volume(path: Path, stem: Path) -> Path:
    """Link all files of a volume; returns what stands for its path."""
    if path.is_dir():
        return _link_series(path, stem)
    suffix = _suffix(path)
    if suffix.lower() in (".nhdr", ".mhd"):
        return _link_header(path, stem, suffix)
    for file in source_files(path):
        _link(file, _named(stem, _suffix(file)))
    return _named(stem, suffix)


def _link_series(folder: Path, place: Path) -> Path:
    """A DICOM series: its files may be called after patients, too."""
    files = [file for file in source_files(folder) if not file.name.startswith(".")]
    links = {
        place / f"{number:06d}{_suffix(file)}": file
        for number, file in enumerate(files)
        if file.name.upper() != "DICOMDIR"
    }
    place.mkdir(parents=True, exist_ok=True)
    for stale in set(place.iterdir()) - set(links):
        stale.unlink()
    for link, file in links.items():
        _link(file, link)
    return place


def _link_header(path: Path, stem: Path, suffix: str) -> Path:
    """A header in a file of its own names the file with the voxels: a copy names the link."""
    header = path.read_bytes() if path.is_file() else b""
    match = _DATA_FILE.search(header)
    files = source_files(path)
    if match is None or (len(files) != 2 and match[2] != b"LOCAL"):
        raise _NoLinkError(path)
    link = _named(stem, suffix)
    if len(files) != 2:
        _link(path, link)
        return link
    # The last suffix may say that the voxels are compressed.
    data = _named(stem, files[1].suffix if files[1].suffix.lower() in _DATA_SUFFIXES else ".raw")
    _link(files[1], data)
    copy = link.with_name(f".{link.name}")
    content = header[: match.start(2)] + data.name.encode() + header[match.end(2) :]
    if not copy.is_file() or copy.read_bytes() != content:
        copy.write_bytes(content)
    # The time of change tells whether a case must be read again.
    status = path.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    # A link as well: readers follow links to voxels from headers that are links themselves.
    _link(copy, link)
    return link


def _link(target: Path, link: Path) -> None:
    target = target.absolute()
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _named(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _suffix(file: Path) -> str:
    """The suffix that says the format; nothing else of a name is kept."""
    suffix = file.name[len(strip_suffix(file.name)) :]
    return suffix or (file.suffix if file.suffix.lower() in _DICOM_SUFFIXES else "")


def _line(problem: Problem) -> str:
    text = f"{problem.check_id} {problem.file}: {problem.message} (fix: {problem.fix})"
    return " ".join(text.split()) + "\n"


def _public(problem: Problem, number: int) -> Problem:
    return problem.model_copy(
        update={
            "file": f"{_PROBLEMS} line {number}",
            "message": "something in the dataset folder is wrong; what and where is in the private "
            f"part of the work folder, {_PROBLEMS} line {number}",
            "fix": "look there: the file says what to do",
        }
    )


def _without_link(case_id: str, name: str) -> Problem:
    return Problem(
        check_id="F03",
        file=name,
        message=f"case {case_id}: the header does not name one file with the voxels beside it, so "
        "it cannot be given a pseudonym",
        fix="write the volume as .nii.gz, .nrrd or .mha",
    )


def _hidden(error: VoxlineError, workspace: Workspace) -> VoxlineError:
    file = private_dir(workspace) / _ERROR
    write_text(file, f"{error}\n")
    kind = UsageError if error.exit_status == EXIT_USAGE else DataError
    return kind(
        "the dataset cannot be used; the reason may hold names and is in a private file",
        where=str(file),
        fix="read it; nothing was done",
    )


def _is_known(workspace: Workspace, data: Path) -> bool:
    """Whether this very dataset was opened under pseudonyms before."""
    files = (workspace.root / PRIVATE_NAME).glob(f"*/{_SOURCE}")
    return any(file.read_text(encoding="utf-8").removesuffix("\n") == str(data) for file in files)


def _manifest_root(workspace: Workspace) -> Path | None:
    """The root in the manifest, without the cost of checking all of it."""
    try:
        return Path(json.loads(workspace.dataset_file.read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_private(root: Path | None) -> bool:
    return root is not None and root.name == _FILES and root.parent.parent.name == PRIVATE_NAME
