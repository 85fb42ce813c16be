"""The section `ingest`."""

from typing import get_args

import pytest

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError
from pipeline.ingest.config import IngestConfig, LayoutName
from pipeline.io.discover import LAYOUTS


def test_defaults_are_automatic_and_nonsense_is_refused():
    assert IngestConfig() == IngestConfig(layout="auto", n_jobs=0)
    with pytest.raises(ConfigError, match="did you mean 'case_folders'"):
        validate_config(IngestConfig, {"layout": "casefolder"}, "test")
    with pytest.raises(ConfigError, match="layout"):
        validate_config(IngestConfig, {"layout": 3}, "test")
    with pytest.raises(ConfigError, match="n_jobs"):
        validate_config(IngestConfig, {"n_jobs": -1}, "test")


def test_every_layout_that_is_known_can_be_asked_for():
    assert set(get_args(LayoutName)) == set(LAYOUTS)
