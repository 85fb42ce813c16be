"""The guard tells collapse and spikes, once, with the cause that the audit knew."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.artifacts import Finding, Findings, read_artifact
from pipeline.train.guard import (
    WINDOW,
    ClassShares,
    GuardState,
    explain,
    watch_round,
    watch_step,
    write_guard,
)

HEALTHY = ClassShares(0.02, 0.025)
BLANK = ClassShares(0.0, 0.025)
FILLED = ClassShares(0.97, 0.025)


def suspect(check_id, class_name=None, severity="warning", case_id=None) -> Finding:
    return Finding(
        check_id=check_id,
        severity=severity,
        class_name=class_name,
        case_id=case_id,
        message=f"what {check_id} says",
        fix="mend it",
    )


def rounds(*shares, suspects=()) -> list[Finding]:
    state, found = GuardState(), []
    for n, share in enumerate(shares, start=1):
        found += watch_round(state, {"tumor": share}, n / len(shares), suspects)
    return found


def test_a_healthy_training_is_left_alone():
    assert rounds(*[HEALTHY] * 10) == []


@pytest.mark.parametrize(("share", "symptom"), [(BLANK, "blank"), (FILLED, "filled")])
def test_a_collapsed_class_is_named_once(share, symptom):
    found = rounds(HEALTHY, HEALTHY, *[share] * 6)
    assert [f.evidence["symptom"] for f in found] == [symptom]
    assert found[0].check_id == "P06"
    assert found[0].class_name == "tumor"


def test_one_bad_round_and_an_early_blank_answer_are_normal():
    assert rounds(HEALTHY, BLANK, HEALTHY, BLANK, HEALTHY) == []
    # Twenty rounds: the first three lie in the first fifth.
    assert rounds(*[BLANK] * 3, *[HEALTHY] * 17) == []


def test_a_class_that_is_nowhere_or_everywhere_in_truth_may_be_predicted_so():
    assert rounds(*[ClassShares(0.0, 0.0)] * 5) == []
    assert rounds(*[ClassShares(0.95, 0.96)] * 5) == []


def run_steps(losses, norms) -> list[Finding]:
    state = GuardState()
    for n, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        watch_step(state, float(loss), float(norm), (f"case_{n:03d}",))
    return watch_round(state, {}, 0.5, ())


def test_gradients_that_blow_up_again_and_again_are_told_with_their_cases():
    rng = np.random.default_rng(0)
    losses, norms = 1 + 0.2 * rng.random(200), rng.lognormal(0, 0.5, 200)
    assert run_steps(losses, norms) == []
    norms[[100, 120]] = 40.0
    assert run_steps(losses, norms) == []
    norms[150] = 40.0
    (found,) = run_steps(losses, norms)
    assert found.evidence["symptom"] == "gradient_spikes"
    assert "case_150" in found.message


def test_a_loss_that_jumps_above_the_untrained_one_is_told():
    losses = np.linspace(2.0, 0.2, 200)
    # A hard patch late in training costs many times the usual, but no more than at the start.
    losses[[150, 160, 170, 180]] = 1.2
    assert run_steps(losses, np.ones(200)) == []
    losses[[150, 160, 170]] = 9.0
    (found,) = run_steps(losses, np.ones(200))
    assert found.evidence["symptom"] == "loss_spikes"


def test_nothing_is_judged_before_the_window_is_full_and_overflow_is_skipped():
    norms = np.ones(WINDOW)
    norms[5:12] = 1000.0
    assert run_steps(np.ones(WINDOW), norms) == []
    assert run_steps(np.full(100, np.nan), np.full(100, np.inf)) == []


def test_the_likely_cause_is_what_the_audit_found_about_this_class():
    suspects = (
        suspect("S02", "tumor"),
        suspect("S02", "liver"),
        suspect("G13", case_id="case_007"),
        suspect("F13"),
        suspect("E01", severity="info"),
        suspect("E03", severity="error", case_id="case_003"),
    )
    (found,) = rounds(*[BLANK] * 5, suspects=suspects)
    assert found.evidence["causes"] == "E03,G13,S02"
    assert "likely cause: E03 in case_003: what E03 says" in found.fix
    assert "liver" not in found.fix


def test_without_a_suspect_general_advice_is_given():
    (found,) = rounds(*[BLANK] * 5)
    assert found.fix.startswith("the audit knows no cause")
    spikes = Finding.model_validate(
        {**found.model_dump(), "class_name": None, "evidence": {"symptom": "loss_spikes"}}
    )
    assert explain(spikes, [suspect("P05", "liver")]).evidence["causes"] == "P05"


def test_the_memory_survives_a_checkpoint_and_says_nothing_twice():
    one = GuardState()
    for n in range(60):
        watch_step(one, 1.0, 100.0 if n > 56 else 1.0, ("a", "b"))
    assert len(watch_round(one, {"tumor": BLANK}, 0.4, ())) == 1
    two = GuardState(**json.loads(json.dumps(asdict(one))))
    assert two == one
    found = watch_round(two, {"tumor": BLANK}, 0.5, ())
    assert [f.evidence["symptom"] for f in found] == ["blank"]


def test_what_was_said_is_written_as_findings(tmp_path):
    state = GuardState()
    for progress in (0.3, 0.4):
        watch_round(state, {"tumor": BLANK}, progress, ())
    write_guard(tmp_path / "guard.json", state, 4)
    written = read_artifact(tmp_path / "guard.json", Findings, made_by="train")
    assert written.verdict == "warnings"
    assert written.findings[0].class_name == "tumor"
