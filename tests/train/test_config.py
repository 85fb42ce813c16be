"""The train section refuses what cannot have the effect that its writer expects."""

import pytest
from pydantic import ValidationError

from pipeline.train.config import TrainConfig


@pytest.mark.parametrize(
    ("section", "idle"),
    [
        ({"loss": {"kind": "dice", "ce_weight": 0.5}}, "ce_weight"),
        ({"loss": {"kind": "ce", "dice_weight": 0.5}}, "dice_weight"),
        ({"loss": {"kind": "ce", "batch_dice": False}}, "batch_dice"),
        ({"loss": {"kind": "ce", "include_background": False}}, "include_background"),
        ({"loss": {"kind": "dice_ce", "focal_gamma": 3.0}}, "focal_gamma"),
        ({"loss": {"kind": "dice_ce", "tversky_alpha": 0.5}}, "tversky_alpha"),
        ({"loss": {"kind": "dice_focal", "tversky_beta": 0.5}}, "tversky_beta"),
        ({"loss": {"kind": "tversky_ce", "tversky_gamma": 2.0}}, "tversky_gamma"),
        (
            {"loss": {"kind": "monai", "name": "DiceLoss", "batch_dice": False}},
            "batch_dice",
        ),
        ({"optimizer": {"momentum": 0.9}}, "momentum"),
        ({"optimizer": {"schedule": "poly", "plateau_rounds": 5}}, "plateau_rounds"),
        ({"optimizer": {"plateau_factor": 0.1}}, "plateau_factor"),
        ({"optimizer": {"anneal_fraction": 0.5}}, "anneal_fraction"),
        ({"growth_stages": 3}, "growth_stages"),
    ],
)
def test_a_changed_key_that_does_nothing_is_refused_by_name(section, idle):
    with pytest.raises(ValidationError, match=f"{idle} does nothing with"):
        TrainConfig.model_validate(section)


@pytest.mark.parametrize(
    "section",
    [
        {"loss": {"kind": "dice", "batch_dice": False, "include_background": False}},
        {"loss": {"kind": "dice_focal", "focal_gamma": 3.0, "ce_weight": 0.5}},
        {"loss": {"kind": "focal_tversky_ce", "tversky_gamma": 2.0, "tversky_alpha": 0.5}},
        {"loss": {"kind": "dice_ce", "tversky_alpha": 0.3}},
        {"optimizer": {"kind": "sgd", "momentum": 0.9}},
        {"optimizer": {"schedule": "plateau", "plateau_rounds": 5, "anneal_fraction": 0.5}},
        {"optimizer": {"anneal_fraction": 0.5}, "early_stop_rounds": 3},
        {"growth": "patch", "growth_stages": 3},
    ],
)
def test_what_has_an_effect_or_says_the_usual_is_taken(section):
    config = TrainConfig.model_validate(section)
    # What is written beside a model can be read again.
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
