"""The guard tells collapse and spikes, once, with the cause that the audit knew."""

import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from workfolders import audited, quick

from pipeline.artifacts import Finding, Findings, read_artifact
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.train.guard import (
    MIN_PATCHES,
    WINDOW,
    ClassShares,
    GuardState,
    explain,
    in_few_words,
    name_causes,
    watch_patches,
    watch_round,
    watch_step,
    write_guard,
)
from pipeline.train.select import select_training
from pipeline.train.stage import train

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


def test_a_class_of_few_voxels_may_be_found_late():
    missed = ClassShares(0.0, 0.0002)
    found = ClassShares(0.0002, 0.0002)
    assert rounds(*[missed] * 9, *[found] * 11) == []
    (finding,) = rounds(*[missed] * 20)
    assert "in 10 validations in a row" in finding.message


def test_a_class_that_takes_most_of_the_images_may_be_predicted_a_little_larger():
    assert rounds(*[ClassShares(0.92, 0.85)] * 5) == []
    (finding,) = rounds(*[ClassShares(0.99, 0.85)] * 5)
    assert finding.evidence["symptom"] == "filled"


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


def test_classes_that_fill_the_images_together_are_told_once():
    state, found = GuardState(), []
    for progress in (0.3, 0.4, 0.5, 0.6):
        shares = {"a": ClassShares(0.81, 0.01), "b": ClassShares(0.19, 0.01)}
        found += watch_round(state, shares, progress, ())
    (finding,) = found
    assert (finding.evidence["symptom"], finding.class_name) == ("filled", None)
    assert "foreground fills 100%" in finding.message


def rounds_of_patches(n_patches, n_patches_of, *, n_cases=10, suspects=()) -> list[Finding]:
    state, found = GuardState(), []
    for progress in (0.1, 0.4, 0.7, 1.0):
        watch_patches(state, n_patches, n_patches_of)
        names = ("liver", "tumor")
        found += watch_round(state, {}, progress, suspects, class_names=names, n_cases=n_cases)
    return found


def test_a_class_in_no_patch_is_told_once_with_its_cause():
    suspects = (suspect("P03", "tumor"), suspect("P03", "liver"))
    (finding,) = rounds_of_patches(MIN_PATCHES, (30, 0), suspects=suspects)
    assert (finding.evidence["symptom"], finding.class_name) == ("never_sampled", "tumor")
    assert f"in none of the {2 * MIN_PATCHES} patches so far" in finding.message
    assert finding.evidence["causes"] == "P03"
    (finding,) = rounds_of_patches(MIN_PATCHES, (30, 0))
    assert "train.foreground_fraction" in finding.fix


def test_a_class_in_a_single_patch_or_among_few_patches_is_not_told():
    assert rounds_of_patches(MIN_PATCHES, (30, 1)) == []
    assert rounds_of_patches(MIN_PATCHES // 5, (30, 0)) == []
    # Most of the cases have given one patch only.
    assert rounds_of_patches(MIN_PATCHES, (30, 0), n_cases=3 * MIN_PATCHES) == []


def test_the_count_of_patches_goes_on_after_a_checkpoint():
    one = GuardState()
    watch_patches(one, 2, (1, 0))
    two = GuardState(**json.loads(json.dumps(asdict(one))))
    watch_patches(two, 2, (2, 1))
    assert (two.n_patches, two.n_patches_of) == (4, [3, 1])
    # A checkpoint of an earlier version does not know of them.
    older = {name: value for name, value in asdict(one).items() if not name.startswith("n_patches")}
    assert GuardState(**older).n_patches == 0


# False positives cost nothing, and nothing else teaches what background is.
MISSES_ONLY = {"tversky_alpha": 0.0, "tversky_beta": 1.0, "include_background": False}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("guard"), n_cases=4)


@pytest.mark.parametrize(
    ("loss", "rate", "symptom"),
    [
        ({"kind": "ce"}, 30.0, "blank"),
        ({"kind": "tversky", **MISSES_ONLY}, 0.1, "filled"),
    ],
    ids=["blank", "filled"],
)
def test_a_training_that_really_collapses_is_told(workspace, loss, rate, symptom):
    config = quick(
        steps=8,
        n_validations=4,
        n_validation_cases=1,
        ema_decay=0.0,
        loss=loss,
        optimizer={"learning_rate": rate, "warmup_fraction": 0.0},
    )
    train(select_training(config, workspace), workspace, NullTracker())
    file = workspace.fold_dir("0") / "guard.json"
    found = read_artifact(file, Findings, made_by="train").findings
    assert symptom in {f.evidence["symptom"] for f in found}
    assert all(f.check_id == "P06" for f in found)


def draw_cyst(data: Path) -> None:
    """Into one case only, which some fold then keeps for validation."""
    file = data / "labelsTr" / "case_000.nii.gz"
    label = nib.load(file)
    values = np.asarray(label.dataobj).copy()
    values[2:7, 2:7, 2:7] = 3
    nib.save(nib.Nifti1Image(values, label.affine, label.header), file)


def test_a_training_that_never_meets_a_class_is_told(tmp_path):
    task = {"classes": {"liver": 1, "tumor": 2, "cyst": 3}}
    workspace = audited(tmp_path, n_cases=4, task=task, change=draw_cyst)
    folds = json.loads((workspace.root / "audit" / "splits.json").read_text())["folds"]
    fold = str(next(n for n, one in enumerate(folds) if "case_000" in one["validation"]))
    config = quick(fold=fold, steps=MIN_PATCHES // 2 + 2, n_validation_cases=1)
    train(select_training(config, workspace), workspace, NullTracker())
    file = workspace.fold_dir(fold) / "guard.json"
    found = read_artifact(file, Findings, made_by="train").findings
    told = [f.class_name for f in found if f.evidence["symptom"] == "never_sampled"]
    assert told == ["cyst"]
    # What the preflight knew about it stands beside it.
    assert "P03" in next(f.fix for f in found if f.class_name == "cyst")


def test_a_few_stray_voxels_do_not_make_a_class_found():
    stray = ClassShares(1e-6, 0.025)
    (found,) = rounds(HEALTHY, *[stray] * 4)
    assert "almost nowhere" in found.message
    assert rounds(HEALTHY, *[ClassShares(0.001, 0.025)] * 4) == []


def test_many_collapsed_classes_are_one_line_in_the_log():
    state, shares = GuardState(), {f"organ {n}": BLANK for n in range(40)}
    watch_round(state, shares, 0.3, ())
    found = watch_round(state, shares, 0.4, ())
    assert len(found) == 40
    ((symptom, message, fix),) = in_few_words(found)
    assert symptom == "blank"
    assert "organ 0" in message
    assert "36 more" in message
    assert fix == found[0].fix


def test_a_loss_that_is_not_finite_points_at_what_the_audit_knew():
    fix, causes = name_causes("not_finite", [suspect("F09", case_id="case_004"), suspect("G08")])
    assert causes == ("F09",)
    assert "case_004" in fix
    assert "learning_rate" in name_causes("not_finite", [])[0]


def test_what_was_said_is_written_as_findings(tmp_path):
    state = GuardState()
    for progress in (0.3, 0.4):
        watch_round(state, {"tumor": BLANK}, progress, ())
    write_guard(tmp_path / "guard.json", state, 4)
    written = read_artifact(tmp_path / "guard.json", Findings, made_by="train")
    assert written.verdict == "warnings"
    assert written.findings[0].class_name == "tumor"
