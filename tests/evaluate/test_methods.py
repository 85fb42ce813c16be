from pipeline.artifacts import FailedCase
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.methods import methods_text
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores

CASES = tuple(CaseScores(c, (OverlapScores("liver", 5, 1, 1, 0.001),)) for c in ("one", "two"))


def text_of(*failed_ids, n_bootstrap=100):
    failed = tuple(FailedCase(case_id=c, message="", fix="") for c in failed_ids)
    summary = summarize(CASES, ("liver",), n_bootstrap=0)
    summary = summary.model_copy(update={"failed_cases": failed})
    config = EvaluateConfig(policy="kits", n_bootstrap=n_bootstrap)
    return methods_text(Evaluation("held out", ("liver",), config, CASES, summary))


def test_what_was_done_is_said():
    text = text_of()
    for part in ("liver", "2 cases of held out", "'kits'", "100 resamples", "voxline"):
        assert part in text
    assert text.endswith("\n")


def test_what_is_left_out_is_counted_and_only_then():
    text = text_of("one", "three", "four")
    assert "labels of 4 cases" in text
    assert "Without a prediction were 1" in text
    assert "in no average, were 2" in text
    assert "Without a prediction" not in text_of()
    assert "in no average" not in text_of()


def test_no_interval_is_claimed_without_resampling():
    assert "confidence" not in text_of(n_bootstrap=0)
