"""Runs can be compared only on the same cases, the same classes and the same references."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.compare.inputs import RunScores
from pipeline.core.errors import DataError
from pipeline.core.text import some_of
from pipeline.metrics.scores import CaseScores

MAX_NAMES = 8
# Headers round the size of a voxel, and old tables its volume, by less; relative.
SAME_VOLUME = 1e-3


@dataclass(frozen=True)
class LeftOut:
    """What one run has and another lacks, left out on request.

    Args:
        label: The run that has it.
        case_ids: Cases only some runs were scored on.
        class_names: Classes only some runs were scored on.
    """

    label: str
    case_ids: tuple[str, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Agreed:
    """Runs with the same cases in the same order.

    Args:
        runs: The runs; cases sorted by id.
        class_names: Classes that all of them are compared on.
        left_out: What was left out; empty unless that was asked for.
        region_names: Those of the class names that unite other classes, by the tables.
    """

    runs: tuple[RunScores, ...]
    class_names: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    region_names: tuple[str, ...] = ()

    @property
    def foreground(self) -> list[int]:
        """Places of the classes that a foreground mean is over; regions would count twice."""
        places = [n for n, name in enumerate(self.class_names) if name not in self.region_names]
        return places or list(range(len(self.class_names)))

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The cases of every run."""
        return tuple(case.case_id for case in self.runs[0].cases)


def agree(runs: Sequence[RunScores], *, is_common_enough: bool) -> Agreed:
    """Bring runs to the same cases, or refuse.

    Args:
        runs: Two or more runs.
        is_common_enough: Compare on the cases and classes that all runs share instead of refusing.

    Returns:
        The runs on the same cases, in the same order.

    Raises:
        DataError: If cases, classes or references differ, or nothing is shared.
    """
    for run in runs:
        _refuse_duplicates(run)
    case_ids = _shared(runs, _case_ids, "cases", is_common_enough=is_common_enough)
    class_names = _shared(runs, _class_names, "classes", is_common_enough=is_common_enough)
    left_out = tuple(
        LeftOut(
            run.label,
            tuple(c for c in _case_ids(run) if c not in case_ids),
            tuple(c for c in _class_names(run) if c not in class_names),
        )
        for run in runs
    )
    aligned = tuple(_aligned(run, sorted(case_ids)) for run in runs)
    for other in aligned[1:]:
        _refuse_other_references(aligned[0], other, class_names)
    regions = _regions(runs)
    return Agreed(
        aligned,
        tuple(class_names),
        tuple(x for x in left_out if x.case_ids or x.class_names),
        tuple(name for name in class_names if name in regions),
    )


def _regions(runs: Sequence[RunScores]) -> set[str]:
    rows = (c for run in runs for case in run.cases for c in case.classes)
    return {c.class_name for c in rows if c.is_region}


def _refuse_duplicates(run: RunScores) -> None:
    for case in run.cases:
        counts = Counter(c.class_name for c in case.classes)
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            raise DataError(
                f"case {case.case_id} has more than one row for class {twice[0]}",
                where=str(run.table.file),
                fix="write the table again with 'voxline evaluate'",
            )


def _shared(
    runs: Sequence[RunScores],
    names_of: Callable[[RunScores], list[str]],
    what: str,
    *,
    is_common_enough: bool,
) -> list[str]:
    """What all runs have, in the order of the first."""
    sets = [set(names_of(run)) for run in runs]
    everywhere = set.intersection(*sets)
    if not everywhere:
        raise DataError(
            f"these runs share no {what}",
            where="; ".join(f"{run.label}: {some_of(names_of(run), MAX_NAMES)}" for run in runs),
            fix="compare runs that were scored on the same data set",
        )
    if not is_common_enough and any(names != everywhere for names in sets):
        n = len(everywhere)
        raise DataError(
            f"these runs were not scored on the same {what}",
            where="; ".join(
                f"{run.label}: {len(names)} {what}, {len(names - everywhere)} of them not in every "
                f"run"
                + (
                    f" ({some_of(sorted(names - everywhere), MAX_NAMES)})"
                    if names - everywhere
                    else ""
                )
                for run, names in zip(runs, sets, strict=True)
            ),
            fix=f"score all runs on the same data, or add --common to compare on the {n} {what} "
            "that all of them have (a case that a run could not be scored on is then not held "
            "against it)",
        )
    return [name for name in names_of(runs[0]) if name in everywhere]


def _case_ids(run: RunScores) -> list[str]:
    return [case.case_id for case in run.cases]


def _class_names(run: RunScores) -> list[str]:
    """Classes with a row, first seen first."""
    return list(dict.fromkeys(c.class_name for case in run.cases for c in case.classes))


def _aligned(run: RunScores, case_ids: Sequence[str]) -> RunScores:
    by_id = {case.case_id: case for case in run.cases}
    return RunScores(run.label, run.table, tuple(by_id[case_id] for case_id in case_ids))


def _refuse_other_references(
    first: RunScores, other: RunScores, class_names: Sequence[str]
) -> None:
    differing = [
        f"{a.case_id}, {name}: {_size_text(a, name)} and {_size_text(b, name)}"
        for a, b in zip(first.cases, other.cases, strict=True)
        for name in class_names
        if not _is_same_size(_reference_size(a, name), _reference_size(b, name))
    ]
    if differing:
        raise DataError(
            f"{first.label} and {other.label} were not scored against the same references: "
            f"{len(differing)} structures differ in size",
            where="; ".join(differing[:3]) + ("; ..." if len(differing) > 3 else ""),
            fix="score both against the same label files",
        )


def _reference_size(case: CaseScores, name: str) -> tuple[int, float]:
    """Size of a structure in voxels and ml; -1 where it was taken for not annotated."""
    if name in case.not_annotated:
        return (-1, -1.0)
    # A case that was not predicted has rows for the classes of its reference only.
    scores = case.of_class(name)
    return (0, 0.0) if scores is None else (scores.n_reference, scores.reference_ml)


def _is_same_size(first: tuple[int, float], second: tuple[int, float]) -> bool:
    return first[0] == second[0] and math.isclose(first[1], second[1], rel_tol=SAME_VOLUME)


def _size_text(case: CaseScores, name: str) -> str:
    n_voxels, volume_ml = _reference_size(case, name)
    if n_voxels < 0:
        return "not annotated"
    return f"{n_voxels} voxels ({volume_ml:.4g} ml)"
