"""Changed keys without effect are named; keys that are read, or say the usual, are not."""

import logging

import pytest
from workfolders import audited, quick

from pipeline.core.tracker import NullTracker
from pipeline.train.config import TrainConfig
from pipeline.train.idle import idle_keys
from pipeline.train.select import select_training
from pipeline.train.stage import train


@pytest.mark.parametrize(
    ("section", "idle"),
    [
        ({"loss": {"kind": "dice", "ce_weight": 0.5}}, "ce_weight"),
        ({"loss": {"kind": "ce", "dice_weight": 0.5}}, "dice_weight"),
        ({"loss": {"kind": "ce", "batch_dice": False}}, "batch_dice"),
        ({"loss": {"kind": "ce", "include_background": False}}, "include_background"),
        ({"loss": {"kind": "dice_ce", "focal_gamma": 3.0}}, "focal_gamma"),
        ({"loss": {"kind": "dice_focal", "focal_gamma": 3.0, "ce_weight": 0.0}}, "focal_gamma"),
        ({"loss": {"kind": "dice_ce", "tversky_alpha": 0.5}}, "tversky_alpha"),
        ({"loss": {"kind": "dice_focal", "tversky_beta": 0.5}}, "tversky_beta"),
        ({"loss": {"kind": "tversky_ce", "tversky_gamma": 2.0}}, "tversky_gamma"),
        ({"loss": {"kind": "monai", "name": "DiceLoss", "batch_dice": False}}, "batch_dice"),
        ({"optimizer": {"momentum": 0.9}}, "momentum"),
        ({"optimizer": {"schedule": "poly", "plateau_rounds": 5}}, "plateau_rounds"),
        ({"optimizer": {"plateau_factor": 0.1}}, "plateau_factor"),
        ({"optimizer": {"anneal_fraction": 0.5}}, "anneal_fraction"),
        ({"growth_stages": 3}, "growth_stages"),
        ({"probe": False, "memory_gb": 4}, "memory_gb"),
        ({"on_collapse": "dice_ce"}, "on_collapse"),
        ({"augmentation": {"elastic_magnitude_mm": 6}}, "elastic_magnitude_mm"),
        ({"augmentation": {"noise_probability": 0, "noise_std": 0.5}}, "noise_std"),
    ],
)
def test_a_changed_key_that_does_nothing_is_named(section, idle):
    (line,) = idle_keys(TrainConfig.model_validate(section))
    assert f".{idle} " in line
    assert "does nothing with" in line


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"loss": {"kind": "dice", "batch_dice": False, "include_background": False}},
        {"loss": {"kind": "dice_focal", "focal_gamma": 3.0, "ce_weight": 0.5}},
        {"loss": {"kind": "focal_tversky_ce", "tversky_gamma": 2.0, "tversky_alpha": 0.5}},
        {"loss": {"kind": "dice_ce", "tversky_alpha": 0.3}},
        {"loss": {"kind": "dice"}, "on_collapse": "dice_ce"},
        {"optimizer": {"kind": "sgd", "momentum": 0.9}},
        {"optimizer": {"schedule": "plateau", "plateau_rounds": 5, "anneal_fraction": 0.5}},
        {"optimizer": {"anneal_fraction": 0.5}, "early_stop_rounds": 3},
        {"growth": "patch", "growth_stages": 3},
        {"memory_gb": 4},
        {"augmentation": {"elastic_probability": 0.2, "elastic_magnitude_mm": 6}},
        {"augmentation": {"affine_probability": 0}},
    ],
)
def test_what_has_an_effect_or_says_the_usual_is_not(section):
    assert idle_keys(TrainConfig.model_validate(section)) == []


def test_training_says_so(tmp_path, caplog):
    workspace = audited(tmp_path, n_cases=3)
    training = select_training(quick(steps=1, n_validations=1, growth_stages=3), workspace)
    with caplog.at_level(logging.WARNING):
        train(training, workspace, NullTracker())
    assert "train.growth_stages 3 does nothing with train.growth off" in caplog.text
