"""Runs with chosen scores, for tests of the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.compare.agreement import Agreed, agree
from pipeline.compare.inputs import RunScores, ScoreTable
from pipeline.metrics.overlap import OverlapScores, Score, Status
from pipeline.metrics.score_table import write_scores_csv
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores

N_REFERENCE = 1000
# A Dice, or a status; None leaves the class out of the case.
Value = float | str | None


def overlap(name: str, value: float | str) -> OverlapScores:
    """One class with exactly this Dice (three decimals) or this status."""
    match value:
        case "missed":
            counts = (0, 0, N_REFERENCE)
        case "hallucinated":
            counts = (0, 50, 0)
        case "absent":
            counts = (0, 0, 0)
        case _:
            n_hits = round(N_REFERENCE * float(value))
            counts = (n_hits, N_REFERENCE - n_hits, N_REFERENCE - n_hits)
    return OverlapScores(name, *counts, voxel_ml=0.001)


def case(case_id: str, **classes: Value) -> CaseScores:
    """One case with these values."""
    rows = (overlap(name, value) for name, value in classes.items() if value is not None)
    return CaseScores(case_id, tuple(rows))


def cases_of(**columns: Sequence[Value]) -> tuple[CaseScores, ...]:
    """Cases c00, c01, ...: one list of values per class."""
    rows = zip(*columns.values(), strict=True)
    return tuple(
        case(f"c{n:02d}", **dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)
    )


def with_distances(
    name: str, distances_mm: Sequence[float | None], *, tolerance_mm: float = 2.0
) -> tuple[CaseScores, ...]:
    """Cases with one class, of Dice 0.8 and this HD95; None is a missed structure."""
    cases = cases_of(**{name: ["missed" if d is None else 0.8 for d in distances_mm]})
    return tuple(
        replace(c, surfaces=(_surface(name, d, tolerance_mm),))
        for c, d in zip(cases, distances_mm, strict=True)
    )


def _surface(name: str, distance_mm: float | None, tolerance_mm: float) -> SurfaceScores:
    status: Status = "missed" if distance_mm is None else "ok"
    return SurfaceScores(
        class_name=name,
        hd95_mm=Score(distance_mm, status),
        assd_mm=Score(distance_mm, status),
        nsd=Score(0.0 if distance_mm is None else 0.9, status),
        tolerance_mm=tolerance_mm,
        n_reference_elements=100,
        n_prediction_elements=0 if distance_mm is None else 100,
        diagonal_mm=300.0,
    )


def run(label: str, cases: Sequence[CaseScores], **table: object) -> RunScores:
    """A run with these cases."""
    where = {"file": Path(f"/{label}/scores.csv"), "kind": "table", "dataset": "", "work": None}
    return RunScores(label, ScoreTable(**{**where, **table}), tuple(cases))  # type: ignore[arg-type]


def agreed_runs(runs: Mapping[str, Mapping[str, Sequence[Value]]]) -> Agreed:
    """Agreed runs from values per run and class."""
    return agree(
        [run(label, cases_of(**columns)) for label, columns in runs.items()],
        is_common_enough=False,
    )


def write_table(folder: Path, cases: Sequence[CaseScores]) -> Path:
    """Write scores.csv into a folder; returns the folder."""
    write_scores_csv(folder / "scores.csv", cases)
    return folder
