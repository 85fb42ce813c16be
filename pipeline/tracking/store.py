"""Opening an MLflow store so that it works at once, for several processes, and quickly fails."""

import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.tracking.location import database_file

# What a client can raise for reasons outside this program.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    *(MlflowException, SQLAlchemyError, CommandError, sqlite3.Error),
    *(OSError, ValueError, TypeError, LookupError, RuntimeError),
)
# Sending the same thing again would fail again.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse.", "9p")
_PROBE_TIMEOUT_S = 3.0
_FIRST_USE_TIMEOUT_S = 120.0
_NOTE = (
    "Voxline: one run per pipeline, with one child run per stage. "
    "Compare the parents; stages, logs and costs are in the children (`+`)."
)


@dataclass(frozen=True)
class Store:
    """An MLflow store that is ready for use.

    Args:
        uri: Its address.
        client: MLflow's client for it.
        experiment_id: The experiment that runs go to.
    """

    uri: str
    client: MlflowClient
    experiment_id: str


def open_store(uri: str, experiment: str, artifacts: Path | None) -> Store:
    """Make a store ready: create the database and the experiment where they are missing.

    Args:
        uri: Absolute URI.
        experiment: Experiment name.
        artifacts: Folder for artifacts, absolute; None lets the server decide.

    Returns:
        The store.

    Raises:
        OSError: If it does not answer, or is locked by other processes for too long.
        MlflowException: If MLflow refuses it.
    """
    probe(uri)
    with _first_use(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _find_experiment(client, experiment, artifacts)
        _use_write_ahead_log(uri)
    return Store(uri=uri, client=client, experiment_id=experiment_id)


def probe(uri: str) -> None:
    """Ask in a few seconds whether a store can take writes now, before MLflow waits for minutes.

    Raises:
        OSError: If a server does not answer.
        sqlite3.OperationalError: If the database is locked.
    """
    database = database_file(uri)
    if database is not None:
        if database.exists():
            with closing(sqlite3.connect(database, timeout=_PROBE_TIMEOUT_S)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
    elif uri.startswith(("http://", "https://")):
        _probe_server(uri)


def is_refusal(error: Exception) -> bool:
    """Tell whether the store understood a request and will never take it."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def _probe_server(uri: str) -> None:
    try:
        address = f"{uri.rstrip('/')}/health"
        with urllib.request.urlopen(address, timeout=_PROBE_TIMEOUT_S):  # noqa: S310 - http(s) only
            pass
    except urllib.error.HTTPError as error:
        error.close()
        # Any answer but a gateway's excuse comes from a living server.
        if error.code in (502, 503, 504):
            raise OSError(f"{error.code} {error.reason}") from error


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    # Processes that create the tables at the same time break each other; MLflow does not lock.
    database = database_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=_FIRST_USE_TIMEOUT_S):
        yield


def _find_experiment(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(
                name,
                artifact_location=artifacts.as_uri() if artifacts else None,
                tags={"mlflow.note.content": _NOTE},
            )
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _use_write_ahead_log(uri: str) -> None:
    # A third faster for us, and the UI can read while a run writes; unsafe on network disks.
    database = database_file(uri)
    if database is None or not database.exists() or _is_on_network(database):
        return
    with closing(sqlite3.connect(database, timeout=_PROBE_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _is_on_network(file: Path) -> bool:
    holding = [p for p in psutil.disk_partitions(all=True) if file.is_relative_to(p.mountpoint)]
    if not holding:
        return False
    closest = max(holding, key=lambda p: len(p.mountpoint))
    return closest.fstype.startswith(_NETWORK_FILE_SYSTEMS)
