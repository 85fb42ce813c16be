"""The command `compare`: turn every kind of name into a table of scores, then compare."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.compare.agreement import agree
from pipeline.compare.comparison import CompareSettings, check_metric
from pipeline.compare.inputs import RunScores, has_table, read_runs, split_name, unique_labels
from pipeline.compare.patients import check_patients, known_patients, read_patients
from pipeline.compare.result import Comparison
from pipeline.compare.stage import compare
from pipeline.core.errors import EXIT_DONE, UsageError
from pipeline.core.tracker import NullTracker, Tracker
from pipeline.core.workspace import TRACKING_PARENT, Workspace
from pipeline.runner.around import stage_run
from pipeline.runner.request import RUNS_DIR, Request
from pipeline.tracking.lookup import fetch_file, is_run_id, run_id_of, run_links
from pipeline.tracking.session import find_target

logger = logging.getLogger(__name__)

# Lies beside the compared work folders, so that their runs are in the same MLflow store.
COMPARISONS = "comparisons"
MAX_NAME_LETTERS = 80


@dataclass(frozen=True)
class CompareOptions:
    """What belongs to this command alone.

    Args:
        metric: Metric to compare by.
        ref: Reference labels, to score folders of predictions.
        patients: CSV with case_id and patient.
        is_common_enough: Compare on the cases all runs share.
    """

    metric: str = "dice"
    ref: Path | None = None
    patients: Path | None = None
    is_common_enough: bool = False


def run_compare(request: Request, names: Sequence[str], options: CompareOptions) -> int:
    """Compare runs; scores folders of predictions and fetches MLflow runs first."""
    work = request.work or _default_work(names)
    request = Request(request.data, work, request.experiment)
    patients = None if options.patients is None else read_patients(options.patients)
    found, fetched = _with_tables(request, names, options)
    runs = read_runs(found)
    if patients is not None:
        check_patients(patients, runs)
    for run in runs:
        logger.info("%s: %s (%s)", run.label, run.table.description, run.table.file)
    evaluate = request.experiment.evaluate
    settings = CompareSettings(
        metric=options.metric,
        policy=evaluate.policy,
        n_bootstrap=evaluate.n_bootstrap,
        seed=evaluate.seed,
        groups=patients or known_patients(runs),
    )
    # What is refused is refused before a run is recorded for it.
    agreed = agree(runs, is_common_enough=options.is_common_enough)
    check_metric(agreed, settings)
    name = _comparison_name(runs)
    out_dir = request.workspace.stage_dir("compare") / name
    known = {run.label: fetched.get(run.table.file.parent) or _run_id(run) for run in runs}
    run_ids = {label: run_id for label, run_id in known.items() if run_id is not None}
    with stage_run(request, "compare", folder=out_dir, run_name=name, new_parent=True) as tracker:
        comparison = compare(agreed, settings, out_dir, tracker, run_ids=run_ids)
        _describe(request, comparison, tracker)
    logger.info("report: %s", out_dir / "report.html")
    return EXIT_DONE


def _default_work(names: Sequence[str]) -> Path:
    folders = {split_name(name)[0] for name in names}
    parents = {f.parent for f in folders if (f / "evaluate").is_dir() or (f / "train").is_dir()}
    return (parents.pop() if len(parents) == 1 else RUNS_DIR.resolve()) / COMPARISONS


def _with_tables(
    request: Request, names: Sequence[str], options: CompareOptions
) -> tuple[list[str], dict[Path, str]]:
    """Replace ids of runs and folders of predictions by folders that hold a scores.csv.

    Returns:
        Names that `read_runs` takes, and the MLflow id of every folder that was fetched.
    """
    folder = request.workspace.stage_dir("compare")
    to_score = [n for n in names if Path(n).is_dir() and not has_table(n) and options.ref]
    labels = unique_labels([Path(n).resolve() for n in to_score]) if to_score else []
    scored = dict(zip(to_score, labels, strict=True))
    found: list[str] = []
    fetched: dict[Path, str] = {}
    for name in names:
        if name in scored and options.ref is not None:
            # The label is unique with its slashes only: a/b_c and a_b/c are two folders.
            out_dir = folder / "scored" / scored[name].lstrip("/")
            _score(request, Path(name), options.ref, out_dir)
            found.append(str(out_dir))
        elif is_run_id(name) and not Path(name).exists():
            target = find_target(request.experiment.tracking, request.workspace)
            copy = fetch_file(target, name, "scores.csv", folder / "fetched")
            fetched[copy.file.parent.resolve()] = copy.run_id
            found.append(str(copy.file.parent))
        else:
            found.append(name)
    return found, fetched


def _score(request: Request, pred: Path, ref: Path, out_dir: Path) -> None:
    from pipeline.evaluate.inputs import input_from_folders
    from pipeline.evaluate.stage import evaluate
    from pipeline.evaluate.task import find_task
    from pipeline.runner.annotation import configured_task, with_annotation

    if not ref.is_dir():
        raise UsageError("there is no such folder of reference labels", where=str(ref))
    logger.info("scoring the predictions in %s", pred)
    given = input_from_folders(pred.resolve(), ref.resolve(), out_root=out_dir)
    task = configured_task(given.task or find_task(given.references), request.experiment.task)
    given = with_annotation(replace(given, task=task), task, request.experiment.task)
    # Only the table is wanted; 'voxline evaluate' draws the pictures.
    config = request.experiment.evaluate.model_copy(update={"n_worst_pictures": 0})
    evaluate(config, given, out_dir, NullTracker())


def _comparison_name(runs: Sequence[RunScores]) -> str:
    first, *others = [run.label.replace("/", "_") for run in runs]
    name = f"{'-'.join(others)}-vs-{first}"
    return name if len(name) <= MAX_NAME_LETTERS else f"{len(runs)}-runs-vs-{first}"


def _run_id(run: RunScores) -> str | None:
    """MLflow's id of the run whose scores these are, if it is known."""
    table = run.table
    if table.work is None:
        return None
    marks = [table.file.parents[1] / TRACKING_PARENT] if table.kind == "validation" else []
    marks += sorted(Workspace(table.work).stage_dir("train").glob(f"fold_*/{TRACKING_PARENT}"))
    key = next((mark.read_text(encoding="utf-8").strip() for mark in marks if mark.is_file()), None)
    return run_id_of(table.work, key)


def _describe(request: Request, comparison: Comparison, tracker: Tracker) -> None:
    """The result in words, with links to the runs compared, on the page of this run."""
    known = {r.label: r.mlflow_run_id for r in comparison.runs if r.mlflow_run_id is not None}
    links: dict[str, str] = {}
    if request.experiment.tracking.enabled:
        links = run_links(find_target(request.experiment.tracking, request.workspace), known)
    names = [links.get(run.label, run.label) for run in comparison.runs]
    tracker.set_tags(
        {
            "description": f"{comparison.conclusion}\n\nCompared: {', '.join(names)}",
            "kind": "compare",
            "compared": ", ".join(run.label for run in comparison.runs),
            **{f"compared.{label}": run_id for label, run_id in known.items()},
        }
    )
