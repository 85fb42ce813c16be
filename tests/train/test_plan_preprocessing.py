"""Spacing and normalization: from the foreground of the training cases, or as configured."""

import numpy as np
import pytest
from fingerprints import make_row, make_task

from pipeline.core.errors import ConfigError
from pipeline.train.config import TrainConfig
from pipeline.train.plan_preprocessing import plan_normalizations, plan_spacing

TISSUE = make_row(values=np.linspace(0, 100, 5001))


def normalized(rows, config=None, **task):
    reasons = []
    config = TrainConfig.model_validate({"normalization": config})
    return plan_normalizations(rows, make_task("x", **task), config, reasons), reasons


def test_cases_without_a_structure_do_not_bring_their_air_into_the_clip_of_a_ct():
    """Their fingerprint is that of the whole image, as there is no foreground to describe."""
    air = make_row(values=np.linspace(-1024, -900, 5001)).model_copy(
        update={"n_class_voxels": (0,)}
    )
    chosen, reasons = normalized([TISSUE, air, air], modality="ct")
    assert chosen == normalized([TISSUE], modality="ct")[0]
    assert chosen[0].lower == pytest.approx(0.5, abs=0.1)
    assert "foreground of 1 cases" in reasons[0]
    # With no structure anywhere there is nothing better than the images.
    assert normalized([air], modality="ct")[0][0].lower < -1000


def test_a_channel_is_normalized_as_configured_and_the_others_as_planned():
    two = TISSUE.model_copy(update={"foreground": TISSUE.foreground * 2})
    chosen, reasons = normalized([two], {"c1": "ct"}, n_channels=2)
    assert [n.kind for n in chosen] == ["zscore", "ct"]
    assert chosen[1].upper == pytest.approx(99.5, abs=0.1)
    assert reasons[1].endswith("as configured")
    assert "configured" not in reasons[0]


def test_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no channel 'c9'") as raised:
        normalized([TISSUE], {"c9": "ct"})
    assert "c0" in raised.value.fix


def test_the_configured_spacing_is_taken_and_said():
    reasons = []
    config = TrainConfig(spacing_mm=(1.0, 2.0, 3.5))
    assert plan_spacing([TISSUE], config, reasons) == (1.0, 2.0, 3.5)
    assert reasons == ["spacing 1 x 2 x 3.5 mm: as configured"]
