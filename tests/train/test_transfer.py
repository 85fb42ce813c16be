"""Trainings that begin with another model."""

import logging
from pathlib import Path

import pytest
import torch
from workfolders import audited, quick

from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_model
from pipeline.train.learner import Learner
from pipeline.train.select import Training, select_training
from pipeline.train.stage import train
from pipeline.train.transfer import begin_with_model, warm_start_digest, warm_start_param


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("first"), 3)


@pytest.fixture(scope="module")
def model_file(pristine) -> Path:
    result = train(select_training(quick(), pristine), pristine, NullTracker())
    return result.model_file.rename(pristine.root / "model.pt")


def learner_of(training: Training) -> Learner:
    return Learner(training.plan, training.info.task, training.config, torch.device("cpu"))


def begin(training: Training) -> Learner:
    learner = learner_of(training)
    begin_with_model(learner, training.config, training.info, training.validation_records)
    return learner


def test_network_and_average_begin_with_the_model(pristine, model_file, caplog):
    training = select_training(quick(seed=5, warm_start=model_file), pristine)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        learner = begin(training)
    expected = load_model(model_file, torch.device("cpu")).network.state_dict()
    for network in (learner.network, learner.averaged):
        assert all(torch.equal(t, expected[name]) for name, t in network.state_dict().items())
    assert "outputs taken over: background, liver, kidney" in caplog.text
    # The same fold: none of its validation cases was trained on.
    assert "too high" not in caplog.text


def test_a_model_that_has_seen_the_validation_cases_is_pointed_out(pristine, model_file, caplog):
    training = select_training(quick(fold="1", warm_start=model_file), pristine)
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        begin(training)
    assert "trained on 1 validation case(s) of this fold" in caplog.text


def test_the_key_knows_the_content_not_the_path(pristine, model_file, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(model_file.read_bytes())
    one, two = (
        select_training(quick(warm_start=file), pristine).run_key for file in (model_file, copy)
    )
    without = select_training(quick(), pristine).run_key
    assert one == two != without
    copy.write_bytes(model_file.read_bytes() + b"x")
    assert select_training(quick(warm_start=copy), pristine).run_key not in (one, without)
    assert warm_start_param(quick(warm_start=model_file))["warm_start"] == warm_start_digest(
        quick(warm_start=model_file), pristine
    )
    assert warm_start_param(quick()) == {}


def test_a_training_with_other_classes_and_channels_begins_warm_and_ends(
    model_file, tmp_path, caplog
):
    other = audited(tmp_path, 3, n_classes=3)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        result = train(select_training(quick(warm_start=model_file), other), other, NullTracker())
    assert result.card.n_steps == 6
    assert "in part 2 tensors" in caplog.text
    assert "outputs taken over: background, liver, kidney;" in caplog.text


def test_another_network_is_refused(pristine, model_file):
    config = quick(
        warm_start=model_file, network={"kind": "unet", "base_features": 4, "max_features": 8}
    )
    with pytest.raises(ConfigError, match="kind dynunet there, unet here"):
        begin(select_training(config, pristine))


def test_files_that_are_missing_no_model_or_about_to_be_overwritten_are_refused(pristine, tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the model"):
        select_training(quick(warm_start=tmp_path / "none.pt"), pristine)
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        begin(select_training(quick(warm_start=tmp_path / "text.pt"), pristine))
    own = pristine.fold_dir("0") / "best.pt"
    with pytest.raises(ConfigError, match="writes its own"):
        select_training(quick(warm_start=own), pristine)
