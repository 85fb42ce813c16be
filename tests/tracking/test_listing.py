import pytest

from pipeline.core.errors import MissingInputError
from pipeline.tracking.listing import best_scores, list_runs


def test_runs_are_rows_with_what_people_compare(place):
    with place.open(run_name="dice-10min") as tracker:
        tracker.log_params({"loss": "dice", "budget_minutes": 10.0})
        tracker.log_dataset(name="Hippo", digest="abc123", context="train")
        tracker.log_metrics({"final/dice_mean": 0.8, "final/dice_Anterior": 0.9})
    with place.open(run_name="never-scored", new_parent=True):
        pass
    newest, first = list_runs(place.workspace.root, place.config)
    assert (newest.name, newest.scored_on, dict(newest.dice)) == ("never-scored", "", {})
    assert (first.name, first.status, first.budget) == ("dice-10min", "FINISHED", "10.0 min")
    assert first.dataset == "Hippo abc123"
    assert first.scored_on == "final"
    assert first.dice == {"mean": 0.8, "Anterior": 0.9}


def test_scores_on_other_data_beat_those_of_the_fold():
    metrics = {"val/dice_mean": 0.1, "final/dice_mean": 0.2, "test/dice_mean": 0.3, "test/iou": 0.9}
    assert best_scores(metrics) == ("test", {"mean": 0.3})
    assert best_scores({"train/loss": 1.0}) == ("", {})


def test_no_runs_is_a_clear_message(tmp_path, place):
    with pytest.raises(MissingInputError, match="no runs"):
        list_runs(tmp_path / "work", place.config)
    _ = place.store  # an experiment without a run
    with pytest.raises(MissingInputError, match="no runs in experiment"):
        list_runs(place.workspace.root, place.config)
