"""The table of all scores: one row per case and class, written and read back without loss."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.core.errors import DataError, MissingInputError
from pipeline.core.workspace import write_text
from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.overlap import Mistaken, OverlapScores, Score
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores

# In the status column of a class that nobody drew in a case; all its numbers are empty.
NOT_ANNOTATED = "not annotated"
# Columns that scripts outside read come first and keep their names.
_OVERLAP_COLUMNS = (
    *("case_id", "class_name", "status", "dice", "iou", "tp", "fp", "fn"),
    *("reference_ml", "prediction_ml", "volume_error_ml"),
    *("precision", "recall", "volume_error_percent", "voxel_ml"),
)
_SURFACE_COLUMNS = (
    *("hd95_mm", "assd_mm", "nsd", "nsd_tolerance_mm"),
    *("n_surface_reference", "n_surface_prediction", "image_diagonal_mm"),
)
_LESION_COLUMNS = (
    *("lesion_dice", "n_lesions_reference", "n_lesions_prediction", "n_lesions_detected"),
    *("n_lesions_false", "n_lesions_ignored", "sum_of_lesion_dice", "min_lesion_mm3"),
)
_CASE_COLUMNS = ("mistaken_for", "grid_offset_voxels", "calibration_error", "kind")
CSV_COLUMNS = (*_OVERLAP_COLUMNS, *_SURFACE_COLUMNS, *_LESION_COLUMNS, *_CASE_COLUMNS)

Row = Mapping[str, str]


def write_scores_csv(file: Path, cases: Sequence[CaseScores]) -> None:
    """Write one row per case and class; what is undefined or was not computed is an empty cell.

    A class that nobody drew in a case has a row too, with the status "not annotated". A case
    without any class keeps one row without one, so that it is still counted.

    Args:
        file: The CSV file, replaced in one step.
        cases: Scored cases.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    rows.writeheader()
    for case in cases:
        if not case.classes and not case.not_annotated:
            rows.writerow(_case_cells(case))
        for name in case.not_annotated:
            rows.writerow(_case_cells(case) | {"class_name": name, "status": NOT_ANNOTATED})
        for scores in case.classes:
            rows.writerow(_cells(case, scores))
    write_text(file, text.getvalue())


def read_scores_csv(file: Path) -> tuple[CaseScores, ...]:
    """Read what `write_scores_csv` wrote; nothing that averages or statistics need is lost.

    Tables of earlier versions, without surfaces and lesions, are read as well.

    Args:
        file: The CSV file.

    Returns:
        The cases in the order of their first rows.

    Raises:
        MissingInputError: If there is no such file.
        DataError: If it is no table of scores, or a number in it cannot be read.
    """
    if not file.is_file():
        raise MissingInputError(
            "there is no table of scores", where=str(file), fix="run `voxline evaluate` first"
        )
    rows_of: dict[str, list[Row]] = {}
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.DictReader(text)
        _check_columns(file, rows.fieldnames or ())
        for row in rows:
            rows_of.setdefault(row["case_id"], []).append(row)
            _check_numbers(file, rows.line_num, row)
    return tuple(_case(case_id, rows) for case_id, rows in rows_of.items())


def _case_cells(case: CaseScores) -> dict[str, str]:
    return {
        "case_id": case.case_id,
        "grid_offset_voxels": repr(case.grid_offset_voxels),
        "calibration_error": _exact(case.calibration_error),
    }


def _cells(case: CaseScores, scores: OverlapScores) -> dict[str, str]:
    cells = _case_cells(case) | _overlap_cells(scores)
    surface = case.surface_of(scores.class_name)
    if surface is not None:
        cells |= _surface_cells(surface)
    lesion = case.lesion_of(scores.class_name)
    if lesion is not None:
        cells |= _lesion_cells(lesion)
    mistaken = {
        m.mistaken_for: m.n_voxels for m in case.mistaken if m.class_name == scores.class_name
    }
    if mistaken:
        cells["mistaken_for"] = json.dumps(mistaken, ensure_ascii=False)
    return cells


def _overlap_cells(scores: OverlapScores) -> dict[str, str]:
    return {
        "class_name": scores.class_name,
        "status": scores.status,
        "dice": _rounded(scores.dice.value),
        "iou": _rounded(scores.iou.value),
        "tp": str(scores.n_true_positive),
        "fp": str(scores.n_false_positive),
        "fn": str(scores.n_false_negative),
        "reference_ml": _rounded(scores.reference_ml),
        "prediction_ml": _rounded(scores.prediction_ml),
        "volume_error_ml": _rounded(scores.volume_error_ml),
        "precision": _rounded(scores.precision.value),
        "recall": _rounded(scores.recall.value),
        "volume_error_percent": _rounded(scores.volume_error_percent),
        "voxel_ml": _exact(scores.voxel_ml),
        "kind": "region" if scores.is_region else "class",
    }


def _surface_cells(surface: SurfaceScores) -> dict[str, str]:
    return {
        "hd95_mm": _exact(surface.hd95_mm.value),
        "assd_mm": _exact(surface.assd_mm.value),
        "nsd": _exact(surface.nsd.value),
        "nsd_tolerance_mm": _exact(surface.tolerance_mm),
        "n_surface_reference": str(surface.n_reference_elements),
        "n_surface_prediction": str(surface.n_prediction_elements),
        "image_diagonal_mm": _exact(surface.diagonal_mm),
    }


