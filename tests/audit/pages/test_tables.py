import numpy as np
import pytest
from audit_builders import dataset, image_of, label_of, record, row, view

from pipeline.audit.config import AuditConfig
from pipeline.audit.pages.tables import (
    class_table,
    geometry_strips,
    geometry_table,
    intensity_strips,
    intensity_table,
    usable_cases,
    volume_strips,
)
from pipeline.audit.rows import make_row


@pytest.fixture(scope="module")
def found():
    rows = [make_row(view(label_of(), image_of((10, 12, 14), n)), AuditConfig()) for n in range(3)]
    rows.append(row("broken", (0, 0), n_voxels=0))
    return dataset(rows, [record(label_of())])


def test_classes_are_counted_over_labelled_cases(found):
    rows = class_table(found, {})["rows"]
    liver, tumor = rows
    n_liver, n_tumor, n_voxels = 3 * 4 * 5, 2 * 2 * 5, 10 * 12 * 14
    assert [cell["text"] for cell in (liver[0], tumor[0])] == ["liver", "tumor"]
    assert liver[2]["text"] == "3 of 3"
    assert liver[4] == pytest.approx(n_liver * 6 / 1000)
    assert liver[6] == 1.0
    assert tumor[7] == pytest.approx((n_voxels - n_liver - n_tumor) / n_tumor, rel=1e-3)


def test_hit_probability_is_a_column_only_where_it_is_known(found):
    with_hits = class_table(found, {"liver": 0.125})
    assert with_hits["columns"][-1]["name"] == "Random patch hits"
    assert with_hits["rows"][0][-1] == {"text": "12.5 %", "sort": 0.125}
    assert with_hits["rows"][1][-1] is None
    assert len(class_table(found, {})["columns"]) == len(with_hits["columns"]) - 1


def test_strips_have_one_row_per_class_axis_and_channel(found):
    assert [strip.name for strip in volume_strips(found).rows] == ["liver", "tumor"]
    spacing, extent = geometry_strips(usable_cases(found))
    assert len(spacing.rows) == len(extent.rows) == 3
    assert len(intensity_strips(found)) == 1


def test_grid_and_intensities(found):
    rows = geometry_table(usable_cases(found))["rows"]
    assert [cells[1]["text"] for cells in rows] == ["1", "2", "3"]
    assert [cells[3]["text"] for cells in rows] == ["10", "24", "42"]
    channel = intensity_table(found)["rows"][0]
    assert channel[:2] == ["T1", "mr"]
    assert np.allclose(channel[3], 100, atol=5)


def test_scanners_of_very_different_scale_share_a_logarithmic_axis(found):
    assert not intensity_strips(found)[0].is_log
    bright = [view(label_of(), image_of((10, 12, 14)) * scale) for scale in (1, 1000)]
    rows = [make_row(one, AuditConfig()) for one in bright]
    assert intensity_strips(dataset(rows, []))[0].is_log


def test_nothing_usable_is_an_empty_table():
    nothing = dataset([row("broken", (0, 0), n_voxels=0)], [])
    assert class_table(nothing, {})["rows"][0][3] is None
    assert geometry_table([])["rows"][0][1] is None
    assert intensity_table(nothing)["rows"][0][2:] == [None] * 6
    assert volume_strips(nothing).rows == ()
    assert [chart.rows for chart in geometry_strips([])] == [(), ()]
