"""What surrounds every stage: logs, snapshots, tracking, and a result file."""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

from pipeline.core.config import StrictModel, dump_yaml
from pipeline.core.errors import UsageError
from pipeline.core.log import JsonLinesHandler
from pipeline.core.parallel import JOURNAL_NAME, case_runs
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import write_json, write_text
from pipeline.runner.request import Request
from pipeline.tracking.session import open_tracker

logger = logging.getLogger(__name__)


class StageResult(StrictModel):
    """`result.json`: how a stage ended."""

    stage: str
    status: str
    key: str
    started_at: str
    elapsed_s: float
    message: str = ""


@contextmanager
def stage_run(  # noqa: PLR0913  # keyword-only, each with a default
    request: Request,
    name: str,
    *,
    folder: Path | None = None,
    key: str = "",
    run_name: str | None = None,
    new_parent: bool = False,
    parent: str | None = None,
    members: Sequence[str] = (),
) -> Iterator[Tracker]:
    """Log, snapshot, track and record one stage while the block runs.

    Args:
        request: What the user asked for.
        name: Name of the stage.
        folder: Its output folder; default `<work>/<name>`.
        key: Hash of its inputs, recorded when it succeeds, to tell later whether it is stale.
        run_name: Name of the MLflow parent run; None keeps the present one.
        new_parent: Begin another parent run.
        parent: Parent run of an earlier stage to go on with.
        members: Parent runs of trainings that are put below this one.

    Yields:
        The tracker for the stage.

    Raises:
        UsageError: If a part of the cases is asked of a stage that needs all of them.
    """
    if request.experiment.parallel.part is not None:
        raise UsageError(
            "this command needs all cases",
            where="--part",
            fix="use --part with 'voxline ingest' or 'voxline infer', then run this without it",
        )
    workspace = request.workspace
    folder = folder or workspace.stage_dir(name)
    folder.mkdir(parents=True, exist_ok=True)
    handler = JsonLinesHandler(folder / "run.log.jsonl", name)
    logging.getLogger("pipeline").addHandler(handler)
    write_text(folder / "config.resolved.yaml", dump_yaml(request.experiment))
    write_text(folder / "environment.json", json.dumps(_environment(), indent=1) + "\n")
    started_at, started_s = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    status, message = "failed", ""
    try:
        with (
            case_runs(request.experiment.parallel, folder / JOURNAL_NAME),
            open_tracker(
                request.experiment.tracking,
                workspace,
                stage=name,
                run_name=run_name,
                new_parent=new_parent,
                parent=parent,
                members=members,
            ) as tracker,
        ):
            tracker.log_file(folder / "config.resolved.yaml", headline=name == "train")
            tracker.log_file(folder / "environment.json")
            yield tracker
        status = "done"
    except BaseException as error:
        message = f"{type(error).__name__}: {error}"
        raise
    finally:
        result = StageResult(
            stage=name,
            status=status,
            key=key if status == "done" else "",
            started_at=started_at,
            elapsed_s=round(time.monotonic() - started_s, 3),
            message=message,
        )
        try:
            write_json(folder / "result.json", result)
        except OSError as error:
            logger.warning("result.json cannot be written: %s", error)
        logging.getLogger("pipeline").removeHandler(handler)
        handler.close()


def _environment() -> dict[str, object]:
    """Versions and machine; no user or host names, no paths."""
    names = ("monai", "torch", "nibabel", "SimpleITK", "mlflow", "pydantic", "numpy", "scipy")
    versions = {d.name: d.version for d in distributions() if d.name in (*names, "voxline")}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "n_cores": os.cpu_count(),
        "packages": dict(sorted(versions.items())),
    }


def result_key(file: Path) -> str:
    """What a finished stage was computed from; empty if its `result.json` is missing or damaged."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError):
        return ""
