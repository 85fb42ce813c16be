import pytest

from pipeline.core.config import dump_yaml, load_config, validate_config
from pipeline.core.errors import ConfigError
from pipeline.evaluate.config import EvaluateConfig


def test_defaults_survive_yaml(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(dump_yaml(EvaluateConfig()))
    assert load_config(EvaluateConfig, file) == EvaluateConfig()


@pytest.mark.parametrize(
    "content", [{"policy": "lenient"}, {"n_bootstrap": -1}, {"max_corner_displacement_voxels": 2}]
)
def test_bad_values_are_refused(content):
    with pytest.raises(ConfigError):
        validate_config(EvaluateConfig, content, "test")


def test_every_field_is_described():
    assert all(field.description for field in EvaluateConfig.model_fields.values())
