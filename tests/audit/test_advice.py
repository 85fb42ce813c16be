"""Advice follows the tree, and its file is an experiment that training accepts."""

from dataclasses import replace

import pytest
from audit_builders import USUAL_FACTS as USUAL
from hypothesis import given
from hypothesis import strategies as st
from workfolders import audited

from pipeline.artifacts import Advice, read_artifact
from pipeline.audit.advice import advise, class_weights, render_yaml
from pipeline.audit.config import AuditConfig
from pipeline.audit.hits import PatchHits
from pipeline.experiment import load_experiment

CONFIG = AuditConfig()


def advice_on(**changes) -> dict[str, object]:
    advice = advise(replace(USUAL, **changes), CONFIG)
    assert [item.check_id for item in advice.items] == [f"T0{n}" for n in range(1, 9)]
    return {item.check_id: item for item in advice.items}


def test_a_usual_dataset_keeps_the_usual_settings():
    items = advice_on()
    assert items["T01"].settings == {"train.loss.kind": "dice_ce"}
    assert "244 times" in items["T01"].reason
    assert items["T02"].settings == items["T03"].settings == items["T05"].settings == {}
    assert "50%" in items["T03"].reason
    assert "90%" in items["T03"].reason


def test_balanced_classes_would_do_with_cross_entropy():
    items = advice_on(shares=(0.3, 0.2))
    assert items["T01"].settings == {"train.loss.kind": "dice_ce"}
    assert "cross-entropy alone" in items["T01"].headline


@pytest.mark.parametrize(
    "hard", [{"shares": (0.02, 5e-5)}, {"presence": (1.0, 0.7)}], ids=["tiny", "often absent"]
)
def test_hard_classes_get_focal_loss_and_more_foreground_but_no_weights(hard):
    items = advice_on(**hard)
    assert items["T01"].settings == {"train.loss.kind": "dice_focal"}
    assert "tumor" in items["T01"].reason
    assert items["T03"].settings == {"train.foreground_fraction": 0.5}
    assert items["T02"].settings == {}
    assert "oversampled already" in items["T02"].headline


def test_a_class_that_is_never_labelled_is_not_called_hard():
    assert advice_on(shares=(0.02, 0.0), presence=(1.0, 0.0))["T03"].settings == {}


def test_unequal_classes_get_weights_where_nothing_is_oversampled():
    items = advice_on(shares=(0.06, 0.002))
    assert items["T02"].settings["train.loss.class_weights"] == pytest.approx(
        {"background": 0.316, "liver": 1.0, "tumor": 3.162}
    )


@given(st.lists(st.floats(1e-7, 0.2), min_size=1, max_size=4))
def test_weights_are_never_more_than_ten_times_apart(shares):
    names = tuple(f"class {n}" for n in range(len(shares)))
    weights = class_weights(replace(USUAL, names=names, shares=tuple(shares)), 10.0)
    assert set(weights) == {"background", *names}
    assert max(weights.values()) / min(weights.values()) <= 10.01


def test_a_class_that_patches_rarely_hit_is_sampled_more():
    few = (PatchHits((30, 30, 30), (0.5, 0.01), 8),)
    assert advice_on(hits=few)["T03"].settings == {"train.foreground_fraction": 0.5}


def test_missing_classes_speak_for_batch_dice_and_declared_cases():
    item = advice_on(presence=(1.0, 0.9))["T04"]
    assert item.settings == {"train.loss.batch_dice": True}
    assert "tumor is missing in 10%" in item.reason
    assert "declare these cases in task.unannotated" in item.reason


def test_sides_of_the_body_forbid_mirroring():
    item = advice_on(names=("kidney_left", "kidney_right"))["T05"]
    assert item.settings == {"train.mirror_axes": []}


def test_a_class_smaller_than_a_few_voxels_asks_for_finer_spacing():
    assert advice_on(class_voxels=(80_000.0, 30.0))["T07"].settings == {}
    item = advice_on(class_voxels=(80_000.0, 9.0))["T07"]
    assert item.settings == {"train.spacing_mm": [0.8, 0.8, 1.0]}
    none_finer = advice_on(class_voxels=(80_000.0, 9.0), fine_spacing_mm=(1.0, 1.0, 2.0))["T07"]
    assert none_finer.settings == {}


def test_few_validation_cases_are_named():
    assert "Fewer than 5" in advice_on(fewest_validation=("tumor", 3, 20))["T08"].reason
    assert "Fewer than 5" not in advice_on()["T08"].reason


def test_hit_probabilities_of_the_smallest_patch_are_kept_for_the_report():
    hits = (PatchHits((60, 60, 30), (0.9, None), 8), PatchHits((128, 128, 64), (1.0, 0.9), 8))
    assert advise(replace(USUAL, hits=hits), CONFIG).patch_hits == {"liver": 0.9}
    assert advise(USUAL, CONFIG).patch_hits == {"liver": 0.9, "tumor": 0.5}
    assert advise(replace(USUAL, hits=()), CONFIG).patch_hits == {}


def test_without_usable_cases_there_is_no_advice():
    assert advise(None, CONFIG).items == ()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shares": (0.06, 0.002)},
        {"shares": (0.02, 5e-5), "names": ("left lung", "no: tumor")},
        {"class_voxels": (1.0, 1.0)},
    ],
)
def test_the_file_loads_as_an_experiment_and_sets_what_it_says(tmp_path, changes):
    advice = advise(replace(USUAL, **changes), CONFIG)
    file = tmp_path / "advice.yaml"
    file.write_text(render_yaml(advice))
    train = load_experiment(file).train
    assert train.loss.kind == advice.settings["train.loss.kind"]
    weights = advice.settings.get("train.loss.class_weights")
    assert train.loss.class_weights == weights
    spacing = advice.settings.get("train.spacing_mm")
    assert train.spacing_mm == (None if spacing is None else tuple(spacing))
    assert file.read_text().count("# T0") == 8
    assert max(len(line) for line in file.read_text().splitlines()) <= 110


def test_the_audit_leaves_advice_in_both_forms(tmp_path):
    workspace = audited(tmp_path, n_cases=4)
    folder = workspace.stage_dir("audit")
    advice = read_artifact(folder / "advice.json", Advice, made_by="audit")
    assert len(advice.items) == 8
    assert "measured on 4 cases" in advice.items[2].reason
    assert load_experiment(folder / "advice.yaml").train.loss.kind == "dice_ce"


def test_regions_get_no_class_weights():
    shares = {"shares": (0.1, 0.001), "presence": (1.0, 1.0)}
    assert advice_on(**shares)["T02"].settings
    assert advice_on(**shares, has_regions=True)["T02"].settings == {}
