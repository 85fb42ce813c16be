"""Finding recorded runs again: which run a work folder made, and the scores of a run by its id."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import MissingInputError
from pipeline.tracking.link import Target
from pipeline.tracking.location import prepare_environment, public_uri
from pipeline.tracking.state import read_state

if TYPE_CHECKING:  # imports MLflow, which takes seconds
    from pipeline.tracking.store import Store

# As long as `voxline runs` prints them, or in full.
_RUN_ID = re.compile(r"^[0-9a-f]{8,32}$")
_ID_LENGTH = 32


@dataclass(frozen=True)
class FetchedFile:
    """A file of a recorded run, copied here.

    Args:
        run_id: MLflow's id.
        run_name: Name of the run.
        file: The copy.
    """

    run_id: str
    run_name: str
    file: Path


def is_run_id(text: str) -> bool:
    """Whether a text looks like the id of an MLflow run, or the first 8 letters of one."""
    return _RUN_ID.match(text) is not None


def run_id_of(work: Path, parent_key: str | None) -> str | None:
    """Find MLflow's id of the run that a work folder made.

    Args:
        work: The work folder.
        parent_key: Our key of the parent run; None for the present one.

    Returns:
        The id; None if nothing was recorded or sent.
    """
    state = read_state(work / "tracking")
    return None if state is None else state.run_ids.get(parent_key or state.parent)


def fetch_file(target: Target, run_id: str, name: str, folder: Path) -> FetchedFile:
    """Copy an artifact of a recorded run.

    Args:
        target: Where runs are recorded.
        run_id: MLflow's id, or its beginning if only one of the listed runs begins so.
        name: Path of the artifact, such as "scores.csv".
        folder: Gets a folder named after the run, with the file.

    Returns:
        The copy.

    Raises:
        MissingInputError: If there is no such run, or it has no such file.
    """
    prepare_environment()
    from pipeline.tracking.store import CLIENT_ERRORS, open_store  # takes seconds

    try:
        store = open_store(target.uri, target.experiment, target.artifacts)
        client, run_id = store.client, _full_id(store, run_id)
        run = client.get_run(run_id)
        run_name = str(run.info.run_name)
        own = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', run_name)}-{run_id[:8]}"
        own.mkdir(parents=True, exist_ok=True)
        file = Path(client.download_artifacts(run_id, name, str(own)))
    except CLIENT_ERRORS as error:
        raise MissingInputError(
            f"run {run_id} cannot be read, or it has no {name}: {error}",
            where=public_uri(target.uri),
            fix="copy the id from 'voxline runs'; name the parent run, which carries the scores; "
            "give --work or tracking.uri if it is in another store",
        ) from error
    return FetchedFile(run_id, run_name, file)


def _full_id(store: "Store", beginning: str) -> str:
    """The id of the listed run that begins so; any other text as it is."""
    from pipeline.tracking.view import parent_runs

    if len(beginning) == _ID_LENGTH:
        return beginning
    ids = [str(run.info.run_id) for run in parent_runs(store)]
    matching = [run_id for run_id in ids if run_id.startswith(beginning)]
    return matching[0] if len(matching) == 1 else beginning


def run_links(target: Target, run_ids: Mapping[str, str]) -> dict[str, str]:
    """Links to runs in MLflow's UI, in Markdown.

    Args:
        target: Where runs are recorded.
        run_ids: MLflow ids by the name to show.

    Returns:
        Links by name; runs that are not in this store are left out.
    """
    if not run_ids:
        return {}
    prepare_environment()
    from pipeline.tracking.store import CLIENT_ERRORS, open_store

    links = {}
    try:
        client = open_store(target.uri, target.experiment, target.artifacts).client
    except CLIENT_ERRORS:
        return {}
    for name, run_id in run_ids.items():
        try:
            experiment_id = client.get_run(run_id).info.experiment_id
        except CLIENT_ERRORS:
            continue
        shown = name.replace("[", "(").replace("]", ")")
        links[name] = f"[{shown}](#/experiments/{experiment_id}/runs/{run_id})"
    return links
