"""The audit of label files without images, alone or before they are scored."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts import Findings
from pipeline.audit.config import AuditConfig
from pipeline.audit.folder import audit_label_folder
from pipeline.core.errors import UsageError
from pipeline.core.task import Task
from pipeline.evaluate.inputs import input_from_folders
from pipeline.evaluate.pairs import pair_cases
from pipeline.evaluate.task import find_task
from pipeline.io.discover import list_volumes


def audit_labels(
    folder: Path, ref: Path | None, config: AuditConfig, *, out_root: Path
) -> Findings:
    """Check every label file of a folder.

    Args:
        folder: Predictions, or labels before pairing.
        ref: Reference labels that say which classes there are and on which grids; None for none.
        config: Thresholds and waivers.
        out_root: Where references that are no label maps are written as such.

    Returns:
        The findings.

    Raises:
        UsageError: If a folder does not exist or holds no label file.
    """
    files = _label_files(folder)
    if ref is None:
        return audit_label_folder(files, folder, config)
    given = input_from_folders(folder, ref.resolve(), out_root=out_root)
    task = given.task or find_task(given.references)
    return audit_against(files, folder, given.references, task, config)


def audit_against(
    files: Mapping[str, Path],
    folder: Path,
    references: Mapping[str, Path],
    task: Task,
    config: AuditConfig,
) -> Findings:
    """Check label files beside the references they belong to.

    Args:
        files: Case id to label file.
        folder: Folder of the files, for their names in findings.
        references: Case id to reference label.
        task: Classes of the references.
        config: Thresholds and waivers.

    Returns:
        The findings.
    """
    pairs = pair_cases(files, references).pairs
    paired = {p.case_id: p.prediction for p in pairs if p.prediction is not None}
    others = {i: f for i, f in files.items() if f not in paired.values()}
    return audit_label_folder(
        {**others, **paired},
        folder,
        config,
        task=task,
        references={p.case_id: p.reference for p in pairs},
    )


def loud_lines(findings: Findings) -> list[str]:
    """One line per check with errors or warnings, for the log."""
    loud = [f for f in findings.findings if f.severity != "info" and f.waived is None]
    counts = Counter(f.check_id for f in loud)
    first = {f.check_id: f for f in reversed(loud)}
    return [
        f"{check_id} in {n} {'file' if n == 1 else 'files'}, such as "
        f"{first[check_id].case_id or 'all'}: {first[check_id].message}"
        for check_id, n in counts.items()
    ]


def _label_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(
            "there is no such folder", where=str(folder), fix="name the folder of the label files"
        )
    files = list_volumes(folder)
    if not files:
        raise UsageError(
            "the folder holds no label files", where=str(folder), fix="it needs .nii.gz or .nii"
        )
    return files
