from mlflow.entities import Run, RunData, RunInfo

from pipeline.tracking.crosslinks import _links
from pipeline.tracking.names import DESCRIPTION_TAG


def test_stages_and_their_pipeline_link_to_each_other(place):
    with place.open(stage="audit", run_name="my run"):
        pass
    with place.open(stage="train") as tracker:
        tracker.set_tags({"description": "**Mean Dice 0.9**"})
    parent, (audit, train) = place.parent(), place.children()
    text = parent.data.tags[DESCRIPTION_TAG]
    assert text.startswith("**Mean Dice 0.9**\n\n---\nStages: [audit](#/experiments/")
    assert text.count(audit.info.run_id) == text.count(train.info.run_id) == 1
    below = audit.data.tags[DESCRIPTION_TAG]
    assert f"Stage of [my run](#/experiments/{place.store.experiment_id}/runs/" in below
    assert parent.info.run_id in below
    assert f"[train](#/experiments/{place.store.experiment_id}/runs/{train.info.run_id})" in below


def test_links_are_replaced_not_repeated(place):
    for stage in ("ingest", "audit", "train"):
        with place.open(stage=stage):
            pass
    text = place.parent().data.tags[DESCRIPTION_TAG]
    assert text.count("Stages:") == 1
    assert text.count("](#/") == 3


def test_of_very_many_runs_the_last_are_linked(place):
    runs = [
        Run(RunInfo(f"id{n}", "1", "u", "FINISHED", n, n, "active", run_name=f"r{n}"), RunData())
        for n in range(65)
    ]
    text = _links(place.store, runs)
    assert text.startswith("53 more in the runs table · ")
    assert text.count("](#/") == 12
    assert "id64" in text
    assert len(text) < 2000
    assert "more" not in _links(place.store, runs[:12])
