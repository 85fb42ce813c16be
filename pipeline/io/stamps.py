"""What tells later whether a volume has changed on disk, whatever number of files it has."""

from pathlib import Path

from pipeline.artifacts import SourceStamp
from pipeline.io.load import source_files
from pipeline.io.pairing import relative_name, stamp_file


def stamp_volume(path: Path, root: Path) -> SourceStamp:
    """Size and time of change of one volume; -1 for a file that cannot be seen.

    A volume of several files (a pair, a header with its data, a DICOM series) has one stamp: all
    bytes, and the latest change.

    Args:
        path: What `io.load.load_volume` takes.
        root: Dataset folder that the stamped name is relative to.

    Returns:
        The stamp, under the name of the path.
    """
    stamps = [stamp_file(file, root) for file in source_files(path)]
    if len(stamps) == 1 and not path.is_dir():
        return stamps[0]
    return SourceStamp(
        file=relative_name(path, root),
        n_bytes=sum(stamp.n_bytes for stamp in stamps),
        modified_ns=max((stamp.modified_ns for stamp in stamps), default=-1),
    )
