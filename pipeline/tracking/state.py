"""What tracking remembers of a work folder between stages, in `tracking/state.json`."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from uuid import uuid4

from filelock import FileLock
from pydantic import Field, ValidationError

from pipeline.core.config import StrictModel
from pipeline.core.workspace import write_json


class TrackingState(StrictModel):
    """The parent run of a work folder and what it already knows."""

    schema_version: Literal[1] = 1
    uri: str = Field(description="store, without credentials")
    experiment: str
    parent: str = Field(description="our key of the parent run")
    run_ids: dict[str, str] = Field(default_factory=dict, description="our key to MLflow's id")
    last_steps: dict[str, int] = Field(
        default_factory=dict, description="last step of each curve of the parent"
    )
    headlines: dict[str, float] = Field(
        default_factory=dict, description="last value of each number of the parent without a step"
    )
    params: dict[str, str] = Field(default_factory=dict, description="parameters of the parent")
    tables: dict[str, int] = Field(default_factory=dict, description="tables of the parent")


def new_key() -> str:
    """Make a name for a run that no other run has."""
    return uuid4().hex[:16]


def read_state(folder: Path) -> TrackingState | None:
    """Read the state; None if there is none that can be used."""
    try:
        return TrackingState.model_validate_json((folder / "state.json").read_bytes())
    except (OSError, ValidationError):
        return None


def begin(
    folder: Path, *, uri: str, experiment: str, new_parent: bool, parent: str | None = None
) -> TrackingState:
    """Find the parent run of a work folder, or begin another.

    A parent that is left for another one is remembered and can be taken up again by its key.

    Args:
        folder: The tracking folder of the work folder.
        uri: Store without credentials; another store means another parent.
        experiment: Experiment name; another experiment means another parent.
        new_parent: Begin another parent in any case.
        parent: Key of the parent to go on with; the present one if it is unknown here.

    Returns:
        The state, already on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        state = read_state(folder)
        same = state is not None and (state.uri, state.experiment) == (uri, experiment)
        wanted: TrackingState
        if state is None or not same or new_parent:
            wanted = TrackingState(uri=uri, experiment=experiment, parent=new_key())
        elif parent is not None and parent != state.parent:
            found = _remembered(folder, parent)
            is_ours = found is not None and (found.uri, found.experiment) == (uri, experiment)
            wanted = found if found is not None and is_ours else state
        else:
            wanted = state
        if wanted is not state:
            if state is not None:
                write_json(folder / f"parent-{state.parent}.json", state)
            write_json(folder / "state.json", wanted)
    return wanted


def _remembered(folder: Path, parent: str) -> TrackingState | None:
    try:
        text = (folder / f"parent-{parent}.json").read_bytes()
        return TrackingState.model_validate_json(text)
    except (OSError, ValidationError):
        return None


def update(folder: Path, change: Callable[[TrackingState], TrackingState]) -> None:
    """Change the state on disk; other processes of the same work folder wait meanwhile."""
    with _lock(folder):
        state = read_state(folder)
        if state is not None:
            write_json(folder / "state.json", change(state))


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "state.lock", timeout=30)
