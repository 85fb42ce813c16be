"""One case from its files to the store: read, checked, turned to RAS. Bad data is recorded."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import CaseRecord, FileFacts, Problem, SourceStamp
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import orientation_of
from pipeline.core.volume import Volume, to_ras
from pipeline.io.channels import join_channels
from pipeline.io.discover import CaseFiles
from pipeline.io.load import Role, load_volume
from pipeline.io.pairing import relative_name, stamp_file
from pipeline.io.store import write_array

_Loaded = tuple[FileFacts, Volume]


def conform_case(files: CaseFiles, *, root: Path, store_dir: Path, work_root: Path) -> CaseRecord:
    """Read all files of a case, turn them to RAS and store them.

    Nothing is interpolated, cast or repaired: label arrays keep the values of their files, and a
    label on another grid than its image is stored as it is, for the audit to report.

    Args:
        files: Image file or files (one per channel) and the label.
        root: Dataset folder.
        store_dir: Case store.
        work_root: Work folder that stored paths are relative to.

    Returns:
        The record; "unreadable" with its problems if any file could not be used. Never raises for
        bad data.
    """
    # Taken before reading: a file that changes meanwhile is read again next time.
    sources = source_stamps(files, root)
    problems: list[Problem] = []
    images = [_load(file, root, "image", problems) for file in files.images]
    label = _load(files.label, root, "label", problems) if files.label is not None else None
    channels = [loaded for loaded in images if loaded is not None]
    image = _join(channels, problems) if len(channels) == len(files.images) else None
    stored_image, stored_label = None, None
    if image is not None and label is not None:
        native_image, native_label = channels[0][1], label[1]
        stored_image = write_array(
            store_dir,
            f"{files.case_id}.image",
            image.array,
            image.affine,
            orientation_of(native_image.affine),
            work_root,
        )
        turned = to_ras(native_label)
        stored_label = write_array(
            store_dir,
            f"{files.case_id}.label",
            turned.array,
            turned.affine,
            orientation_of(native_label.affine),
            work_root,
        )
    return CaseRecord(
        case_id=files.case_id,
        status="ready" if stored_label is not None else "unreadable",
        sources=sources,
        image_files=tuple(facts for facts, _ in channels),
        label_file=label[0] if label is not None else None,
        image=stored_image,
        label=stored_label,
        problems=tuple(problems),
    )


def source_stamps(files: CaseFiles, root: Path) -> tuple[SourceStamp, ...]:
    """Size and time of change of every file of a case; -1 for a file that cannot be seen."""
    labels = (files.label,) if files.label is not None else ()
    return tuple(stamp_file(file, root) for file in (*files.images, *labels))


def _load(file: Path, root: Path, role: Role, problems: list[Problem]) -> _Loaded | None:
    try:
        return load_volume(file, root=root, role=role)
    except FileFormatError as error:
        problems.append(_problem(error, relative_name(file, root), role))
        return None


def _join(channels: Sequence[_Loaded], problems: list[Problem]) -> Volume | None:
    try:
        return join_channels(channels)
    except FileFormatError as error:
        problems.append(_problem(error, error.where, "image"))
        return None


def _problem(error: FileFormatError, file: str, role: Role) -> Problem:
    message = f"{role}: {error.what}"
    return Problem(check_id=error.check_id, file=file, message=message, fix=error.fix)
