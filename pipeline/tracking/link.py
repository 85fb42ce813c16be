"""The way from a work folder's spools to MLflow: opened late, given up quickly, tried again."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import prepare_environment, public_uri
from pipeline.tracking.spool import Spool, abandoned_spools
from pipeline.tracking.state import TrackingState, read_state, update

if TYPE_CHECKING:  # importing these imports MLflow, which takes seconds
    from pipeline.tracking.sender import Sender
    from pipeline.tracking.store import Store

_LONGEST_PAUSE_S = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where the runs of a work folder go.

    Args:
        uri: Absolute MLflow URI.
        experiment: Experiment name.
        artifacts: Folder for artifacts; None when a server decides.
        folder: The tracking folder of the work folder.
        spools: Folder of the spools for exactly this store and experiment.
    """

    uri: str
    experiment: str
    artifacts: Path | None
    folder: Path
    spools: Path


class Link:
    """Sends spools, with pauses after failures and one warning per outage.

    Args:
        target: Where to send.
        config: How long to pause.
    """

    def __init__(self, target: Target, config: TrackingConfig) -> None:
        self._target = target
        self._retry_s = config.retry_s
        self._pause_s = config.retry_s
        self._not_before_s = 0.0
        self._is_out = False
        self._open: tuple[Store, Sender] | None = None

    def send(self, spool: Spool, *, final: bool) -> bool:
        """Send what waits, unless the last failure is too recent.

        Args:
            spool: The spool of this process; those of dead processes go first.
            final: Try in any case: there will be no later call.

        Returns:
            Whether nothing waits any more.
        """
        if time.monotonic() < self._not_before_s and not final:
            return False
        try:
            prepare_environment()
            from pipeline.tracking.store import CLIENT_ERRORS, probe  # imports MLflow
        except ImportError as error:
            self._fail(error)
            return False
        try:
            _, sender = self._open or self._connect()
            probe(self._target.uri)
            sender.send(spool)
        except CLIENT_ERRORS as error:
            self._fail(error)
            return False
        self._succeed()
        return True

    def refresh_view(self, parent_id: str | None) -> None:
        """Update the columns of the runs table and the links between runs, if the store answers.

        Args:
            parent_id: MLflow's id of the parent run whose stages are linked.
        """
        if self._open is None or self._is_out:
            return
        from pipeline.tracking.crosslinks import link_stages
        from pipeline.tracking.store import CLIENT_ERRORS
        from pipeline.tracking.view import refresh_view

        try:
            refresh_view(self._open[0])
            if parent_id is not None:
                link_stages(self._open[0], parent_id)
        except CLIENT_ERRORS as error:
            _log.debug("tracking: the runs table keeps its columns: %s", error)

    def _connect(self) -> tuple["Store", "Sender"]:
        from pipeline.tracking.sender import Sender
        from pipeline.tracking.stale import end_stale_runs
        from pipeline.tracking.store import open_store

        target = self._target
        store = open_store(target.uri, target.experiment, target.artifacts)
        state = read_state(target.folder)
        sender = Sender(store, state.run_ids if state else {}, self._remember)
        for spool in abandoned_spools(target.spools):
            sender.send(spool)
            spool.discard()
        end_stale_runs(store)
        self._open = (store, sender)
        return self._open

    def _remember(self, key: str, run_id: str) -> None:
        def add(state: TrackingState) -> TrackingState:
            return state.model_copy(update={"run_ids": {**state.run_ids, key: run_id}})

        update(self._target.folder, add)

    def _fail(self, error: Exception) -> None:
        if not self._is_out:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            _log.warning(
                "tracking: %s does not take results (%s); they are kept in %s and sent later",
                public_uri(self._target.uri),
                reason,
                self._target.folder,
            )
        self._is_out = True
        self._not_before_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, max(_LONGEST_PAUSE_S, self._retry_s))

    def _succeed(self) -> None:
        if self._is_out:
            _log.info("tracking: %s is back", public_uri(self._target.uri))
        self._is_out = False
        self._not_before_s = 0.0
        self._pause_s = self._retry_s
