"""The label of a case, however it is kept: one file, a file per class, segments, contours."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError
from pipeline.core.volume import Volume
from pipeline.io.load import LabelContext, load_volume
from pipeline.io.masks import load_masks
from pipeline.io.nifti import write_nifti
from pipeline.io.pairing import CaseFiles

logger = logging.getLogger(__name__)


def load_label(case: CaseFiles, *, root: Path) -> tuple[FileFacts, Volume]:
    """Read the label of a case as one label map.

    Args:
        case: A case with a label.
        root: Dataset folder that messages are relative to.

    Returns:
        Facts of the label, and the label map (i, j, k) in the orientation of its file.

    Raises:
        FileFormatError: What `load_masks` and `load_volume` raise; F01 for a case without a label.
    """
    if case.label is None:
        raise FileFormatError("the case has no label", check_id="F01", where=case.case_id)
    if case.masks:
        return load_masks(case, root=root)
    context = LabelContext(case.images[0], case.label_values)
    return load_volume(case.label, root=root, role="label", context=context)


def plain_labels(cases: Sequence[CaseFiles], *, root: Path, folder: Path) -> dict[str, Path]:
    """Label files that can be read on their own, for what works with files instead of cases.

    Args:
        cases: Cases with and without label.
        root: Dataset folder.
        folder: Gets <case_id>.nii.gz for every label that is no plain label map.

    Returns:
        Case id to file, in the order of the cases, of those that have a label. A label that cannot
        be read is named in the log and keeps its own path, which whoever reads it will refuse.
    """
    return {
        case.case_id: _plain(case, case.label, root, folder)
        for case in cases
        if case.label is not None
    }


def _plain(case: CaseFiles, label: Path, root: Path, folder: Path) -> Path:
    if case.label_values is None and not case.masks:
        return label
    file = folder / f"{case.case_id}.nii.gz"
    try:
        _, volume = load_label(case, root=root)
    except FileFormatError as error:
        logger.warning("the label of case %s cannot be used: %s", case.case_id, error.what)
        file.unlink(missing_ok=True)
        return label
    write_nifti(file, volume, like=None)
    return file
