"""How the runs look in MLflow's UI: colors, columns, and the link that shows them.

The tags used here are not documented by MLflow; a test opens the real UI to see that they work.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from mlflow.entities import Run, ViewType

from pipeline.tracking.names import COLOR_TAG, HEADLINE_TAG, PICTURES, PIPELINE, STAGE_TAG
from pipeline.tracking.store import Store

VIEW_KEY = "voxline"

_PICTURES_TAG = "mlflow.loggedImages"
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_N_RUNS_LOOKED_AT = 200
_MAX_METRIC_COLUMNS = 8
# Results come first in the table, curves first among the charts; groups not named come in between.
_TABLE_ORDER = ("test", "final", "val")
# The best of a sweep was chosen by its score, which therefore stands beside no other.
_NOT_IN_TABLE = (
    *("train", "infer", "audit", "ingest", "compare"),
    *("cross_validation", "sweep", "lr_find"),
)
_COSTS = ("cost/training_min", "cost/peak_memory_mb", "cost/gpu_hours")
# Shown also where all runs agree: without them a Dice says little.
_MAIN_PARAMS = ("loss", "budget_minutes", "epochs", "steps")
_CHART_ORDER = ("val", PICTURES, "test", "final", "train")
_FOLDED_CHARTS = ("cost", "infer", "audit", "ingest")
_PIXELS_PER_LETTER = 8
# Pictures are wide and share their card with the parameters of the run.
_PICTURE_SIZE: dict[str, str | bool | int] = {"columns": 2, "cardHeight": 560}
_MAX_PARAM_COLUMNS = 5

# Okabe and Ito's colors, which color-blind people can tell apart, and darker sisters of them.
_PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d00", "#5d3a9b"),
    *("#004c78", "#005c44", "#8a3c00", "#8f4a70", "#1a85ff", "#d41159", "#4b0092", "#6b8e23"),
)


def parent_runs(store: Store) -> list[Run]:
    """List the runs that people compare, newest first, at most 200 of them."""
    return list(
        store.client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.{STAGE_TAG} = '{PIPELINE}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=_N_RUNS_LOOKED_AT,
            order_by=["attributes.start_time DESC"],
        )
    )


def free_color(store: Store) -> str:
    """Choose the color that the fewest runs have, as #rrggbb."""
    used = Counter(run.data.tags.get(COLOR_TAG) for run in parent_runs(store))
    return min(_PALETTE, key=lambda color: (used[color], _PALETTE.index(color)))


def refresh_view(store: Store) -> None:
    """Save the view of the runs table: parents only, headline numbers, and knobs that differ."""
    runs = parent_runs(store)
    if runs:
        value = saved_view(_headlines(runs), _differing_params(runs), _sections(runs))
        store.client.set_experiment_tag(store.experiment_id, _VIEW_TAG, value)


def saved_view(metrics: Sequence[str], params: Sequence[str], sections: Sequence[str]) -> str:
    """Write the state of the runs table and of the charts as MLflow's UI reads it.

    Args:
        metrics: Metric columns, most important first.
        params: Parameter columns, most important first.
        sections: Chart sections, most important first.

    Returns:
        JSON text.
    """
    columns = [
        *(f"params.`{name}`" for name in params[:_MAX_PARAM_COLUMNS]),
        *(f"metrics.`{name}`" for name in metrics[:_MAX_METRIC_COLUMNS]),
        "attributes.`Dataset`",
    ]
    state = {
        "searchFilter": f"tags.{STAGE_TAG} = '{PIPELINE}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["1", "attributes.`Run Name`", *columns, "runDateAndNestInfo", "duration"],
        "columnWidths": {
            **{name: 40 + _PIXELS_PER_LETTER * len(name.split("`")[1]) for name in columns},
            "attributes.`Run Name`": 260,
            "attributes.`Dataset`": 320,
        },
        # The UI fills the sections with charts; it sorts them by name unless told otherwise.
        "isAccordionReordered": True,
        "compareRunCharts": [],
        "compareRunSections": [_section(name) for name in sections],
    }
    return json.dumps(state)


def runs_link(address: str, experiment_id: str) -> str:
    """Link to the runs table; MLflow's bare address opens a page without runs.

    Args:
        address: Of the server, such as http://127.0.0.1:5000.
        experiment_id: Which runs.

    Returns:
        A URL for a browser.
    """
    return (
        f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
    )


def _headlines(runs: Iterable[Run]) -> list[str]:
    names: Counter[str] = Counter()
    for run in runs:
        try:
            names.update(json.loads(run.data.tags.get(HEADLINE_TAG, "[]")))
        except (ValueError, TypeError):
            continue
    # Results before what explains them; within a group, as they were recorded.
    ordered = sorted(names, key=lambda name: (_rank(name, _TABLE_ORDER), -names[name]))
    costs = [name for name in _COSTS if name in names]
    results = [n for n in ordered if _group(n) not in _NOT_IN_TABLE and n not in costs]
    # What a run costs is always among the columns, however many classes there are.
    return [*results[: _MAX_METRIC_COLUMNS - len(costs)], *costs]


def _sections(runs: Iterable[Run]) -> list[str]:
    runs = list(runs)
    # MLflow's rule: what stands before the last "/" names the section.
    names = {name.rpartition("/")[0] for run in runs for name in run.data.metrics} - {""}
    if any(_PICTURES_TAG in run.data.tags for run in runs):
        names.add(PICTURES)
    return sorted(names, key=lambda name: (_group(name) in _FOLDED_CHARTS, _rank(name), name))


def _section(name: str) -> dict[str, str | bool | int]:
    section: dict[str, str | bool | int] = {
        "uuid": f"voxline-{name}",
        "name": name,
        "display": _group(name) not in _FOLDED_CHARTS,
        "isReordered": False,
        "deleted": False,
        "isGenerated": True,
    }
    return section | _PICTURE_SIZE if name == PICTURES else section


def _group(name: str) -> str:
    return name.split("/")[0]


def _rank(name: str, order: Sequence[str] = _CHART_ORDER) -> int:
    return order.index(_group(name)) if _group(name) in order else len(order)


def _differing_params(runs: Sequence[Run]) -> list[str]:
    # Comparisons of runs have knobs of their own and none of theirs: beside them all would differ.
    knobs = [
        {name: text for name, text in run.data.params.items() if not name.startswith("compare.")}
        for run in runs
    ]
    trainings = [params for params in knobs if params]
    names = dict.fromkeys(name for params in trainings for name in params)
    values = {name: {params.get(name) for params in trainings} for name in names}
    main = [name for name in _MAIN_PARAMS if name in names]
    differing = [name for name in names if len(values[name]) > 1 and name not in main]
    return [*main, *differing]
