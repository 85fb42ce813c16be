"""Links between the run of a pipeline and the runs of its stages, both ways, in their texts."""

from collections.abc import Sequence

from mlflow.entities import Run

from pipeline.tracking.names import DESCRIPTION_TAG, PARENT_TAG, PIPELINE, STAGE_TAG
from pipeline.tracking.store import Store

# Everything after this line in a description is written here and replaced each time.
_MARK = "\n\n---\n"
_MAX_CHILDREN = 200
# A sweep has up to 64 trainings below it; the runs table lists them all.
_MAX_LINKS = 12


def link_stages(store: Store, parent_id: str) -> None:
    """Write into a parent run which stages it has, and into each of them where it belongs.

    Args:
        store: The opened store.
        parent_id: MLflow's id of the parent run.
    """
    parent = store.client.get_run(parent_id)
    children = list(
        store.client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.`{PARENT_TAG}` = '{parent_id}'",
            max_results=_MAX_CHILDREN,
            order_by=["attributes.start_time ASC"],
        )
    )
    if not children:
        return
    _describe(store, parent, f"Stages: {_links(store, children)}")
    above = _link(store, parent, str(parent.info.run_name))
    for child in children:
        if child.data.tags.get(STAGE_TAG) == PIPELINE:
            continue  # a training of its own, which links to its own stages
        others = [c for c in children if c.info.run_id != child.info.run_id]
        beside = f"; others: {_links(store, others)}" if others else ""
        _describe(store, child, f"Stage of {above}{beside}")


def _name(run: Run) -> str:
    stage = run.data.tags.get(STAGE_TAG, "run")
    return str(run.info.run_name) if stage == PIPELINE else stage


def _links(store: Store, runs: Sequence[Run]) -> str:
    """The last of them: among many trainings the stages that sum them up come at the end."""
    n_more = len(runs) - _MAX_LINKS
    shown = [_link(store, run, _name(run)) for run in runs[-_MAX_LINKS:]]
    return " · ".join([*([f"{n_more} more in the runs table"] if n_more > 0 else []), *shown])


def _link(store: Store, run: Run, text: str) -> str:
    shown = text.replace("[", "(").replace("]", ")")
    return f"[{shown}](#/experiments/{store.experiment_id}/runs/{run.info.run_id})"


def _describe(store: Store, run: Run, links: str) -> None:
    own = run.data.tags.get(DESCRIPTION_TAG, "").partition(_MARK)[0]
    text = f"{own}{_MARK}{links}"
    if run.data.tags.get(DESCRIPTION_TAG) != text:
        store.client.set_tag(run.info.run_id, DESCRIPTION_TAG, text)
