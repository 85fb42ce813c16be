import numpy as np
import pytest
from audit_builders import measured_dataset, task_of
from phantoms import ball

from pipeline.artifacts import Channel, Task
from pipeline.audit.checks.brightness import check_brightness
from pipeline.audit.config import AuditConfig

CONFIG = AuditConfig()
SHAPE = (20, 20, 20)
MR = task_of("liver")
CT = Task(channels=(Channel(name="CT", modality="ct"),), classes=MR.classes)
LABEL = ball(SHAPE, (10, 10, 10), 6).astype(np.uint8)


def image(seed, *, inside=100.0, scale=1.0):
    rng = np.random.default_rng(seed)
    clean = np.where(LABEL > 0, inside + rng.normal(0, 3), 0.0) + rng.normal(0, 20, SHAPE)
    return ((clean * scale) + 500 * (scale - 1))[np.newaxis].astype(np.float32)


def found_in(images, task):
    data = measured_dataset([LABEL] * len(images), task, images=images)
    return [(f.check_id, f.severity, f.case_id) for f in check_brightness(data, CONFIG)]


@pytest.mark.parametrize("task", [MR, CT], ids=["mr", "ct"])
def test_a_label_on_something_else_stands_out(task):
    usual = [image(n) for n in range(11)]
    assert found_in(usual, task) == []
    assert found_in([*usual, image(11, inside=0.0)], task) == [("S09", "warning", "case_011")]
    assert found_in([*usual[:5], image(11, inside=0.0)], task) == []


def test_the_scale_of_mr_means_nothing():
    assert found_in([image(n, scale=1.0 + n % 5) for n in range(12)], MR) == []


def test_a_label_half_on_air_stands_out_though_its_median_does_not():
    usual = [image(n, inside=0.0) for n in range(11)]
    odd = image(11, inside=0.0)
    odd[0][LABEL > 0] += np.where(np.arange(LABEL.sum()) % 2, 300, -300)
    assert found_in([*usual, odd], CT) == [("S09", "warning", "case_011")]


def test_images_without_any_contrast_are_left_out():
    flat = [np.full((1, *SHAPE), 7.0, np.float32)] * 12
    assert found_in(flat, MR) == []
