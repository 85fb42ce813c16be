from dataclasses import replace

import numpy as np
from audit_builders import affine, image_of, label_of, view

from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.case import measure_case

CONFIG = AuditConfig()


def test_image_and_label_are_measured():
    found = measure_case(view(label_of(), label_at=affine()), CONFIG)
    assert [c.class_index for c in found.classes] == [1, 2]
    assert len(found.channels) == 1
    liver = found.of_class(1)
    assert liver is not None
    assert liver.n_voxels == 3 * 4 * 5
    assert 90 < liver.quantiles[8] < 110
    assert found.of_class(3) is None


def test_a_label_on_another_grid_is_measured_without_intensities():
    odd = view(label_of(), image=image_of((5, 6, 7)))
    found = measure_case(odd, CONFIG)
    assert [c.quantiles for c in found.classes] == [(), ()]
    assert found.alignment is None


def test_parts_that_cannot_be_read_are_empty():
    whole = view(label_of())
    assert measure_case(replace(whole, label=None, values=None), CONFIG).classes == ()
    assert measure_case(replace(whole, image=None), CONFIG).channels == ()
    noise = np.random.default_rng(0).normal(0, 1, (8, 9, 10)).astype(np.float32)
    assert measure_case(view(noise), CONFIG).classes == ()


def test_values_that_no_class_declares_are_neighbors_only():
    label = label_of()
    label[5, 2:6, 3:8] = 77
    found = measure_case(view(label), CONFIG)
    assert [c.class_index for c in found.classes] == [1, 2]
    assert [c.class_index for c in found.classes[0].contacts] == [0, -1]
    assert found.classes[0].contacts[1].n_faces == 20
