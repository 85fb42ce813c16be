from pipeline.artifacts import FailedCase
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores


def test_unscored_cases_are_those_that_failed_without_scores():
    cases = tuple(CaseScores(c, (OverlapScores("a", 1, 0, 0, 1.0),)) for c in ("one", "two"))
    failed = tuple(FailedCase(case_id=c, message="", fix="") for c in ("two", "three"))
    summary = summarize(cases, ("a",), n_bootstrap=0).model_copy(update={"failed_cases": failed})
    evaluation = Evaluation("set", ("a",), EvaluateConfig(policy="kits"), cases, summary)
    assert (evaluation.n_references, evaluation.n_unscored) == (3, 1)
    assert evaluation.policy.name == "kits"
