"""From one case to its row: run every check once, remember the result by content."""

from dataclasses import dataclass, replace
from pathlib import Path

import xxhash
from pydantic import ValidationError

from pipeline.artifacts import CaseRecord, Finding, Task
from pipeline.audit.checks import anatomy, codes, cohort, encoding, files, geometry, grids, images
from pipeline.audit.checks.types import CaseCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.fingerprint import fingerprint_case
from pipeline.audit.measure.case import measure_case
from pipeline.audit.measures import CaseMeasures, ClassMeasures
from pipeline.audit.view import CaseRow, CaseView, LabelValues, count_classes, count_label_values
from pipeline.core.workspace import write_json
from pipeline.io.store import open_array

CASE_CHECKS: tuple[CaseCheck, ...] = (
    files.check_problems,
    files.check_trailing_bytes,
    files.check_dimensions,
    files.check_label_scaling,
    files.check_finite,
    files.check_constant,
    geometry.check_shape,
    geometry.check_alignment,
    geometry.check_spacing,
    geometry.check_forms,
    geometry.check_form_codes,
    geometry.check_affines,
    geometry.check_pair_orientation,
    encoding.check_declared_values,
    encoding.check_binary_coding,
    encoding.check_integers,
    encoding.check_class_presence,
    encoding.check_image_like,
    encoding.check_empty,
    encoding.check_foreground_share,
    *images.CASE_CHECKS,
    *grids.CASE_CHECKS,
    *codes.CASE_CHECKS,
    *anatomy.CASE_CHECKS,
    *cohort.CASE_CHECKS,
)

# Raise this when a check changes its result, so that old rows are not used again.
ROW_VERSION = 5
# A label with more distinct values is no label; the row need not list them.
_MAX_ROW_VALUES = 1_000
# Checks after which a case cannot be put into a network at all.
_UNUSABLE_CHECKS = frozenset({"F01", "F02", "F03", "F04", "F05", "F06", "G01", "G07"})
# Settings that change no row: they concern folds, waivers and the report.
_OTHER_SETTINGS = {
    *("waivers", "n_folds", "fold_seed", "split", "groups", "max_pictures", "n_jobs"),
    *("cohort", "advice"),  # read over all rows only
}


@dataclass(frozen=True)
class RowWork:
    """Makes the row of one case; picklable, so that worker processes can do it.

    Args:
        task: Channels and classes.
        config: Thresholds.
        work_root: Work folder; rows are kept in its `audit/rows`.
        dataset_root: The dataset folder.
    """

    task: Task
    config: AuditConfig
    work_root: Path
    dataset_root: Path | None = None

    @property
    def rows_dir(self) -> Path:
        """Where rows are kept between audits."""
        return self.work_root / "audit" / "rows"

    def key(self, record: CaseRecord) -> str:
        """Name of a row: a hash of everything it depends on."""
        settings = self.config.model_dump_json(exclude=_OTHER_SETTINGS)
        # When a file was written says nothing about its voxels; their hash is in the record.
        facts = record.model_dump_json(exclude={"sources"})
        text = "\n".join((str(ROW_VERSION), settings, self.task.model_dump_json(), facts))
        return xxhash.xxh3_128_hexdigest(text.encode())

    def __call__(self, record: CaseRecord) -> CaseRow:
        """Read the row of a case, or make and keep it.

        Raises:
            DataError: If the case store is damaged.
        """
        file = self.rows_dir / f"{self.key(record)}.json"
        try:
            return CaseRow.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            view = open_view(record, self.task, self.work_root, self.dataset_root)
            row = make_row(view, self.config)
            write_json(file, row, durable=False)  # a cache: made again if lost
            return row


def open_view(
    record: CaseRecord, task: Task, work_root: Path, dataset_root: Path | None = None
) -> CaseView:
    """Map the arrays of a case into memory and count its label values.

    Args:
        record: The case.
        task: Channels and classes.
        work_root: Folder the stored paths are relative to.
        dataset_root: The dataset folder, for the second reading of the source files.

    Returns:
        What the checks see; arrays that were not stored are None.

    Raises:
        DataError: If a stored array is missing or damaged.
    """
    image = open_array(work_root, record.image) if record.image is not None else None
    label = open_array(work_root, record.label) if record.label is not None else None
    values = count_label_values(label) if label is not None else None
    return CaseView(record, task, image, label, values, dataset_root=dataset_root)


def make_row(view: CaseView, config: AuditConfig) -> CaseRow:
    """Measure one case, run every check on it and describe it.

    Args:
        view: The case.
        config: Thresholds.

    Returns:
        Findings, and the fingerprint if the case can be used.
    """
    view = replace(view, measures=_of_drawn_classes(measure_case(view, config), view))
    findings = tuple(finding for check in CASE_CHECKS for finding in check(view, config))
    values = view.values
    is_counted = values is not None and values.values.size <= _MAX_ROW_VALUES
    is_usable = is_usable_case(view, findings)
    return CaseRow(
        case_id=view.case_id,
        findings=findings,
        fingerprint=fingerprint_case(view) if is_usable else None,
        n_voxels=_n_counted(values, view.task) if values is not None and is_counted else 0,
        n_class_voxels=count_classes(view) if is_counted else (0,) * len(view.task.classes),
        unannotated=view.record.unannotated,
        label_values=tuple(int(v) for v in values.values)
        if values is not None and is_counted
        else (),
        measures=view.measures,
    )


def _n_counted(values: LabelValues, task: Task) -> int:
    return int(values.counts.sum()) - values.count_of(task.ignore_values)


def _of_drawn_classes(measures: CaseMeasures, view: CaseView) -> CaseMeasures:
    """Without classes that were not drawn as a whole: their shape is not that of the structure.

    These are the ones that nobody annotated in this case, and scribbles, most of whose surface
    touches voxels to be ignored.
    """
    unannotated = {c.index for c in view.task.classes if c.name in view.record.unannotated}
    if not unannotated and not view.task.ignore_values:
        return measures
    drawn = tuple(
        one
        for one in measures.classes
        if one.class_index not in unannotated
        and not (view.task.ignore_values and _is_scribble(one))
    )
    return measures.model_copy(update={"classes": drawn})


def _is_scribble(measures: ClassMeasures) -> bool:
    n_open = sum(c.n_faces for c in measures.contacts if c.class_index < 0)
    return 2 * n_open > sum(c.n_faces for c in measures.contacts)


def is_usable_case(view: CaseView, findings: tuple[Finding, ...]) -> bool:
    """Whether a case can be trained on as far as files and grids go."""
    is_broken = any(f.severity == "error" and f.check_id in _UNUSABLE_CHECKS for f in findings)
    return view.record.status == "ready" and view.is_aligned and not is_broken


def forget_rows(work: RowWork, records: tuple[CaseRecord, ...]) -> None:
    """Delete rows that no case of the dataset needs any more."""
    wanted = {f"{work.key(record)}.json" for record in records}
    for file in work.rows_dir.glob("*.json"):
        if file.name not in wanted:
            file.unlink(missing_ok=True)
