import numpy as np
import pytest
from audit_builders import TASK, dataset, image_of, label_of, record, row, task_of

from pipeline.artifacts import Channel
from pipeline.audit.checks.hounsfield import check_ct_units
from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measures import CaseMeasures

SHAPE = (20, 24, 28)
CT = task_of("organ").model_copy(update={"channels": (Channel(name="CT", modality="ct"),)})


def ct():
    """Air, a body and some bone, in HU."""
    image = np.full(SHAPE, -1000.0, dtype=np.float32)
    image[4:16, 4:20, :] = image_of((12, 16, 28))[0] - 60
    image[8:10, 8:10, :] = 900
    return np.round(image + np.random.default_rng(1).normal(0, 8, SHAPE)).astype(np.int16)


def run(*images, task=CT):
    rows, records = [], []
    for n, image in enumerate(images):
        name = f"case_{n:03d}"
        measures = CaseMeasures(channels=(measure_channel(image),))
        rows.append(row(name, (1,)).model_copy(update={"measures": measures}))
        records.append(record(label_of(SHAPE), name, image=image[None]))
    return check_ct_units(dataset(rows, records, task), AuditConfig())


def test_ct_without_its_offset():
    shifted = (ct() + 1024).clip(min=0)
    (finding,) = run(shifted, ct())
    assert (finding.check_id, finding.severity) == ("F12", "warning")
    assert (finding.case_id, finding.evidence["file"]) == ("case_000", "image.nii")
    assert "1024 too high" in finding.message
    assert run(shifted, task=TASK) == []  # the same numbers are fine for MR


def test_ct_as_gray_values_and_as_z_scores():
    gray = ((ct().astype(float) + 1100) / 2200 * 200).clip(0, 200).astype(np.uint8)
    assert [f.severity for f in run(gray)] == ["warning"]
    (finding,) = run(((ct() - 30.0) / 500).astype(np.float32))
    assert "normalized" in finding.message


def test_padding_around_a_ct_is_only_information():
    padded, touched = ct(), ct()
    padded[:3] = -3024
    touched[0, 0, :3] = -3024
    assert [(f.severity, f.case_id) for f in run(padded, touched)] == [("info", "case_000")]


def test_hounsfield_units_and_constant_images_are_left_alone():
    assert run(ct(), np.full(SHAPE, 40, np.int16)) == []


@pytest.mark.parametrize(("n_shifted", "n_good", "n_found"), [(5, 0, 5), (8, 2, 1), (7, 3, 7)])
def test_what_most_cases_share_is_told_once(n_shifted, n_good, n_found):
    shifted = (ct() + 1024).clip(min=0)
    found = run(*[shifted] * n_shifted, *[ct()] * n_good)
    assert len(found) == n_found
    if n_found == 1:
        (finding,) = found
        assert (finding.case_id, finding.value, finding.severity) == (None, n_shifted, "warning")
        assert f"{n_shifted} of {n_shifted + n_good} cases" in finding.message
        assert "case_000, case_001" in finding.message
