"""The audit of a folder of label files without images: predictions, or labels before pairing."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import CaseRecord, FileFacts, Finding, Findings, Problem, StoredArray, Task
from pipeline.audit.checks.files import finding_of_problem
from pipeline.audit.config import AuditConfig
from pipeline.audit.rows import make_row
from pipeline.audit.view import CaseRow, CaseView, count_label_values
from pipeline.audit.waivers import apply_waivers, judge
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry, corner_displacement_voxels, orientation_of
from pipeline.core.parallel import map_cases
from pipeline.core.task import LabelClass
from pipeline.core.text import some_of
from pipeline.core.volume import Volume, to_ras
from pipeline.io.load import load_volume
from pipeline.io.pairing import relative_name
from pipeline.io.store import array_hash

# More values than this are no classes; E07 says so.
_MAX_FOUND_CLASSES = 256
_MAX_NAMED = 5


def audit_label_folder(
    files: Mapping[str, Path],
    root: Path,
    config: AuditConfig,
    *,
    task: Task | None = None,
    references: Mapping[str, Path] | None = None,
) -> Findings:
    """Check label files that stand alone: container, header, values, emptiness.

    Args:
        files: Case id to label file; at least one.
        root: Folder that names in findings are relative to.
        config: Thresholds and waivers.
        task: Declared classes; None takes every value found as a class.
        references: Label files the grids are held against, by case id.

    Returns:
        The findings with their verdict.
    """
    task = task or _found_task(files, root)
    work = _FolderWork(root, config, task, dict(references or {}))
    outcomes = map_cases(work, sorted(files.items()), description="label audit")
    found: list[Finding] = []
    hashes: dict[str, list[str]] = defaultdict(list)
    equal: list[str] = []
    for outcome in outcomes:
        case_id = outcome.item[0]
        if outcome.result is None:
            what = outcome.error.what if outcome.error else "cannot be read"
            found.append(_unreadable(case_id, what))
            continue
        row, digest, is_equal = outcome.result
        found += row.findings
        if is_equal:
            equal.append(case_id)
        if sum(row.n_class_voxels) > 0:
            hashes[digest].append(case_id)
    found += _repeated(hashes)
    found += _equal_to_reference(equal, len(files))
    if references is not None:
        found += _without_partner(files, references)
    marked, unused = apply_waivers(found, config.waivers)
    return Findings(
        verdict=judge(marked), n_cases=len(files), findings=marked, unused_waivers=unused
    )


@dataclass(frozen=True)
class _FolderWork:
    """Checks one file; picklable."""

    root: Path
    config: AuditConfig
    task: Task
    references: Mapping[str, Path]

    def __call__(self, item: tuple[str, Path]) -> tuple[CaseRow, str, bool]:
        """Row of the file, hash of its voxels, and whether it equals its reference."""
        case_id, file = item
        try:
            facts, volume = load_volume(file, root=self.root, role="label")
        except FileFormatError as error:
            return self._broken(case_id, file, error), "", False
        stored = _as_stored(volume)
        record = CaseRecord(case_id=case_id, status="ready", label_file=facts, label=stored)
        array = to_ras(volume).array
        view = CaseView(record, self.task, None, array, count_label_values(array))
        row = make_row(view, self.config)
        reference = self.references.get(case_id)
        if reference is None:
            return row, stored.content_hash, False
        findings, is_equal = self._against(case_id, facts, volume, reference)
        row = row.model_copy(update={"findings": (*row.findings, *findings)})
        return row, stored.content_hash, is_equal

    def _broken(self, case_id: str, file: Path, error: FileFormatError) -> CaseRow:
        problem = Problem(
            check_id=error.check_id,
            file=relative_name(file, self.root),
            message=f"label: {error.what}",
            fix=error.fix,
        )
        return CaseRow(
            case_id=case_id,
            findings=(finding_of_problem(problem, case_id),),
            fingerprint=None,
            n_voxels=0,
            n_class_voxels=(),
            label_values=(),
        )

    def _against(
        self, case_id: str, facts: FileFacts, volume: Volume, reference_file: Path
    ) -> tuple[list[Finding], bool]:
        try:
            _, reference = load_volume(reference_file, root=reference_file.parent, role="label")
        except FileFormatError:
            return [], False  # the audit of the references names it
        mine, other = to_ras(volume), to_ras(reference)
        if mine.shape != other.shape:
            finding = Finding(
                check_id="G01",
                severity="error",
                case_id=case_id,
                value=" x ".join(map(str, mine.shape)),
                threshold=" x ".join(map(str, other.shape)),
                message=f"the file has {mine.shape} voxels (R, A, S), its reference {other.shape}",
                fix="write it on the grid of the reference; scoring never resizes",
                evidence={"file": facts.file},
            )
            return [finding], False
        return self._placement(case_id, facts, mine, other), _is_equal(mine, other)

    def _placement(
        self, case_id: str, facts: FileFacts, mine: Volume, other: Volume
    ) -> list[Finding]:
        displacement = corner_displacement_voxels(
            Geometry(other.shape, other.affine), Geometry(mine.shape, mine.affine)
        )
        if displacement <= self.config.max_affine_shift_voxels:
            return []
        is_error = displacement > self.config.max_shift_error_voxels
        return [
            Finding(
                check_id="G02",
                severity="error" if is_error else "warning",
                case_id=case_id,
                value=displacement,
                threshold=self.config.max_shift_error_voxels
                if is_error
                else self.config.max_affine_shift_voxels,
                message=f"the grid lies up to {displacement:.3g} voxels off that of its reference",
                fix="keep the affine of the image when writing; scoring refuses larger distances",
                evidence={"file": facts.file},
            )
        ]


def _as_stored(volume: Volume) -> StoredArray:
    turned = to_ras(volume)
    rows = tuple(tuple(float(x) for x in row) for row in turned.affine)
    return StoredArray(
        file="",
        dtype=turned.array.dtype.name,
        shape=turned.shape,
        affine=rows,  # type: ignore[arg-type]  # four rows of four
        source_orientation=orientation_of(volume.affine),
        content_hash=array_hash(turned.array),
    )


def _found_task(files: Mapping[str, Path], root: Path) -> Task:
    values: set[int] = set()
    for file in files.values():
        try:
            _, volume = load_volume(file, root=root, role="label")
        except FileFormatError:
            continue  # reported when it is checked
        counted = count_label_values(volume.array)
        if counted.values.size <= _MAX_FOUND_CLASSES and counted.max_fraction_part == 0:
            values.update(int(v) for v in counted.values)
    values.discard(0)
    classes = tuple(
        LabelClass(name=f"class_{value}", index=n, source_values=(value,))
        for n, value in enumerate(sorted(values), 1)
    )
    return Task(channels=(), classes=classes)


def _is_equal(mine: Volume, other: Volume) -> bool:
    return bool(np.any(mine.array)) and bool(np.array_equal(mine.array, other.array))


def _unreadable(case_id: str, what: str) -> Finding:
    return Finding(
        check_id="F05",
        severity="error",
        case_id=case_id,
        message=f"label: {what}",
        fix="export the file again",
    )


def _repeated(hashes: Mapping[str, list[str]]) -> list[Finding]:
    return [
        Finding(
            check_id="D02",
            severity="error",
            case_id=ids[0],
            value=len(ids),
            threshold=1,
            message=f"{len(ids)} files hold the same label: {some_of(ids, _MAX_NAMED)}",
            fix="find out which case it belongs to; the others need their own",
            evidence={"same_as": ", ".join(ids[1:])},
        )
        for ids in hashes.values()
        if len(ids) > 1
    ]


def _equal_to_reference(equal: list[str], n_files: int) -> list[Finding]:
    """An error where the reference folder was given twice; a tiny structure may be hit exactly."""
    if not equal:
        return []
    return [
        Finding(
            check_id="D06",
            severity="error" if 2 * len(equal) >= n_files else "warning",
            case_id=equal[0],
            value=len(equal),
            threshold=0,
            message=f"{len(equal)} of {n_files} label files equal their reference voxel for voxel: "
            f"{some_of(equal, _MAX_NAMED)}",
            fix="give the folder of the predictions; a model hardly ever repeats a label exactly",
            evidence={"same_as": ", ".join(equal[1:])},
        )
    ]


def _without_partner(files: Mapping[str, Path], references: Mapping[str, Path]) -> list[Finding]:
    """F01: references nobody predicted, and files that nothing can be held against."""
    missing = sorted(set(references) - set(files))
    extra = sorted(set(files) - set(references))
    findings = [
        Finding(
            check_id="F01",
            severity="error",
            case_id=case_id,
            message=f"there is no file for the reference {references[case_id].name}",
            fix="predict this case, or take its reference out; scoring counts it as missed",
            evidence={"file": references[case_id].name},
        )
        for case_id in missing
    ]
    if extra:
        findings.append(
            Finding(
                check_id="F01",
                severity="info",
                value=len(extra),
                threshold=0,
                message=f"{len(extra)} files have no reference: {some_of(extra, _MAX_NAMED)}",
                fix="nothing, if they are not to be scored",
            )
        )
    return findings
