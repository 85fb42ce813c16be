import pytest
from audit_builders import dataset, row

from pipeline.audit.checks.statistics import check_imbalance
from pipeline.audit.config import AuditConfig


@pytest.mark.parametrize(
    ("n_tumor", "wording"), [(20, None), (5, "is rare"), (1, "extremely rare")]
)
def test_ratio_is_pooled_over_the_cases(n_tumor, wording):
    rows = [row("a", (5000, n_tumor), 10_000), row("b", (5000, 0), 10_000)]
    found = check_imbalance(dataset(rows, []), AuditConfig(imbalance_strong=9000.0))
    assert [f.class_name for f in found] == ([] if wording is None else ["tumor"])
    assert all(wording in f.message for f in found if wording)
    if n_tumor == 5:
        assert found[0].value == pytest.approx((20_000 - 10_005) / 5)


def test_absent_classes_and_unusable_labels_are_left_to_others():
    assert check_imbalance(dataset([row("a", (1, 0), 0)], []), AuditConfig()) == []
