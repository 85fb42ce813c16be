"""Missing is not background where nobody drew."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.artifacts import LabelClass, Task
from pipeline.core.errors import ConfigError
from pipeline.core.task import TaskConfig, UnannotatedConfig
from pipeline.ingest.unannotated import unannotated_classes, with_listed_cases
from pipeline.io.discover import discover

TASK = Task(
    channels=(),
    classes=tuple(
        LabelClass(name=name, index=index, source_values=values)
        for index, (name, values) in enumerate(
            {"heart": (1,), "lung": (2, 3), "liver": (4,)}.items(), start=1
        )
    ),
)


def config_of(**unannotated):
    return TaskConfig(unannotated=UnannotatedConfig(**unannotated))


def test_absent_means_not_annotated_where_declared():
    assert unannotated_classes(TaskConfig(), TASK, "a", [0]) == ()
    some = config_of(absent=("lung", "liver"))
    assert unannotated_classes(some, TASK, "a", [0, 3]) == ("liver",)
    assert unannotated_classes(some, TASK, "a", []) == ("lung", "liver")
    assert unannotated_classes(config_of(absent="all"), TASK, "a", [0, 1]) == ("lung", "liver")


def test_lists_and_tables_name_cases_even_where_voxels_are_there(tmp_path):
    table = tmp_path / "x.csv"
    table.write_text("\ufeffclass,case_id,who\nliver,b,me\n lung ,b,\n,,\n")
    config = config_of(cases={"heart": ("a", "b")}, csv=table, absent=("lung",))
    listed = with_listed_cases(config, TASK, ["a", "b", "c"])
    assert listed.unannotated.csv is None
    assert unannotated_classes(listed, TASK, "a", [1, 2]) == ("heart",)
    assert unannotated_classes(listed, TASK, "b", [1, 2]) == ("heart", "lung", "liver")
    assert unannotated_classes(listed, TASK, "c", [1]) == ("lung",)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"absent": ("Lung",)}, "class 'Lung'"),
        ({"cases": {"hart": ("a",)}}, "class 'hart'"),
        ({"cases": {"heart": ("case_01",)}}, "case 'case_01'"),
    ],
)
def test_unknown_names_are_refused(declared, words):
    with pytest.raises(ConfigError, match=words) as caught:
        with_listed_cases(config_of(**declared), TASK, ["case_001"])
    assert "did you mean" in caught.value.fix


def test_cases_of_other_datasets_may_be_named_where_only_a_part_is_looked_at():
    config = config_of(cases={"heart": ("a", "z")})
    listed = with_listed_cases(config, TASK, ["a"], is_complete=False)
    assert unannotated_classes(listed, TASK, "a", [1]) == ("heart",)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"case,class\na,heart\n"])
def test_tables_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "x.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError):
        with_listed_cases(config_of(csv=file), TASK, ["a"])


def test_openkbp(shared_data):
    """The real example: esophagus and larynx were drawn in about 40 % and half of the cases."""
    folder = discover(shared_data / "OpenKBP_HeadNeck")
    names = folder.class_values or {}
    task = Task(
        channels=(),
        classes=tuple(
            LabelClass(name=name, index=index, source_values=values)
            for index, (name, values) in enumerate(names.items(), start=1)
        ),
    )
    config = with_listed_cases(
        config_of(absent=("Esophagus", "Larynx")), task, [case.case_id for case in folder.cases]
    )
    counts = {"Esophagus": 0, "Larynx": 0}
    cases = folder.cases[::4]
    for case in cases:
        values = np.unique(np.asanyarray(nib.load(str(Path(str(case.label)))).dataobj))
        for name in unannotated_classes(config, task, case.case_id, values.astype(int).tolist()):
            counts[name] += 1
    drawn = {name: 1 - n / len(cases) for name, n in counts.items()}
    assert drawn["Esophagus"] == pytest.approx(0.4, abs=0.15)
    assert drawn["Larynx"] == pytest.approx(0.5, abs=0.15)
