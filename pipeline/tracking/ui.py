"""MLflow's UI on this machine only, started lean, with a link that opens on the runs."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.core.errors import EXIT_DONE, MissingInputError, VoxlineError
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import (
    ARTIFACTS_NAME,
    DATABASE_NAME,
    artifacts_dir,
    database_file,
    local_uri,
    prepare_environment,
    public_uri,
    resolve_uri,
)

DEFAULT_PORT = 5000

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 15.0
# Jobs serve features for language models: 13 processes and 1.2 GB for nothing.
_LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A running server.

    Args:
        address: Such as http://127.0.0.1:5000.
        process: Leader of the process group.
    """

    address: str
    process: subprocess.Popen[bytes]


def serve_ui(
    folder: Path,
    port: int = DEFAULT_PORT,
    *,
    open_browser: bool = False,
    config: TrackingConfig | None = None,
) -> int:
    """Show the recorded runs until Ctrl-C; the link goes to stdout.

    Args:
        folder: A work folder, or the folder that holds work folders.
        port: Wanted port on loopback; a free one is taken if it is in use.
        open_browser: Also open the link.
        config: Where runs are recorded; the defaults if None.

    Returns:
        Exit status 0.

    Raises:
        MissingInputError: If nothing has been recorded there.
        VoxlineError: If the server does not start.
    """
    config = config or TrackingConfig()
    uri = find_store(folder, config)
    experiment_id = _prepare_view(uri, config.experiment, folder)
    if database_file(uri) is None and uri.startswith(("http://", "https://")):
        _show(public_uri(uri), experiment_id, open_browser=open_browser)
        return EXIT_DONE
    with _sigterm_as_interrupt(), running_server(uri, folder, port) as server:
        _show(server.address, experiment_id, open_browser=open_browser)
        sys.stderr.write("Ctrl-C stops the server\n")
        with contextlib.suppress(KeyboardInterrupt):
            server.process.wait()
    return EXIT_DONE


def find_store(folder: Path, config: TrackingConfig) -> str:
    """Find where the runs of a folder are recorded.

    Args:
        folder: A work folder, or the folder that holds work folders.
        config: The user's choice of a store, which wins.

    Returns:
        An absolute URI.

    Raises:
        MissingInputError: If there is no database.
    """
    folder = folder.resolve()
    uri = resolve_uri(config, folder)
    if (folder / DATABASE_NAME).is_file() and uri == local_uri(folder.parent):
        uri = local_uri(folder)
    database = database_file(uri)
    if database is not None and not database.is_file():
        raise MissingInputError(
            "no runs have been recorded yet",
            where=f"{database}, {folder / DATABASE_NAME}",
            fix="run 'voxline train --data FOLDER' first, or name its work folder with --work",
        )
    return uri


@contextlib.contextmanager
def running_server(uri: str, folder: Path, port: int) -> Iterator[Server]:
    """Run an MLflow server on loopback: one worker, no jobs, no telemetry.

    Args:
        uri: A database.
        folder: Decides where artifacts lie if the database is not a file.
        port: Wanted port; another is taken if it is in use.

    Yields:
        The server, once it answers. Its whole process group is stopped at the end.

    Raises:
        VoxlineError: If it ends or does not answer in three minutes.
    """
    free = _free_port(port)
    if port not in (0, free):
        _log.warning("port %d is in use; using %d", port, free)
    artifacts = artifacts_dir(uri, folder) or folder / ARTIFACTS_NAME
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(free)),
        *("--backend-store-uri", uri, "--default-artifact-root", artifacts.as_uri()),
        *("--workers", "1"),
    ]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env={**os.environ, **_LEAN},
            cwd=artifacts.parent,  # MLflow may create ./mlruns
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address = f"http://{_HOST}:{free}"
            if not _wait_until_healthy(address, process):
                output.seek(0)
                last = output.read().decode(errors="replace").strip().splitlines()[-5:]
                raise VoxlineError(
                    "the MLflow server does not start",
                    where=public_uri(uri),
                    fix="\n         ".join(last) or "look at the load of this machine",
                )
            yield Server(address, process)
        finally:
            _stop_group(process)


def _prepare_view(uri: str, experiment: str, folder: Path) -> str:
    prepare_environment()
    sys.stderr.write("reading the runs ...\n")
    from pipeline.tracking.store import CLIENT_ERRORS, open_store  # imports MLflow
    from pipeline.tracking.view import parent_runs, refresh_view

    try:
        store = open_store(uri, experiment, artifacts_dir(uri, folder.resolve()))
        n_runs = len(parent_runs(store))
        refresh_view(store)
    except CLIENT_ERRORS as error:
        raise VoxlineError(
            f"the runs cannot be read: {error}",
            where=public_uri(uri),
            fix="check tracking.uri and MLFLOW_TRACKING_URI, and whether that server runs",
        ) from error
    if n_runs == 0:
        _log.warning("no runs in experiment '%s' yet; they appear as they start", experiment)
    return store.experiment_id


def _show(address: str, experiment_id: str, *, open_browser: bool) -> None:
    from pipeline.tracking.view import runs_link

    link = runs_link(address, experiment_id)
    sys.stdout.write(f"{link}\n")
    sys.stdout.flush()
    if open_browser:
        webbrowser.open(link)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise VoxlineError("no free port on this machine", fix="close other servers")


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> bool:
    give_up_at_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up_at_s and process.poll() is None:
        try:
            # The address is our own, on loopback.
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.2)
    return False


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
            # The leader is gone; workers that outlived it must not hold the port.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: nobody can send us a signal here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
