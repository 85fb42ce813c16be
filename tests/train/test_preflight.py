"""Each check fires on its fault and not on the harmless twin; the whole stops a bad training."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from models_builders import model_info
from phantoms import ball
from workfolders import audited, quick

from pipeline.artifacts import CaseFingerprint, Finding, Findings, read_artifact
from pipeline.core.errors import DataError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state
from pipeline.runner.commands import run_train
from pipeline.runner.request import make_request
from pipeline.train import preflight
from pipeline.train.patches import PatchFacts
from pipeline.train.prepare import PreparedCase
from pipeline.train.select import select_training
from pipeline.train.stage import check_only, train

NAMES = ("liver", "tumor")


def case(case_id="a", classes=(1, 2), scale=1.0) -> PreparedCase:
    label = np.zeros((12, 12, 12), np.uint8)
    for index in classes:
        label[ball(label.shape, (4 * index, 5, 5), 2)] = index
    rng = np.random.default_rng(0)
    return PreparedCase(
        case_id=case_id,
        image=(scale * rng.normal(size=(1, 12, 12, 12))).astype(np.float16),
        label=label,
        coordinates=tuple(np.argwhere(label == n).astype(np.int32) for n in (1, 2)),
        spacing_mm=(1.0, 1.0, 1.0),
    )


def patch(values=(0, 1, 2), case_id="a", **changes) -> PatchFacts:
    known = PatchFacts(
        case_id, tuple(values), is_integral=True, is_finite=True, means=(0.0,), stds=(1.0,)
    )
    return replace(known, **changes)


def fingerprint(counts, case_id="a") -> CaseFingerprint:
    return CaseFingerprint(
        case_id=case_id,
        shape=(12, 12, 12),
        spacing_mm=(1.0, 1.0, 1.0),
        foreground=(),
        nonzero_fraction=1.0,
        n_class_voxels=counts,
    )


def only(findings) -> Finding:
    (finding,) = findings
    return finding


def test_p01_labels_that_were_interpolated_or_rescaled_are_caught():
    cases = [case(), case("b", classes=(2,))]
    assert preflight.check_values([patch(), patch((0, 2), "b")], cases, NAMES) == []
    between = preflight.check_values([patch(is_integral=False)], cases, NAMES)
    assert "between integers" in only(between).message
    assert preflight.check_values([patch((0, 1, 255))], cases, NAMES, ignore_index=255) == []
    undeclared = preflight.check_values([patch((0, 255))], cases, NAMES)
    assert "0, 255" in only(undeclared).message
    # Linear interpolation between 0 and 2 makes 1, which this case does not have.
    made_up = only(preflight.check_values([patch((0, 1, 2), "b")], cases, NAMES))
    assert (made_up.severity, made_up.case_id) == ("error", "b")
    assert "liver" in made_up.message


def test_p01_a_class_that_resampling_lost_is_told_and_an_absent_one_is_not():
    kept, lost = case("a"), case("b", classes=(1,))
    rows = [fingerprint((30, 30)), fingerprint((30, 0), "b")]
    assert preflight.check_prepared([kept, lost], rows, NAMES) == []
    rows = [fingerprint((30, 30)), fingerprint((30, 1), "b")]
    finding = only(preflight.check_prepared([kept, lost], rows, NAMES))
    assert (finding.severity, finding.class_name, finding.case_id) == ("warning", "tumor", "b")
    everywhere = only(preflight.check_prepared([lost], rows[1:], NAMES))
    assert everywhere.severity == "error"


def test_p01_a_class_that_grew_is_an_error_one_that_resampling_thinned_a_warning():
    kept = case("a")
    n = int((kept.label == 1).sum())
    row = fingerprint((n, n)).model_copy(update={"spacing_mm": (0.1, 1.0, 1.0)})
    for counts, severity in (
        ((10 * n, 10 * n), None),
        # Swapped with a class three times its size.
        ((10 * n, 3 * n), "error"),
        ((10 * n, 30 * n), "warning"),
    ):
        rows = [row.model_copy(update={"n_class_voxels": counts})]
        found = preflight.check_volumes([kept], rows, NAMES)
        # Balls of 33 voxels are too small to be judged.
        assert found == []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(preflight, "MIN_COMPARED_VOXELS", 5)
            found = preflight.check_volumes([kept], rows, NAMES)
        assert [f.severity for f in found] == ([severity] if severity else [])


def test_of_many_warnings_the_log_shows_a_few(caplog):
    many = tuple(preflight._presence_finding(f"class {n}", "is rare", "do", 0.0) for n in range(60))
    with caplog.at_level(logging.INFO, logger="pipeline"):
        preflight.refuse_preflight_errors(Findings(verdict="warnings", n_cases=1, findings=many))
    assert caplog.text.count("P03") == 4
    assert "57 more" in caplog.text


def test_p02_shapes_that_would_broadcast_are_refused():
    plan = model_info().plan
    image, label, logits = (2, 1, 16, 16, 16), (2, 16, 16, 16), (1, 3, 16, 16, 16)
    assert preflight.check_shapes(image, label, logits, plan) == []
    for wrong in (
        (image, (2, 1, 16, 16), logits),
        (image, (2, 16, 16, 1), logits),
        (image, label, (1, 2, 16, 16, 16)),
        ((2, 2, 16, 16, 16), label, logits),
    ):
        finding = only(preflight.check_shapes(*wrong, plan))
        assert (finding.check_id, finding.severity) == ("P02", "error")


def test_p03_a_class_that_patches_miss_is_named_with_what_helps():
    cases = [case()]
    some = [patch((0, 1))] * 28 + [patch((0, 1, 2))] * 4
    assert preflight.check_presence(some, cases, NAMES, None) == []
    few = [patch((0, 1))] * 31 + [patch((0, 1, 2))]
    finding = only(preflight.check_presence(few, cases, NAMES, None))
    assert (finding.class_name, finding.severity) == ("tumor", "warning")
    assert "1 of 32" in finding.message
    assert "in 1 of the 1 training cases" in finding.message
    assert "foreground_fraction" in finding.fix


def test_p03_a_class_in_few_or_no_training_cases_is_told_with_their_number():
    """The audit sees all cases; a class may well be in those of the other folds alone."""
    seen = [patch((0, 1))] * 32
    without = [case(name, classes=(1,)) for name in "abcdefgh"]
    finding = only(preflight.check_presence(seen, without, NAMES, None))
    assert (finding.class_name, finding.severity) == ("tumor", "warning")
    assert "in none of the 8 training cases" in finding.message
    assert "fold" in finding.fix
    finding = only(preflight.check_presence(seen, [*without, case("z")], NAMES, None))
    assert "in 1 of the 9 training cases" in finding.message
    # More patches on foreground would not show more of that one case.
    assert "add cases" in finding.fix


def test_p03_training_cases_that_show_nothing_at_all_are_an_error():
    empty = [case(name, classes=()) for name in "ab"]
    finding = only(preflight.check_presence([patch((0,))] * 32, empty, NAMES, None))
    assert (finding.severity, finding.class_name) == ("error", None)
    assert "none of the 2 training cases shows any class" in finding.message


def test_p03_few_sights_in_a_short_training_are_told_as_such():
    patches = [patch()] * 32
    short = preflight.check_presence(patches, [case()], NAMES, 20)
    assert {f.class_name for f in short} == set(NAMES)
    assert "only about 20 times" in short[0].message
    assert preflight.check_presence(patches, [case()], NAMES, 100) == []


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("preflight"))


def test_a_sound_training_passes_and_its_weights_do_not_change(workspace, monkeypatch):
    config = quick(steps=2, n_validations=1)
    folder = workspace.fold_dir("0")
    train(select_training(config, workspace), workspace, NullTracker())
    found = read_artifact(folder / "preflight.json", Findings, made_by="train")
    assert {f.check_id for f in found.findings} == {"P03"}
    assert found.n_cases >= 4
    guarded = read_artifact(folder / "guard.json", Findings, made_by="train")
    assert guarded.verdict == "clean"
    with_preflight = load_state(folder / "last.pt", torch.device("cpu"))["learner"]["network"]
    folder.rename(folder.with_name("aside"))
    clean = Findings(verdict="clean", n_cases=0, findings=())
    monkeypatch.setattr("pipeline.train.stage.run_preflight", lambda *_: clean)
    train(select_training(config, workspace), workspace, NullTracker())
    without = load_state(folder / "last.pt", torch.device("cpu"))["learner"]["network"]
    assert all(torch.equal(with_preflight[name], weight) for name, weight in without.items())


def test_an_error_stops_before_the_first_step_and_a_waiver_lets_it_pass(
    workspace, monkeypatch, caplog
):
    # One voxel of NaN in a prepared image, as a bug in normalization would leave it.
    from pipeline.train.data import BatchSource

    drawn = BatchSource.batch

    def poisoned(self, step):
        batch = drawn(self, step)
        batch.image[0, 0, 0, 0, 0] = float("nan")
        return batch

    monkeypatch.setattr(BatchSource, "batch", poisoned)
    training = select_training(quick(seed=5), workspace)
    with pytest.raises(DataError, match=r"preflight found 1 error") as raised:
        train(training, workspace, NullTracker())
    assert "P05" in raised.value.where
    assert "audit.waivers" in raised.value.fix
    assert not (workspace.fold_dir("0") / "last.pt").exists()

    def waive(findings):
        return tuple(f.model_copy(update={"waived": "known"}) for f in findings)

    findings = check_only(training, workspace, waive)
    assert findings.verdict == "clean"
    with caplog.at_level(logging.INFO, logger="pipeline"):
        preflight.refuse_preflight_errors(findings)
    assert "P05 is waived: known" in caplog.text


def test_preflight_only_reports_and_trains_nothing(workspace, capsys):
    settings = ("train.steps=4", "train.patch_size=[16,16,16]", "train.device=cpu", "train.seed=7")
    overrides = [*settings, "tracking.enabled=false", "audit.max_pictures=0"]
    request = make_request(None, workspace.root, None, overrides)
    assert run_train(request, preflight_only=True) == 1
    assert "P03" in capsys.readouterr().out
    written = json.loads((workspace.root / "train" / "preflight.json").read_text())
    assert written["verdict"] == "warnings"
    waiver = 'audit.waivers=[{check_id: P03, reason: "a test"}]'
    waived = make_request(None, workspace.root, None, [*overrides, waiver])
    assert run_train(waived, preflight_only=True) == 0
    assert select_training(waived.experiment.train, workspace).status == "new"
