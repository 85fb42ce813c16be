"""The model registry: a trained model gets a name, a version and, if wanted, an alias.

Nothing is registered by training itself: which model is the champion is a decision of people.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import VoxlineError
from pipeline.tracking.link import Target
from pipeline.tracking.location import prepare_environment, public_uri

if TYPE_CHECKING:  # imports MLflow, which takes seconds
    from pipeline.tracking.store import Store

MODEL_TYPE = "voxline"


@dataclass(frozen=True)
class Registration:
    """What the registry knows after registering.

    Args:
        name: Registered name.
        version: Its version, counted from 1.
        alias: Alias that now points to it; None for none.
        uri: Address for `mlflow.pyfunc.load_model` and `mlflow models serve`.
    """

    name: str
    version: str
    alias: str | None
    uri: str


def register_model(
    target: Target,
    folder: Path,
    *,
    name: str,
    run_id: str | None,
    alias: str | None,
    tags: Mapping[str, str],
) -> Registration:
    """Store a model in MLflow and register it as a new version.

    The weights are stored as the file they are, in artifacts/best.pt; nothing is pickled.

    Args:
        target: Where the runs of the work folder go.
        folder: An MLflow model, as `pipeline.tracking.package.save_mlflow_model` writes it.
        name: Registered name; is created if it is new.
        run_id: Run that trained it; None if it is not recorded there.
        alias: Alias to move to this version, such as "champion".
        tags: What stands beside the version.

    Returns:
        Name, version and address.

    Raises:
        VoxlineError: If the store does not answer, or refuses.
    """
    prepare_environment()
    from pipeline.tracking.store import CLIENT_ERRORS, open_store

    try:
        store = open_store(target.uri, target.experiment, target.artifacts)
        with _process_store(target.uri):
            version = _register(store, folder, name, run_id, tags)
        if alias is not None:
            store.client.set_registered_model_alias(name, alias, version)
    except CLIENT_ERRORS as error:
        raise VoxlineError(
            f"the model cannot be registered: {error}",
            where=public_uri(target.uri),
            fix="check tracking.uri and MLFLOW_TRACKING_URI, and whether that server runs",
        ) from error
    last = f"@{alias}" if alias is not None else f"/{version}"
    return Registration(name, version, alias, f"models:/{name}{last}")


def _register(
    store: "Store",
    folder: Path,
    name: str,
    run_id: str | None,
    tags: Mapping[str, str],
) -> str:
    from mlflow.exceptions import MlflowException

    client = store.client
    model = client.create_logged_model(
        store.experiment_id, source_run_id=run_id, tags=dict(tags), model_type=MODEL_TYPE
    )
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model.model_id}"
    version = client.create_model_version(
        name, source=source, run_id=run_id, tags=dict(tags), model_id=model.model_id
    )
    return str(version.version)


@contextmanager
def _process_store(uri: str) -> Iterator[None]:
    """MLflow's registry looks models up in the store of the process, not of the client."""
    import mlflow

    previous = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        # MLflow takes None as "forget it", which its annotation does not say.
        mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]
