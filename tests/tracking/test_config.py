"""The tracking section of an experiment file."""

import pytest
from pydantic import ValidationError

from pipeline.tracking.config import TrackingConfig


def test_defaults_need_no_server():
    assert TrackingConfig().enabled
    assert TrackingConfig().uri is None


@pytest.mark.parametrize("wrong", [{"experiment": ""}, {"flush_s": -1.0}, {"url": "http://x"}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        TrackingConfig.model_validate(wrong)


def test_every_field_is_described():
    assert all(field.description for field in TrackingConfig.model_fields.values())
