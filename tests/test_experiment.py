"""Every shipped configuration loads, and the schema for editors is up to date."""

from pathlib import Path

import pytest

from pipeline.core.config import dump_yaml
from pipeline.experiment import Experiment, experiment_schema, load_experiment

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_configuration_loads_and_round_trips(file, tmp_path):
    experiment = load_experiment(file)
    assert experiment != Experiment()
    (tmp_path / "resolved.yaml").write_text(dump_yaml(experiment))
    assert load_experiment(tmp_path / "resolved.yaml") == experiment


def test_the_schema_in_configs_is_the_present_one():
    assert (CONFIGS / "schema.json").read_text() == experiment_schema(), "run 'make schema'"


def test_overrides_win_over_the_file():
    experiment = load_experiment(CONFIGS / "demo.yaml", ["train.budget_minutes=1.5"])
    assert experiment.train.budget_minutes == 1.5
    assert load_experiment(None, ["train.fold=3"]).train.fold == "3"
    assert load_experiment(None, ["train.fold=all"]).train.fold == "all"
