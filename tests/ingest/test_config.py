"""The section `ingest`."""

import pytest

from pipeline.core.config import validate_config
from pipeline.core.errors import ConfigError
from pipeline.ingest.config import IngestConfig


def test_defaults_are_automatic_and_nonsense_is_refused():
    assert IngestConfig() == IngestConfig(layout="auto", n_jobs=0)
    with pytest.raises(ConfigError, match="n_jobs"):
        validate_config(IngestConfig, {"n_jobs": -1}, "test")
