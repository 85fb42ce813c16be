"""Ending runs whose process died without saying so, as after SIGKILL or a power cut."""

import logging

from mlflow.entities import Run, ViewType

from pipeline.tracking.names import HEARTBEAT_TAG, PROCESS_TAG
from pipeline.tracking.processes import is_dead
from pipeline.tracking.store import Store

_MAX_RUNS = 500

_log = logging.getLogger(__name__)


def end_stale_runs(store: Store) -> list[str]:
    """Mark as KILLED what says that it is running, on this machine, by a process that is gone.

    Args:
        store: The opened store.

    Returns:
        Ids of the runs that were marked.
    """
    running = store.client.search_runs(
        [store.experiment_id],
        filter_string="attributes.status = 'RUNNING'",
        run_view_type=ViewType.ACTIVE_ONLY,
        max_results=_MAX_RUNS,
    )
    stale = [run for run in running if is_dead(run.data.tags.get(PROCESS_TAG, ""))]
    for run in stale:
        store.client.set_terminated(run.info.run_id, "KILLED", _last_sign_of_life(run))
    if stale:
        _log.info("tracking: %d runs of dead processes are marked as killed", len(stale))
    return [run.info.run_id for run in stale]


def _last_sign_of_life(run: Run) -> int:
    heartbeat = run.data.tags.get(HEARTBEAT_TAG, "")
    return int(heartbeat) if heartbeat.isdigit() else int(run.info.start_time)
