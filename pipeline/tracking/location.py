"""Which MLflow store is used, and how MLflow must be set up before it is imported."""

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pipeline.core.errors import ConfigError
from pipeline.tracking.config import TrackingConfig

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlflow-artifacts"

_SQLITE = "sqlite:///"
_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# A dead server must cost seconds, not the four minutes of MLflow's own defaults; what is not sent
# is spooled and sent later, so MLflow need not be patient.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_environment() -> None:
    """Set MLflow's environment variables, where the user has not, and quieten its loggers.

    Call it before the first import of mlflow.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # One warning per outage is ours to give; retries and migrations are noise on the terminal.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def resolve_uri(config: TrackingConfig, work_dir: Path) -> str:
    """Decide where runs of a work folder are recorded.

    Args:
        config: The user's choice; `config.uri` wins over MLFLOW_TRACKING_URI.
        work_dir: The work folder; the default database lies beside it.

    Returns:
        An absolute URI.

    Raises:
        ConfigError: If the URI is of a kind that MLflow no longer accepts.
    """
    given = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return local_uri(work_dir.resolve().parent)
    scheme = given.split(":", 1)[0].split("+", 1)[0]
    if ":" not in given and given != "databricks":
        scheme = "file"
    if scheme not in (*_SERVERS, *_DATABASES):
        where = "tracking.uri" if config.uri else "environment variable MLFLOW_TRACKING_URI"
        raise ConfigError(
            f"'{public_uri(given)}' is not a store that MLflow accepts",
            where=where,
            fix="use http://server:5000, sqlite:////folder/mlflow.db, or leave it unset",
        )
    database = database_file(given)
    return given if database is None else f"{_SQLITE}{database}"


def local_uri(root: Path) -> str:
    """Name the default store of a folder that holds work folders."""
    return f"{_SQLITE}{root.resolve() / DATABASE_NAME}"


def database_file(uri: str) -> Path | None:
    """Find the file of an SQLite store; None for servers and other databases."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE)).resolve()


def artifacts_dir(uri: str, work_dir: Path) -> Path | None:
    """Choose the folder for artifacts; None when a server decides.

    Args:
        uri: The store, as resolved.
        work_dir: The work folder; used for databases that are not files.
    """
    if urlsplit(uri).scheme in _SERVERS or uri == "databricks":
        return None
    database = database_file(uri)
    return (database.parent if database else work_dir.resolve().parent) / ARTIFACTS_NAME


def public_uri(uri: str) -> str:
    """Remove user name, password and query from a URI, for logs and files."""
    if uri.startswith(_SQLITE):
        return uri
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
