import numpy as np
import pytest
from audit_builders import affine, dataset, image_of, label_of, record, view

from pipeline.artifacts import Finding, Findings
from pipeline.audit.config import AuditConfig
from pipeline.audit.pages import illustrations
from pipeline.audit.pages.illustrations import choose_samples, illustrate
from pipeline.audit.rows import make_row
from pipeline.io.store import write_array


@pytest.fixture
def found(tmp_path):
    cases, rows = [], []
    for number in range(6):
        label = label_of()
        label[2 : 2 + number, 9:11, 2:4] = 1
        image, case_id = image_of(label.shape, number), f"case_{number}"
        stored = {
            name: write_array(tmp_path / "s", f"{number}.{name}", array, affine(), "RAS", tmp_path)
            for name, array in (("image", image), ("label", label.astype(np.uint8)))
        }
        cases.append(record(label, case_id, image=image).model_copy(update=stored))
        made = make_row(view(label, image), AuditConfig())
        fingerprint = made.fingerprint.model_copy(update={"case_id": case_id})
        rows.append(made.model_copy(update={"case_id": case_id, "fingerprint": fingerprint}))
    return dataset(rows, cases), tmp_path


def findings(*cases, severity="error"):
    made = tuple(
        Finding(check_id=f"E0{n}", severity=severity, case_id=case_id, message="m", fix="f")
        for n, case_id in enumerate(cases, 1)
    )
    return Findings(verdict="errors", n_cases=6, findings=made)


def test_worst_findings_first_then_ordinary_cases(found):
    whole, root = found
    errors = findings("case_0", "case_3", "gone")
    shown = illustrate(whole, errors, root, 12)
    assert set(shown.cards) == {id(f) for f in errors.findings[:2]}
    assert [sample.case_id for sample in shown.samples] == ["case_1", "case_4", "case_5"]
    assert len(shown.volumes) == 5
    assert shown.volumes[0].title.startswith("E01")
    keys = {volume.key for volume in shown.volumes}
    assert keys == {
        *(card.viewer_key for card in shown.cards.values()),
        *(sample.viewer_key for sample in shown.samples),
    }


def test_pictures_and_volumes_are_limited(found, monkeypatch):
    whole, root = found
    assert illustrate(whole, findings("case_0"), root, 0).volumes == ()
    two = illustrate(whole, findings("case_0", "case_1", "case_2"), root, 2)
    assert (len(two.cards), two.samples) == (2, ())
    monkeypatch.setattr(illustrations, "MAX_VOLUMES", 1)
    one = illustrate(whole, findings("case_0", "case_1"), root, 2)
    assert len(one.volumes) == 1
    assert [card.viewer_key is None for card in one.cards.values()] == [False, True]
    monkeypatch.setattr(illustrations, "MAX_VOLUME_BYTES", 10)
    assert illustrate(whole, findings("case_0"), root, 2).volumes == ()


def test_samples_span_the_foreground_and_are_shown_once(found):
    whole, _ = found
    chosen = dict(choose_samples(whole, findings(), 3))
    assert list(chosen) == ["case_0", "case_3", "case_5"]
    warned = findings("case_0", severity="warning")
    assert len(choose_samples(whole, warned, 2)) == 2
    assert choose_samples(whole, findings(), 0) == []
    everyone = findings(*(f"case_{n}" for n in range(6)))
    assert choose_samples(whole, everyone, 3) == []