def _lesion_cells(lesion: LesionScores) -> dict[str, str]:
    return {
        "lesion_dice": _rounded(lesion.dice.value),
        "n_lesions_reference": str(lesion.n_reference),
        "n_lesions_prediction": str(lesion.n_prediction),
        "n_lesions_detected": str(lesion.n_detected),
        "n_lesions_false": str(lesion.n_false_alarms),
        "n_lesions_ignored": str(lesion.n_ignored),
        "sum_of_lesion_dice": _exact(lesion.sum_of_dice),
        "min_lesion_mm3": _exact(lesion.min_lesion_mm3),
    }


def _case(case_id: str, rows: Sequence[Row]) -> CaseScores:
    first = rows[0]
    scored = [r for r in rows if r["class_name"] and r["status"] != NOT_ANNOTATED]
    return CaseScores(
        case_id,
        tuple(_overlap(row) for row in scored),
        grid_offset_voxels=_number(first, "grid_offset_voxels") or 0.0,
        surfaces=tuple(_surface(row) for row in scored if row.get("nsd_tolerance_mm")),
        lesions=tuple(_lesion(row) for row in scored if row.get("min_lesion_mm3")),
        mistaken=tuple(m for row in scored for m in _mistaken(row)),
        calibration_error=_number(first, "calibration_error"),
        not_annotated=tuple(r["class_name"] for r in rows if r["status"] == NOT_ANNOTATED),
    )


def _overlap(row: Row) -> OverlapScores:
    counts = [int(row[column]) for column in ("tp", "fp", "fn")]
    if min(counts) < 0:
        raise ValueError("a number of voxels is negative")
    n_hit, n_extra, n_lost = counts
    voxel_ml, is_region = _number(row, "voxel_ml") or 0.0, row.get("kind") == "region"
    scores = OverlapScores(row["class_name"], n_hit, n_extra, n_lost, voxel_ml, is_region=is_region)
    if row["status"] != scores.status:
        raise ValueError(f"the status is '{row['status']}', by the counts '{scores.status}'")
    return scores if row.get("voxel_ml") else _with_voxel_ml(scores, row)


def _with_voxel_ml(scores: OverlapScores, row: Row) -> OverlapScores:
    """Tables of earlier versions: by the larger of the two volumes."""
    sizes = (("reference_ml", scores.n_reference), ("prediction_ml", scores.n_prediction))
    column, n_voxels = max(sizes, key=lambda size: size[1])
    return replace(scores, voxel_ml=float(row[column]) / n_voxels if n_voxels else 0.0)


def _surface(row: Row) -> SurfaceScores:
    status = _overlap(row).status
    return SurfaceScores(
        class_name=row["class_name"],
        hd95_mm=Score(_number(row, "hd95_mm"), status),
        assd_mm=Score(_number(row, "assd_mm"), status),
        nsd=Score(_number(row, "nsd"), status),
        tolerance_mm=float(row["nsd_tolerance_mm"]),
        n_reference_elements=int(row["n_surface_reference"]),
        n_prediction_elements=int(row["n_surface_prediction"]),
        diagonal_mm=float(row["image_diagonal_mm"]),
    )


def _lesion(row: Row) -> LesionScores:
    return LesionScores(
        class_name=row["class_name"],
        n_reference=int(row["n_lesions_reference"]),
        n_prediction=int(row["n_lesions_prediction"]),
        n_detected=int(row["n_lesions_detected"]),
        n_false_alarms=int(row["n_lesions_false"]),
        n_ignored=int(row["n_lesions_ignored"]),
        sum_of_dice=float(row["sum_of_lesion_dice"]),
        min_lesion_mm3=float(row["min_lesion_mm3"]),
    )


def _mistaken(row: Row) -> tuple[Mistaken, ...]:
    cell = row.get("mistaken_for")
    pairs: dict[str, int] = json.loads(cell) if cell else {}
    return tuple(Mistaken(row["class_name"], other, n) for other, n in pairs.items())


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    missing = [c for c in ("case_id", "class_name", "status", "tp", "fp", "fn") if c not in columns]
    if missing:
        raise DataError(
            f"this is no table of scores: the columns {', '.join(missing)} are missing",
            where=str(file),
            fix="give the scores.csv that `voxline evaluate` or `voxline train` wrote",
        )


def _check_numbers(file: Path, line: int, row: Row) -> None:
    """Try every cell once, so that a damaged one is named with its line."""
    try:
        _case(row["case_id"], [row])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"line {line} cannot be read: {error}",
            where=str(file),
            fix="write the table again with `voxline evaluate`",
        ) from None


def _number(row: Row, column: str) -> float | None:
    cell = row.get(column)
    number = float(cell) if cell else None
    # Tables from elsewhere write "nan" or "inf"; here what is undefined is an empty cell.
    if number is not None and not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{column} is {cell}")
    return number


def _rounded(value: float | None) -> str:
    """A cell for people: what it is computed from stands in other columns."""
    return "" if value is None else f"{value:.8g}"


def _exact(value: float | None) -> str:
    """A cell that gives back the very same number."""
    return "" if value is None else repr(value)
