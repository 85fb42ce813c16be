"""Opening the tracker around a stage, and ending its run with the truth about how it went."""

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from pipeline.core.errors import EXIT_INTERRUPTED, InterruptedByUserError
from pipeline.core.tracker import NullTracker, Tracker
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.link import Target
from pipeline.tracking.location import artifacts_dir, public_uri, resolve_uri
from pipeline.tracking.spool import RunStatus
from pipeline.tracking.state import begin
from pipeline.tracking.tracker import MlflowTracker

_EXIT_TERMINATED = 128 + signal.SIGTERM

_log = logging.getLogger(__name__)


@contextmanager
def open_tracker(  # noqa: PLR0913  # keyword-only, each with a default
    config: TrackingConfig,
    workspace: Workspace,
    *,
    stage: str,
    run_name: str | None = None,
    new_parent: bool = False,
    parent: str | None = None,
    members: Sequence[str] = (),
) -> Iterator[Tracker]:
    """Record a stage while the block runs.

    The block's fate becomes the status of the runs: FINISHED, FAILED on an exception, KILLED on
    Ctrl-C and SIGTERM. Only one process of a distributed training may open a tracker.

    Args:
        config: Where to record; may switch tracking off.
        workspace: The work folder; its stages share one parent run.
        stage: Name of the stage, which becomes the child run.
        run_name: Name of the parent run, with what differs first; None keeps the present one.
        new_parent: Begin another parent run, as for another training in the same work folder.
        parent: `Tracker.parent_key` of an earlier stage to go on with; None keeps the present one.
        members: `Tracker.parent_key` of trainings whose runs are put below the parent run.

    Yields:
        A tracker; one that does nothing when tracking is off or cannot even write to disk.

    Raises:
        ConfigError: If the configured URI is not one that MLflow accepts.
    """
    if not config.enabled:
        yield NullTracker()
        return
    target = find_target(config, workspace)
    try:
        state = begin(
            target.folder,
            uri=public_uri(target.uri),
            experiment=target.experiment,
            new_parent=new_parent,
            parent=parent,
        )
        tracker = MlflowTracker(
            target, config, state, stage=stage, run_name=run_name, members=members
        )
    except OSError as error:
        _log.warning("tracking is off: %s cannot be written: %s", target.folder, error)
        yield NullTracker()
        return
    with _sigterm_as_exit():
        try:
            tracker.flush()
            yield tracker
        except BaseException as error:
            tracker.close(_status_of(error))
            raise
        tracker.close("FINISHED")


def find_target(config: TrackingConfig, workspace: Workspace) -> Target:
    """Decide where the runs of a work folder go.

    Raises:
        ConfigError: If the configured URI is not one that MLflow accepts.
    """
    uri = resolve_uri(config, workspace.root)
    folder = workspace.root.resolve() / "tracking"
    # What was meant for one store must not end up, in part, in another.
    which = hashlib.sha256(f"{public_uri(uri)} {config.experiment}".encode()).hexdigest()[:8]
    return Target(
        uri=uri,
        experiment=config.experiment,
        artifacts=artifacts_dir(uri, workspace.root),
        folder=folder,
        spools=folder / f"spools-{which}",
    )


def _status_of(error: BaseException) -> RunStatus:
    match error:
        case KeyboardInterrupt() | InterruptedByUserError():
            return "KILLED"
        case SystemExit(code=None | 0):
            return "FINISHED"
        case SystemExit(code=code) if code in (EXIT_INTERRUPTED, _EXIT_TERMINATED):
            return "KILLED"
        case _:
            return "FAILED"


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    # By default SIGTERM ends Python without a word, and the run would be RUNNING for ever.
    # A handler that somebody else has set is left alone.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def leave(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker, which has no run to end
            os._exit(128 + number)
        raise SystemExit(_EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
