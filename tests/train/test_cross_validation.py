"""Folds are pooled case by case, and only those that belong together; seeds give a spread."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from workfolders import audited, quick

from pipeline.artifacts import ModelCard, Splits, read_artifact
from pipeline.core.errors import DataError, MissingInputError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import write_json
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.score_table import write_scores_csv
from pipeline.metrics.scores import score_label_maps
from pipeline.train.cross_validation import FoldResult, pool_folds, spread, spread_of_seeds
from pipeline.train.select import select_training
from pipeline.train.stage import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[ModelCard, Path]:
    """One real training, whose card is the pattern for those of other folds and seeds."""
    workspace = audited(tmp_path_factory.mktemp("pool"), 5)
    result = train(select_training(quick(steps=2), workspace), workspace, NullTracker())
    return result.card, workspace.root


def scored(case_id: str, n_shifted: int):
    """A case of one class whose Dice is (10 - n) / 10."""
    reference, prediction = np.zeros((30, 2, 2), int), np.zeros((30, 2, 2), int)
    reference[:10] = 1
    prediction[n_shifted : 10 + n_shifted] = 1
    return score_label_maps(
        case_id,
        prediction=prediction,
        reference=reference,
        class_names=["liver", "kidney"],
        spacing_mm=(1.0, 1.0, 1.0),
    )


def fold_of(pattern: ModelCard, folder: Path, name: str, cases, **changes) -> FoldResult:
    write_scores_csv(folder / f"fold_{name}" / "validation" / "scores.csv", cases)
    info = pattern.info.model_copy(update={"fold": name, **changes})
    card = pattern.model_copy(update={"info": info})
    ids = tuple(case.case_id for case in cases)
    return FoldResult(folder / f"fold_{name}", card, quick(fold=name), ids)


def test_every_case_counts_once_and_the_same(trained, tmp_path):
    card, _ = trained
    first = fold_of(card, tmp_path, "0", [scored("c", 1), scored("a", 2), scored("d", 3)])
    second = fold_of(card, tmp_path, "1", [scored("b", 8)])
    summary, scores = pool_folds([first, second], {})
    assert [case.case_id for case in scores] == ["a", "b", "c", "d"]
    assert summary.n_cases == 4
    # Not the mean of the two means of folds, which would be 0.5.
    assert summary.classes["liver"].dice.mean == pytest.approx((0.9 + 0.8 + 0.7 + 0.2) / 4)
    assert summary.classes["kidney"].dice.n == 0
    assert summary.classes["kidney"].n_absent == 4


def test_patients_are_resampled_with_all_their_cases(trained, tmp_path):
    card, _ = trained
    fold = fold_of(card, tmp_path, "0", [scored(name, k) for k, name in enumerate("abcdef")])
    together, _ = pool_folds([fold], {"a": "p", "b": "p", "c": "p"})
    assert together.classes["liver"].dice.n_patients == 4


def test_scans_of_one_patient_are_no_independent_cases_of_a_fold(tmp_path):
    workspace = audited(tmp_path, 5)
    splits = read_artifact(workspace.splits_file, Splits, made_by="audit")
    cases = [case_id for fold in splits.folds for case_id in (*fold.train, *fold.validation)]
    groups = dict.fromkeys(cases, "one patient")
    write_json(workspace.splits_file, splits.model_copy(update={"groups": groups}))
    training = select_training(quick(steps=2), workspace)
    assert training.groups == groups


def test_folds_of_different_experiments_are_refused(trained, tmp_path):
    card, _ = trained
    first = fold_of(card, tmp_path, "0", [scored("a", 1)])
    data = fold_of(card, tmp_path, "1", [scored("b", 1)], dataset_digest="other")
    with pytest.raises(DataError, match="folds 0 and 1 cannot be pooled: different data"):
        pool_folds([first, data], {})
    same = fold_of(card, tmp_path, "2", [scored("c", 1)])
    knob = FoldResult(same.folder, same.card, quick(fold="2", seed=7), same.case_ids)
    with pytest.raises(DataError, match="different configuration"):
        pool_folds([first, knob], {})
    task = card.info.task.model_copy(update={"classes": card.info.task.classes[:1]})
    other = fold_of(card, tmp_path, "3", [scored("d", 1)], task=task)
    with pytest.raises(DataError, match="different task"):
        pool_folds([first, other], {})


def test_how_often_progress_is_saved_is_no_difference(trained, tmp_path):
    card, _ = trained
    first = fold_of(card, tmp_path, "0", [scored("a", 1)])
    second = fold_of(card, tmp_path, "1", [scored("b", 1)])
    often = quick(fold="1", checkpoint_minutes=0.1)
    summary, _ = pool_folds([first, FoldResult(second.folder, card, often, ("b",))], {})
    assert summary.n_cases == 2


def test_scores_that_are_not_of_the_fold_are_refused(trained, tmp_path):
    card, _ = trained
    first = fold_of(card, tmp_path, "0", [scored("a", 1)])
    again = fold_of(card, tmp_path, "1", [scored("a", 1)])
    with pytest.raises(DataError, match="more than one fold"):
        pool_folds([first, again], {})
    fewer = FoldResult(first.folder, first.card, first.config, ("a", "b"))
    with pytest.raises(DataError, match="not those of its validation cases"):
        pool_folds([fewer], {})
    gone = FoldResult(tmp_path / "nowhere", first.card, first.config, ("a",))
    with pytest.raises(MissingInputError, match="no table of scores"):
        pool_folds([gone], {})


def test_pooling_one_real_fold_gives_its_own_summary(trained):
    card, root = trained
    splits = read_artifact(root / "audit" / "splits.json", Splits, made_by="audit")
    fold = FoldResult(root / "train" / "fold_0", card, quick(steps=2), splits.folds[0].validation)
    summary, scores = pool_folds([fold], splits.groups)
    assert card.validation is not None
    assert summary.n_cases == card.validation.n_cases == len(scores)
    assert summary.mean_foreground_dice == pytest.approx(card.validation.mean_foreground_dice)


def test_spread_is_the_sample_standard_deviation():
    found = spread([0.8, 0.9, 1.0])
    assert (found.mean, found.min, found.max) == (pytest.approx(0.9), 0.8, 1.0)
    assert found.sd == pytest.approx(0.1)
    assert spread([0.8]).sd is None
    nothing = spread([None, None])
    assert (nothing.n_seeds, nothing.mean, nothing.sd, nothing.min) == (0, None, None, None)
    assert spread([None, 0.5]).n_seeds == 1


def card_with(pattern: ModelCard, cases, **changes) -> ModelCard:
    info = pattern.info.model_copy(update=changes)
    validation = summarize(cases, ["liver", "kidney"], n_bootstrap=0)
    return pattern.model_copy(update={"info": info, "validation": validation})


def test_seeds_are_compared_class_by_class(trained):
    card, _ = trained
    cards = {s: card_with(card, [scored("a", s), scored("b", s)]) for s in (1, 3)}
    summary = spread_of_seeds(cards)
    assert summary.seeds == (1, 3)
    assert summary.n_cases == 2
    assert summary.classes["liver"].values == (pytest.approx(0.9), pytest.approx(0.7))
    assert summary.classes["liver"].sd == pytest.approx(0.2 / math.sqrt(2))
    assert summary.classes["kidney"].n_seeds == 0
    assert json.loads(summary.model_dump_json())["classes"]["kidney"]["mean"] is None


def test_seeds_of_different_trainings_are_refused(trained):
    card, _ = trained
    one = card_with(card, [scored("a", 1)])
    for other in (
        card_with(card, [scored("a", 1)], fold="1"),
        card_with(card, [scored("a", 1)], dataset_digest="other"),
        card_with(card, [scored("a", 1), scored("b", 1)]),
        one.model_copy(update={"validation": None}),
    ):
        with pytest.raises(DataError, match="not of one fold"):
            spread_of_seeds({0: one, 1: other})
