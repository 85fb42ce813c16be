"""One case from its files to the store: read, checked, turned to RAS. Bad data is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import CaseRecord, FileFacts, Problem, SourceStamp, StoredArray
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import orientation_of
from pipeline.core.volume import Volume, to_ras
from pipeline.io.channels import join_channels
from pipeline.io.labels import load_label
from pipeline.io.load import Role, load_volume
from pipeline.io.pairing import CaseFiles, relative_name
from pipeline.io.stamps import stamp_volume
from pipeline.io.store import sidecar_file, write_array

_Loaded = tuple[FileFacts, Volume]


def conform_case(files: CaseFiles, *, root: Path, store_dir: Path, work_root: Path) -> CaseRecord:
    """Read all files of a case, turn them to RAS and store them.

    Nothing is interpolated, cast or repaired: label arrays keep the values of their files (or of
    their names, where files name their structures), and a label on another grid than its image is
    stored as it is, for the audit to report. The image is stored before the label is read: no more
    than one of them is in memory at a time.

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
    target = _Target(files.case_id, store_dir, work_root)
    image_facts, image = _store_image(files, root, target, problems)
    label_facts, label = _store_label(files, root, target if image is not None else None, problems)
    if image is not None and label is None:
        _discard(image, work_root)
        image = None
    return CaseRecord(
        case_id=files.case_id,
        status="ready" if label is not None else "unreadable",
        sources=sources,
        image_files=image_facts,
        label_file=label_facts,
        image=image,
        label=label,
        problems=tuple(problems),
    )


def source_stamps(files: CaseFiles, root: Path) -> tuple[SourceStamp, ...]:
    """Size and time of change of every volume of a case."""
    return tuple(stamp_volume(path, root) for path in (*files.images, *files.label_files))


@dataclass(frozen=True)
class _Target:
    """Where the arrays of a case go."""

    case_id: str
    store_dir: Path
    work_root: Path

    def write(self, role: Role, volume: Volume, native_orientation: str) -> StoredArray:
        return write_array(
            self.store_dir,
            f"{self.case_id}.{role}",
            volume.array,
            volume.affine,
            native_orientation,
            self.work_root,
        )


def _store_image(
    files: CaseFiles, root: Path, target: _Target, problems: list[Problem]
) -> tuple[tuple[FileFacts, ...], StoredArray | None]:
    images = [_load_image(file, root, problems) for file in files.images]
    channels = [loaded for loaded in images if loaded is not None]
    facts = tuple(facts for facts, _ in channels)
    joined = _join(channels, problems) if len(channels) == len(files.images) else None
    if joined is None:
        return facts, None
    return facts, target.write("image", joined, orientation_of(channels[0][1].affine))


def _store_label(
    files: CaseFiles, root: Path, target: _Target | None, problems: list[Problem]
) -> tuple[FileFacts | None, StoredArray | None]:
    """Without a target the label is only read, to report what is wrong with it."""
    loaded = _load_label(files, root, problems)
    if loaded is None:
        return None, None
    facts, native = loaded
    if target is None:
        return facts, None
    return facts, target.write("label", to_ras(native), orientation_of(native.affine))


def _load_image(file: Path, root: Path, problems: list[Problem]) -> _Loaded | None:
    try:
        return load_volume(file, root=root, role="image")
    except FileFormatError as error:
        problems.append(_problem(error, relative_name(file, root), "image"))
        return None


def _load_label(files: CaseFiles, root: Path, problems: list[Problem]) -> _Loaded | None:
    if files.label is None:
        return None
    try:
        return load_label(files, root=root)
    except FileFormatError as error:
        problems.append(_problem(error, relative_name(files.label, root), "label"))
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


def _discard(stored: StoredArray, work_root: Path) -> None:
    """Half a case is of no use: take back what was stored of it."""
    file = work_root / stored.file
    file.unlink(missing_ok=True)
    sidecar_file(file).unlink(missing_ok=True)
