"""Evaluations with chosen scores, for tests of their report."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from compare_builders import Value
from compare_builders import cases_of as cases_of

from pipeline.artifacts import FailedCase, Summary
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases, sort_by_class
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.overlap import Score
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores


def evaluation_of(
    cases: tuple[CaseScores, ...],
    *,
    patients: Mapping[str, str] | None = None,
    failed: tuple[str, ...] = (),
    **settings: object,
) -> Evaluation:
    """An evaluation of these cases; classes are those of the first, less the regions."""
    config = EvaluateConfig.model_validate({"n_bootstrap": 200, **settings})
    names = tuple(c.class_name for c in cases[0].classes if c.class_name not in config.regions)

    def averages(of: tuple[str, ...]) -> Summary:
        return summarize(
            cases, of, policy=config.policy, n_bootstrap=config.n_bootstrap, groups=patients
        )

    # As the stage does: regions have rows of their own, the foreground mean is that of the classes.
    summary = averages(names)
    both = {**summary.classes, **averages(tuple(config.regions)).classes}
    gone = tuple(FailedCase(case_id=c, message="it is gone", fix="bring it back") for c in failed)
    return Evaluation(
        dataset_name="held out",
        class_names=names,
        config=config,
        cases=cases,
        summary=summary.model_copy(update={"classes": both, "failed_cases": gone}),
        n_patients=len(set(patients.values())) if patients else None,
    )


def spread(n: int, start: float = 0.6) -> list[Value]:
    """Different Dice values, from `start` upwards."""
    return [float(x) for x in np.linspace(start, start + 0.3, n)]


def classes_of(evaluation: Evaluation) -> dict[str, ClassCases]:
    """The cases of an evaluation, sorted as its report does."""
    return sort_by_class(evaluation.cases, tuple(evaluation.summary.classes))


def with_surfaces(case: CaseScores, *, tolerance_mm: float = 2.0, n: int = 500) -> CaseScores:
    """The case with surfaces of every class: HD95 3 mm where both maps have it."""
    found = []
    for overlap in case.classes:
        is_both = overlap.status == "ok"
        distance = Score(3.0 if is_both else None, overlap.status)
        nsd = {"ok": 0.9, "absent": None}.get(overlap.status, 0.0)
        found.append(
            SurfaceScores(
                class_name=overlap.class_name,
                hd95_mm=distance,
                assd_mm=distance,
                nsd=Score(nsd, overlap.status),
                tolerance_mm=tolerance_mm,
                n_reference_elements=n,
                n_prediction_elements=n,
                diagonal_mm=100.0,
            )
        )
    return replace(case, surfaces=tuple(found))


def with_lesions(case: CaseScores, name: str, *, n: int, n_found: int, n_false: int) -> CaseScores:
    """The case with so many lesions of a class."""
    lesions = LesionScores(name, n, n_found + n_false, n_found, n_false, 1, 0.8 * n_found, 0.0)
    return replace(case, lesions=(*case.lesions, lesions))
