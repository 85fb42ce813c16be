"""The section task.unannotated reaches the evaluation, also for cases it does not have."""

import logging
from pathlib import Path

import pytest
from models_builders import model_info

from pipeline.core.errors import ConfigError
from pipeline.core.task import TaskConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.runner.annotation import warn_if_undeclared, with_annotation

INFO = model_info()
SOURCE = EvaluationInput("set", Path("p"), {"a": Path("a.nii"), "b": Path("b.nii")}, INFO.task)


def declared(**unannotated):
    config = TaskConfig.model_validate({"unannotated": unannotated}, strict=False)
    return with_annotation(SOURCE, INFO.task, config)


def test_lists_tables_and_the_rule_of_absence_arrive(tmp_path):
    table = tmp_path / "open.csv"
    table.write_text("case_id,class\nb,class_1\nof_the_training_set,class_1\n")
    source = declared(cases={"class_2": ["b", "elsewhere"]}, csv=table, absent=["class_1"])
    assert {k: set(v) for k, v in source.unannotated.items()} == {"b": {"class_1", "class_2"}}
    assert source.absent_is_unannotated == ("class_1",)
    assert declared(absent="all").absent_is_unannotated == ("class_1", "class_2")
    assert declared() == SOURCE
    with pytest.raises(ConfigError, match="no class 'class_3'"):
        declared(absent=["class_3"])


def test_a_forgotten_declaration_is_remembered(caplog):
    partial = INFO.model_copy(update={"n_annotated_cases": {"class_2": 7}})
    with caplog.at_level(logging.WARNING):
        warn_if_undeclared(SOURCE, INFO)
        warn_if_undeclared(declared(absent=["class_2"]), partial)
        assert caplog.records == []
        warn_if_undeclared(SOURCE, partial)
    assert "class_2" in caplog.text
