"""Training ranges: units, classes nobody drew, and cases without any structure."""

import numpy as np
import pytest

from pipeline.artifacts import (
    QUANTILE_LEVELS,
    CaseFingerprint,
    CaseRecord,
    ChannelStatistics,
    LabelClass,
    StoredArray,
    Task,
)
from pipeline.core.errors import DataError
from pipeline.core.task import Channel
from pipeline.train.ranges import training_ranges

TASK = Task(
    channels=(Channel(name="CT", modality="ct"), Channel(name="PET", modality="pet")),
    classes=(
        LabelClass(name="liver", index=1, source_values=(1,)),
        LabelClass(name="lesion", index=2, source_values=(2,)),
    ),
)
AFFINE = tuple(tuple(float(v) for v in row) for row in np.eye(4))


def statistics(level: float) -> ChannelStatistics:
    quantiles = tuple(level + 100 * q for q in QUANTILE_LEVELS)
    return ChannelStatistics(n_voxels=9, mean=level + 50, std=level / 10, quantiles=quantiles)


def case(
    number: int, n_voxels=(1000, 10), *, spacing=(1.0, 1.0, 2.0), level=100.0, unannotated=()
) -> tuple[CaseFingerprint, CaseRecord]:
    row = CaseFingerprint(
        case_id=f"c{number}",
        shape=(10, 20, 30),
        spacing_mm=spacing,
        foreground=(statistics(level), statistics(2 * level)),
        nonzero_fraction=1.0,
        n_class_voxels=n_voxels,
    )
    image = StoredArray(
        file="x",
        dtype="int16",
        shape=(2, 10, 20, 30),
        affine=AFFINE,
        source_orientation="LPS" if number else "RAS",
        content_hash="0",
    )
    record = CaseRecord(
        case_id=row.case_id, status="ready", image=image, unannotated=tuple(unannotated)
    )
    return row, record


def ranges(*cases):
    rows, records = zip(*cases, strict=True)
    return training_ranges(rows, records, TASK)


def test_spacing_extent_and_orientations_are_those_of_the_cases():
    found = ranges(case(0), case(1, spacing=(1.0, 1.5, 4.0)), case(2))
    assert found.n_cases == 3
    assert [r.lowest for r in found.spacing_mm] == [1.0, 1.0, 2.0]
    assert [r.highest for r in found.spacing_mm] == [1.0, 1.5, 4.0]
    assert [r.highest for r in found.extent_mm] == [10.0, 30.0, 120.0]
    assert found.orientations == {"LPS": 2, "RAS": 1}


def test_volumes_are_in_ml_and_only_of_cases_with_the_class():
    found = ranges(case(0), case(1, (3000, 0)), case(2, (2000, 40)), case(3, (1000, 20)))
    assert found.volumes_ml["liver"].lowest == pytest.approx(2.0)
    assert found.volumes_ml["liver"].highest == pytest.approx(6.0)
    assert found.volumes_ml["lesion"].lowest == pytest.approx(0.02)
    assert found.volumes_ml["lesion"].median == pytest.approx(0.04)
    assert found.absent_fraction == {"liver": 0.0, "lesion": pytest.approx(0.25)}


def test_what_nobody_drew_is_not_absent():
    found = ranges(
        case(0, (1000, 0), unannotated=["lesion"]), case(1, (1000, 5)), case(2, (1000, 0))
    )
    assert found.absent_fraction["lesion"] == pytest.approx(0.5)
    never = ranges(case(0, (1000, 0), unannotated=["lesion"]))
    assert "lesion" not in never.absent_fraction
    assert "lesion" not in never.volumes_ml


def test_intensities_are_per_channel_and_not_of_air():
    found = ranges(case(0, level=100.0), case(1, level=200.0), case(2, (0, 0), level=-1000.0))
    mean, std, low, median, high = found.intensities[0]
    assert (mean.lowest, mean.highest) == (150.0, 250.0)
    assert (std.lowest, std.highest) == (10.0, 20.0)
    assert (low.lowest, median.lowest, high.highest) == (101.0, 150.0, 299.0)
    assert found.intensities[1][0].highest == 450.0
    assert ranges(case(0, (0, 0), level=5.0)).intensities[0][0].lowest == 55.0


@pytest.mark.parametrize("n_rows", [0, 1])
def test_rows_of_other_cases_are_refused(n_rows):
    row, _ = case(1)
    _, record = case(2)
    with pytest.raises(DataError):
        training_ranges([row] * n_rows, [record], TASK)
