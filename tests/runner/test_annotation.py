"""The section task.unannotated reaches the evaluation, also for cases it does not have."""

import logging
from pathlib import Path

import numpy as np
import pytest
from models_builders import model_info
from phantoms import write_nifti

from pipeline.core.errors import ConfigError
from pipeline.core.task import TaskConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.evaluate.task import find_task
from pipeline.runner.annotation import configured_task, warn_if_undeclared, with_annotation

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


def section(**task) -> TaskConfig:
    return TaskConfig.model_validate(task, strict=False)


def test_the_section_says_what_the_values_of_plain_label_files_mean(tmp_path):
    label = np.zeros((4, 4, 4), np.uint8)
    label[0], label[1], label[2], label[3] = 1, 2, 3, 9
    write_nifti(tmp_path / "a.nii.gz", label, np.eye(4))
    found = find_task({"a": tmp_path / "a.nii.gz"})
    assert len(found.classes) == 4
    assert configured_task(found, section(channels=["CT"], unannotated={"absent": "all"})) is found
    task = configured_task(found, section(ignore=[9]))
    assert task.ignore_values == (9,)
    assert [c.source_values for c in task.classes] == [(1,), (2,), (3,)]
    named = section(
        channels=["CT"],
        classes={"liver": 1, "tumor": 2},
        ignore=[9],
        regions={"both": ["liver", "tumor"], "inner": ["tumor"]},
    )
    task = configured_task(found, named)
    assert task.class_names == ("liver", "tumor")
    assert [r.name for r in task.regions] == ["both", "inner"]
    # As when a dataset is read: what was not asked for is background.
    assert task.background_values == (0, 3)
    with pytest.raises(ConfigError, match="both ignored and a class"):
        configured_task(found, section(classes={"liver": 1}, ignore=[1]))


def test_a_forgotten_declaration_is_remembered(caplog):
    partial = INFO.model_copy(update={"n_annotated_cases": {"class_2": 7}})
    with caplog.at_level(logging.WARNING):
        warn_if_undeclared(SOURCE, INFO)
        warn_if_undeclared(declared(absent=["class_2"]), partial)
        assert caplog.records == []
        warn_if_undeclared(SOURCE, partial)
    assert "class_2" in caplog.text
