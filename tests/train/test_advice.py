"""A training says of every piece of advice whether it follows it."""

from dataclasses import replace

import pytest
from audit_builders import USUAL_FACTS as USUAL
from models_builders import model_info
from workfolders import audited, quick

from pipeline.artifacts import Advice, AdviceItem
from pipeline.audit.advice import advise, render_yaml
from pipeline.audit.config import AuditConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace, write_json
from pipeline.experiment import load_experiment
from pipeline.train.advice import answer_advice, read_advice
from pipeline.train.config import TrainConfig
from pipeline.train.select import select_training
from pipeline.train.stage import train

PLAN = model_info().plan


def answer(settings, config, plan=PLAN) -> str:
    item = AdviceItem(check_id="T01", headline="do this", reason="because", settings=settings)
    (line,) = answer_advice(Advice(items=(item,)), config, plan)
    return line


def test_followed_overridden_and_not_taken_are_told_apart():
    focal = {"train.loss.kind": "dice_focal"}
    assert answer(focal, TrainConfig()).startswith("T01 not taken: train.loss.kind is dice_ce")
    assert "--config" in answer(focal, TrainConfig())
    chosen = TrainConfig.model_validate({"loss": {"kind": "tversky"}})
    assert answer(focal, chosen).startswith("T01 overridden by the configuration")
    taken = TrainConfig.model_validate({"loss": {"kind": "dice_focal"}})
    assert answer(focal, taken) == "T01 followed: do this"
    # A neighboring key that was set does not make this one chosen.
    near = TrainConfig.model_validate({"loss": {"dice_weight": 2.0}})
    assert "not taken" in answer(focal, near)


def test_what_a_plan_decides_is_compared_with_the_plan():
    no_mirroring = {"train.mirror_axes": []}
    assert answer(no_mirroring, TrainConfig()) == "T01 followed: do this"
    mirrored = PLAN.model_copy(update={"mirror_axes": (0,)})
    config = TrainConfig(mirror_axes=(0,))
    assert "overridden" in answer(no_mirroring, config, mirrored)
    assert "[0]" in answer(no_mirroring, config, mirrored)


def test_weights_are_compared_as_a_whole():
    weights = {"train.loss.class_weights": {"a": 2.0, "b": 0.5}}
    config = TrainConfig.model_validate({"loss": {"class_weights": {"b": 0.5, "a": 2.0}}})
    assert answer(weights, config) == "T01 followed: do this"
    assert "{a: 2, b: 0.5}" in answer(weights, TrainConfig())


KINDS = {
    "usual": {},
    "weights": {"shares": (0.06, 0.002)},
    "tiny": {"shares": (0.02, 5e-5)},
    "sides": {"names": ("left_kidney", "right_kidney")},
    "small": {"class_voxels": (800.0, 9.0)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_takes_each_kind_of_advice_as_it_is(tmp_path, phantoms, kind):
    # What is advised on such a dataset is trained on phantoms, which have these classes.
    changes = {"names": ("liver", "kidney"), "fine_spacing_mm": (1.5, 1.5, 2.0), **KINDS[kind]}
    workspace = Workspace(tmp_path / "work")
    (workspace.root / "audit").mkdir(parents=True)
    (workspace.root / "ingest").symlink_to(phantoms.root / "ingest")
    for artifact in phantoms.stage_dir("audit").glob("*.json"):
        (workspace.root / "audit" / artifact.name).symlink_to(artifact)
    (workspace.root / "audit" / "advice.json").unlink()
    advice = advise(replace(USUAL, **changes), AuditConfig())
    file = tmp_path / "advice.yaml"
    file.write_text(render_yaml(advice))
    short = quick(steps=5, n_validations=1, n_validation_cases=1).model_dump(exclude_unset=True)
    given = load_experiment(file).train.model_dump(exclude_unset=True)
    config = TrainConfig.model_validate({**short, **given}, strict=False)
    write_json(workspace.stage_dir("audit") / "advice.json", advice)
    training = select_training(config, workspace)
    answers = [r for r in training.plan.reasons if r.startswith("T0")]
    assert answers
    assert all("followed" in answer for answer in answers)
    assert train(training, workspace, NullTracker()).card.n_steps == 5


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("advised"), n_cases=3)


def test_items_without_settings_and_missing_advice_say_nothing(tmp_path):
    item = AdviceItem(check_id="T06", headline="as planned", reason="because")
    assert answer_advice(Advice(items=(item,)), TrainConfig(), PLAN) == ()
    assert read_advice(tmp_path / "advice.json").items == ()


def test_the_plan_of_a_training_tells_it_and_the_run_key_does_not_depend_on_it(tmp_path):
    workspace = audited(tmp_path, n_cases=4)
    first = select_training(quick(), workspace)
    assert "T01 followed: Dice with cross-entropy, over the whole batch" in first.plan.reasons
    (workspace.stage_dir("audit") / "advice.json").unlink()
    without = select_training(quick(), workspace)
    assert not any(reason.startswith("T0") for reason in without.plan.reasons)
    assert without.run_key == first.run_key
