"""Ingest and what is done to its store alone: parts of it, and whether it is still sound."""

import logging

from pipeline.artifacts import DatasetManifest
from pipeline.core.errors import EXIT_DATA_ERRORS, EXIT_DONE, UsageError
from pipeline.core.parallel_config import Part
from pipeline.runner.around import stage_run
from pipeline.runner.request import Request, needed_data, take_part

logger = logging.getLogger(__name__)


def run_ingest(request: Request, *, verify: bool = False) -> int:
    """Ingest a dataset folder or a part of it, or verify what was ingested before."""
    if verify:
        return _run_verify(request)
    part, request = take_part(request)
    if part is not None:
        return _run_part(request, part)
    manifest = ingest_dataset(request)
    n_failed = len(manifest.cases) - len(manifest.ready_cases)
    has_errors = any(problem.severity == "error" for problem in manifest.problems)
    return EXIT_DATA_ERRORS if n_failed or has_errors else EXIT_DONE


def ingest_dataset(request: Request) -> DatasetManifest:
    """Run the stage on all cases."""
    from pipeline.ingest.stage import ingest

    experiment = request.experiment
    with stage_run(request, "ingest") as tracker:
        return ingest(
            experiment.ingest, experiment.task, needed_data(request), request.workspace, tracker
        )


def _run_part(request: Request, part: Part) -> int:
    from pipeline.ingest.stage import ingest_part

    data_dir, experiment = needed_data(request), request.experiment
    # A folder of its own: the logs of parts that run at once must not mix.
    folder = request.workspace.stage_dir("ingest") / "parts" / part.name
    with stage_run(request, "ingest", folder=folder):
        n_failed = ingest_part(
            experiment.ingest, experiment.task, data_dir, request.workspace, part
        )
    return EXIT_DATA_ERRORS if n_failed else EXIT_DONE


def _run_verify(request: Request) -> int:
    from pipeline.core.parallel import case_runs
    from pipeline.ingest.verify import verify_store

    if request.experiment.parallel.part is not None:
        raise UsageError("the store is verified as a whole", where="--part", fix="leave --part out")
    # No stage of its own: nothing is recorded, and a log line is all it leaves.
    with case_runs(request.experiment.parallel, None):
        verification = verify_store(request.experiment.ingest, request.workspace)
    return EXIT_DATA_ERRORS if verification.damaged else EXIT_DONE
