"""The card of a model says what it finds, how well, in what, and where it comes from."""

import re

from models_builders import model_info
from network_builders import small_network

from pipeline.artifacts import (
    ClassSummary,
    CleanupRule,
    Interval,
    Normalization,
    Range,
    Region,
    Summary,
    TrainingRanges,
)
from pipeline.models.describe import describe_model

SPREAD = Range(lowest=0.5, p01=0.6, median=1.25, p99=2.0, highest=3.0)


def ranges() -> TrainingRanges:
    return TrainingRanges(
        n_cases=12,
        spacing_mm=(SPREAD,) * 3,
        extent_mm=(SPREAD,) * 3,
        orientations={"LPS": 10, "RAS": 2},
        intensities=((SPREAD,) * 5,),
        volumes_ml={"class_1": SPREAD},
        absent_fraction={"class_1": 0.25, "class_2": 1.0},
    )


def summary() -> Summary:
    dice = Interval(mean=0.8712, median=0.9, ci95=None, n=7, n_undefined=1)
    undefined = Interval(mean=None, median=None, ci95=None, n=0, n_undefined=8)
    counts = {"n_missed": 0, "n_hallucinated": 0, "n_absent": 1}
    return Summary(
        policy="strict",
        n_cases=8,
        classes={
            "class_1": ClassSummary(dice=dice, iou=dice, volume_error_ml=dice, **counts),
            "class_2": ClassSummary(
                dice=undefined, iou=undefined, volume_error_ml=undefined, **counts
            ),
        },
        mean_foreground_dice=0.8712,
        mean_foreground_dice_policies={},
    )


def rule(kind: str, min_ml: float | None = None) -> CleanupRule:
    return CleanupRule(
        class_name="class_1",
        kind=kind,
        min_ml=min_ml,
        dice_before=0.8712,
        dice_after=0.8934,
        n_cases=7,
    )


def full_info():
    return model_info().model_copy(
        update={
            "training_ranges": ranges(),
            "cleanup": (rule("keep_largest"), rule("remove_islands", 0.25)),
            "versions": {"torch": "2.13.0"},
        }
    )


def test_a_bare_model_can_be_described():
    text = describe_model(model_info())
    assert text.endswith("\n")
    assert "Not measured" in text
    assert "| 2 | class_2 |" in text
    assert "minus the mean and divided by the standard deviation of the image" in text
    assert "1 x 1 x 1 mm" in text


def test_scores_stand_beside_their_number_of_cases_and_what_clean_up_would_give():
    text = describe_model(full_info(), summary())
    assert "| class_1 | 0.871 | 0.900 | 7 | 0.893 |" in text
    assert "| class_2 | - | - | 0 | - |" in text
    assert "without clean-up" in text
    assert "flattering" in text


def test_clean_up_is_told_in_words_and_in_order():
    text = describe_model(full_info(), summary())
    first = text.index("1. class_1: only the largest connected piece stays (Dice 0.871 to 0.893")
    assert first < text.index("2. class_1: pieces below 0.25 ml become background")
    assert "## Clean-up of predictions\n\nNone." in describe_model(model_info())


def test_training_data_and_origin_are_named():
    text = describe_model(full_info(), summary())
    assert "| voxel size, mm, head-foot | 0.5 | 1.25 | 3 |" in text
    assert "| class_1, ml (absent in 25 % of cases) | 0.5 | 1.25 | 3 |" in text
    assert "LPS (10), RAS (2)" in text
    assert "torch 2.13.0" in text
    assert "computed in an unknown format" in text
    half = full_info().model_copy(update={"number_format": "bfloat16"})
    assert "convolutions in training computed in bfloat16" in describe_model(half)
    assert "dataset digest 00000000, fold 0" in text
    partial = full_info().model_copy(update={"n_annotated_cases": {"class_1": 4}})
    expected = "| class_1, ml (absent in 25 % of the 4 cases that annotate it) | 0.5 | 1.25 | 3 |"
    assert expected in describe_model(partial)


def test_ct_windows_and_regions_are_written_out():
    info = model_info()
    ct = Normalization(kind="ct", lower=-100.0, upper=240.0, mean=99.5, std=38.0)
    preprocessing = info.plan.preprocessing.model_copy(update={"normalizations": (ct,)})
    plan = info.plan.model_copy(update={"preprocessing": preprocessing})
    region = Region(name="whole", classes=("class_1", "class_2"), paints="class_1")
    task = info.task.model_copy(update={"regions": (region,)})
    text = describe_model(info.model_copy(update={"plan": plan, "task": task}))
    assert "clipped to -100 to 240, minus 99.5, divided by 38" in text
    assert "whole (class_1 + class_2), painted as class_1" in text


def test_a_network_by_name_is_named():
    info = model_info()
    plan = info.plan.model_copy(update={"network": small_network("monai", features=())})
    text = describe_model(info.model_copy(update={"plan": plan}))
    assert "1. MONAI AttentionUnet (channels [4, 8, 16], strides [2, 2]) in windows of" in text


def test_every_line_of_a_table_has_as_many_cells_as_its_head():
    for table in re.findall(r"(?:^\|.*\n)+", describe_model(full_info(), summary()), re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
