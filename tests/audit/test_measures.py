from audit_builders import label_of, view

from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.case import measure_case
from pipeline.audit.measures import LEVELS, CaseMeasures


def test_measures_are_read_back_as_they_were_written():
    found = measure_case(view(label_of()), AuditConfig())
    assert CaseMeasures.model_validate_json(found.model_dump_json()) == found


def test_levels_rise_and_are_symmetric():
    assert list(LEVELS) == sorted(set(LEVELS))
    assert [round(1 - level, 6) for level in reversed(LEVELS)] == list(LEVELS)


def test_a_class_that_is_not_there_has_no_measures():
    assert CaseMeasures().of_class(1) is None
