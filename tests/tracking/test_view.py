"""The runs table shows results first and only what differs."""

import json

from PIL import Image

from pipeline.tracking.view import refresh_view, runs_link, saved_view

TAG = "mlflow.sharedViewState.voxline"


def _view(place) -> dict:
    return json.loads(place.client.get_experiment(place.store.experiment_id).tags[TAG])


def test_columns_are_results_and_differing_knobs(place, tmp_path):
    for loss, dice in (("dice", 0.8), ("focal", 0.7)):
        with place.open("ingest", new_parent=True) as tracker:
            tracker.log_metrics({"ingest/n_cases": 20})
        with place.open("train", run_name=loss) as tracker:
            tracker.log_params({"loss": loss, "seed": 1})
            tracker.log_metrics({"train/loss": 0.1}, step=1)
            tracker.log_metrics({"val/dice": dice}, step=1)
            tracker.log_metrics({"final/dice": dice})
            Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
            tracker.log_picture(tmp_path / "a.png", key="case_1", step=0)
        with place.open("evaluate") as tracker:
            tracker.log_metrics({"test/dice_mean": dice})
    view = _view(place)
    assert view["searchFilter"] == "tags.stage = 'pipeline'"
    assert view["selectedColumns"] == [
        "params.`loss`",
        "metrics.`test/dice_mean`",
        "metrics.`final/dice`",
        "attributes.`Dataset`",
    ]
    sections = [(s["name"], s["display"]) for s in view["compareRunSections"]]
    assert sections == [
        ("val", True),
        ("pictures", True),
        ("test", True),
        ("final", True),
        ("train", True),
        ("ingest", False),
    ]


def test_the_score_that_chose_the_best_of_a_sweep_is_no_column(place):
    with place.open("sweep") as tracker:
        tracker.log_metrics({"sweep/best_dice_mean": 0.9, "cost/training_min": 5.0})
    columns = _view(place)["selectedColumns"]
    assert "metrics.`cost/training_min`" in columns
    assert not [name for name in columns if "sweep" in name]


def test_a_comparison_does_not_make_every_knob_differ(place):
    for loss in ("dice", "focal"):
        with place.open("train", new_parent=True) as tracker:
            tracker.log_params({"loss": loss, "seed": 1})
    with place.open("compare", new_parent=True) as tracker:
        tracker.log_params({"compare.metric": "dice"})
    assert _view(place)["selectedColumns"] == ["params.`loss`", "attributes.`Dataset`"]


def test_one_run_shows_its_knobs(place):
    with place.open() as tracker:
        tracker.log_params({"loss": "dice"})
    assert "params.`loss`" in _view(place)["selectedColumns"]


def test_an_empty_experiment_has_no_view(place):
    refresh_view(place.store)
    assert TAG not in place.client.get_experiment(place.store.experiment_id).tags


def test_colors_differ_as_long_as_they_can(place):
    for _ in range(5):
        with place.open(new_parent=True):
            pass
    assert len({run.data.tags["mlflow.runColor"] for run in place.parents()}) == 5


def test_columns_are_few():
    names = [f"n{n}" for n in range(50)]
    assert len(json.loads(saved_view(names, names, names))["selectedColumns"]) <= 15


def test_link_opens_the_runs():
    assert runs_link("http://127.0.0.1:5000/", "7") == (
        "http://127.0.0.1:5000/#/experiments/7/runs"
        "?workflowType=machine_learning&viewStateShareKey=voxline"
    )
