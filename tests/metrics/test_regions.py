from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from pipeline.core.errors import ConfigError
from pipeline.core.task import LabelClass, Region, Task
from pipeline.metrics.overlap import confusion_matrix, overlap_scores
from pipeline.metrics.regions import region_mask, region_overlap, unions_of, with_regions
from pipeline.metrics.scores import (
    CaseScores,
    score_label_maps,
    score_missing_prediction,
    without_unannotated,
)

NAMES = ("edema", "core", "enhancing")
WHOLE = ("edema", "core", "enhancing")
MAPS = hnp.arrays(np.uint8, (4, 4, 3), elements=st.integers(0, 3))


def scored(prediction, reference):
    return score_label_maps(
        "c",
        prediction=prediction,
        reference=reference,
        class_names=NAMES,
        spacing_mm=(1.0, 1.0, 2.0),
    )


@given(MAPS, MAPS, st.sets(st.sampled_from(NAMES), min_size=1))
def test_a_region_from_class_scores_equals_scoring_its_mask(prediction, reference, members):
    confusion = confusion_matrix(
        prediction=region_mask(prediction, NAMES, members).astype(np.uint8),
        reference=region_mask(reference, NAMES, members).astype(np.uint8),
        n_classes=1,
    )
    expected = replace(overlap_scores(confusion, ("r",), voxel_ml=0.002)[0], is_region=True)
    assert region_overlap(scored(prediction, reference), "r", members) == expected


def test_a_case_nobody_predicted_misses_the_region():
    reference = np.array([[[1, 1, 0, 0]]], dtype=np.uint8)
    case = score_missing_prediction("c", reference=reference, class_names=NAMES, voxel_ml=0.1)
    region = region_overlap(case, "whole", WHOLE)
    assert region is not None
    assert (region.status, region.n_reference) == ("missed", 2)
    assert region_overlap(case, "other", ("core",)) is None
    assert region_overlap(CaseScores("c", ()), "whole", WHOLE) is None


def test_an_unknown_member_gets_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        region_mask(np.zeros((1, 1, 1), np.uint8), NAMES, ("cores",))
    assert "core" in caught.value.fix


def test_a_region_with_a_class_that_nobody_drew_cannot_be_told():
    reference = np.array([[[1, 2, 0, 0]]], dtype=np.uint8)
    case = without_unannotated(scored(reference, reference), ("enhancing",))
    found = with_regions(case, {"whole": WHOLE, "inner": ("core",)})
    assert [s.class_name for s in found.classes] == ["edema", "core", "inner"]
    assert found.not_annotated == ("enhancing", "whole")


def test_only_unions_are_scored_beside_the_classes():
    classes = tuple(
        LabelClass(name=name, index=n, source_values=(n,)) for n, name in enumerate(NAMES, start=1)
    )
    regions = (
        Region(name="whole", classes=WHOLE, paints="edema"),
        Region(name="core", classes=("core", "enhancing"), paints="core"),
        Region(name="enhancing", classes=("enhancing",), paints="enhancing"),
    )
    task = Task(channels=(), classes=classes, regions=regions)
    assert unions_of(task) == {"whole": WHOLE, "core region": ("core", "enhancing")}
    assert unions_of(task.model_copy(update={"regions": ()})) == {}
