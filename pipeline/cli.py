"""The command line. Imports nothing heavy: ``voxline --help`` answers at once."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.errors import (
    EXIT_DATA_ERRORS,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    VoxlineError,
)

if TYPE_CHECKING:
    from pipeline.runner.request import Request

app = typer.Typer(
    name="voxline",
    help="From a folder of labelled 3D volumes to a trained, measured segmentation model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer carries its own copy of click and exports only this one of its errors.
_CLICK_ERRORS: tuple[type[typer.BadParameter], ...] = tuple(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)

Data = Annotated[
    Path | None, typer.Option(help="Dataset folder, or a CSV or JSON list of images and labels.")
]
Work = Annotated[
    Path | None, typer.Option(help="Work folder for all results; default runs/<dataset name>.")
]
Config = Annotated[Path | None, typer.Option(help="Experiment YAML, see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one value, such as train.epochs=20.")
]
Backend = Annotated[
    str | None, typer.Option(help="Where cases are worked on: local, or dask for a cluster.")
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of the dask scheduler, such as tcp://10.0.0.1:8786.")
]
Part = Annotated[
    str | None, typer.Option(help="Do one share of the cases (2/8); a run without it gathers them.")
]
Layout = Annotated[
    str | None, typer.Option(help="How the dataset folder is laid out, where that is not clear.")
]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Model file; several are averaged. Default: WORK's best."),
]
Ensemble = Annotated[bool, typer.Option("--ensemble", help="Average the models of all folds.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Pseudonymize = Annotated[
    bool, typer.Option("--pseudonymize", help="Replace case ids; the names stay in one file.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more.")]


@app.command()
def ingest(  # noqa: PLR0913, PLR0917  # one option per argument
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    part: Part = None,
    backend: Backend = None,
    scheduler: Scheduler = None,
    *,
    pseudonymize: Pseudonymize = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check what was stored, hash by hash.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Read a dataset folder into the case store."""
    extra = _settings(
        ("ingest.layout", layout), ("parallel.part", part), *_cluster(backend, scheduler)
    )
    extra += _switches(("ingest.pseudonymize", pseudonymize))
    request = _request(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    from pipeline.runner.ingests import run_ingest

    raise typer.Exit(run_ingest(request, verify=verify))


@app.command()
def audit(  # noqa: PLR0913, PLR0917  # one option per argument
    labels: Annotated[
        Path | None, typer.Argument(help="Folder of label files alone, such as predictions.")
    ] = None,
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    ref: Annotated[
        Path | None, typer.Option(help="Reference labels to hold the label files against.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="New folder for a corrected copy of the dataset.")
    ] = None,
    fix_unsafe: Annotated[
        list[str] | None, typer.Option(help="Check whose unsafe repair may run, such as G01.")
    ] = None,
    backend: Backend = None,
    scheduler: Scheduler = None,
    *,
    pseudonymize: Pseudonymize = False,
    verbose: Verbose = False,
) -> None:
    """Check the labels; exit status 0 clean, 1 warnings, 2 errors."""
    extra = _settings(("ingest.layout", layout), *_cluster(backend, scheduler))
    extra += _switches(("ingest.pseudonymize", pseudonymize))
    request = _request(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    if fix is None and labels is None:
        _exit(lambda commands: commands.run_audit(request))
    from pipeline.runner import audits

    if labels is not None:
        raise typer.Exit(audits.run_label_audit(request, labels, ref))
    if fix is not None:
        raise typer.Exit(audits.run_fix(request, fix, fix_unsafe or []))


@app.command()
def train(  # noqa: PLR0913, PLR0917  # one option per argument
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    fold: Annotated[str | None, typer.Option(help="Validation fold 0..4, or all.")] = None,
    device: Device = None,
    *,
    preflight_only: Annotated[
        bool, typer.Option("--preflight-only", help="Check what reaches the loss, train nothing.")
    ] = False,
    pseudonymize: Pseudonymize = False,
    verbose: Verbose = False,
) -> None:
    """Train a model; with --data, ingest and audit run first where needed."""
    extra = _settings(("ingest.layout", layout), ("train.fold", fold), ("train.device", device))
    extra += _switches(("ingest.pseudonymize", pseudonymize))
    request = _request(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    _exit(lambda commands: commands.run_train(request, preflight_only=preflight_only))


@app.command()
def infer(  # noqa: PLR0913, PLR0917  # one option per argument
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    model: Models = None,
    device: Device = None,
    part: Part = None,
    backend: Backend = None,
    scheduler: Scheduler = None,
    *,
    ensemble: Ensemble = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also keep the probability of every class.")
    ] = False,
    pseudonymize: Pseudonymize = False,
    verbose: Verbose = False,
) -> None:
    """Predict label maps for a folder of images."""
    extra = _settings(("ingest.layout", layout), ("infer.device", device), ("parallel.part", part))
    extra += _settings(*_cluster(backend, scheduler))
    extra += _switches(("infer.ensemble", ensemble), ("ingest.pseudonymize", pseudonymize))
    extra += _switches(("infer.save_probabilities", save_probabilities))
    request = _request(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    _exit(lambda commands: commands.run_infer(request, model or []))


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917  # one option per argument
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    model: Models = None,
    pred: Annotated[Path | None, typer.Option(help="Folder of predictions to score.")] = None,
    ref: Annotated[Path | None, typer.Option(help="Folder of reference labels.")] = None,
    device: Device = None,
    backend: Backend = None,
    scheduler: Scheduler = None,
    *,
    ensemble: Ensemble = False,
    pseudonymize: Pseudonymize = False,
    verbose: Verbose = False,
) -> None:
    """Predict and score a labelled folder, or score given predictions (--pred, --ref)."""
    extra = _settings(("ingest.layout", layout), ("infer.device", device))
    extra += _settings(*_cluster(backend, scheduler))
    extra += _switches(("infer.ensemble", ensemble), ("ingest.pseudonymize", pseudonymize))
    request = _request(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    if pred is not None or ref is not None:
        _exit(lambda commands: commands.run_score(request, pred, ref))
    _exit(lambda commands: commands.run_evaluate(request, model or []))


@app.command()
def compare(  # noqa: PLR0913, PLR0917  # one option per argument
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more, the baseline first: work folders (FOLDER:DATASET chooses the data), "
            "folders with scores.csv, folders of predictions with --ref, ids of MLflow runs."
        ),
    ],
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    metric: Annotated[str, typer.Option(help="Metric, named before looking.")] = "dice",
    policy: Annotated[str | None, typer.Option(help="What empty masks count.")] = None,
    ref: Annotated[Path | None, typer.Option(help="Reference labels of predictions.")] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV with case_id and patient; else a case is a patient.")
    ] = None,
    *,
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the cases that all runs have.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Compare runs on the same cases: differences, intervals, tests, and a sentence."""
    extra = _settings(("evaluate.policy", policy))
    request = _request(None, work, config, [*(overrides or []), *extra], verbose=verbose)
    from pipeline.runner.compare import CompareOptions, run_compare

    options = CompareOptions(metric, ref, patients, is_common_enough=common)
    raise typer.Exit(run_compare(request, runs, options))


@app.command()
def ui(
    work: Annotated[Path | None, typer.Option(help="Work folder or a folder of them.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    *,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Compare runs in the MLflow UI, on this machine only."""
    request = _request(None, work, config, overrides, verbose=False)
    _exit(lambda commands: commands.run_ui(request, port, open_browser=open_browser))


@app.command()
def runs(
    work: Annotated[Path | None, typer.Option(help="Work folder or a folder of them.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV for other programs.")] = False,
) -> None:
    """List the recorded runs: data, loss, budget, Dice, time, memory."""
    request = _request(None, work, config, overrides, verbose=False)
    from pipeline.runner.runs import run_runs

    raise typer.Exit(run_runs(request, as_csv=as_csv))


@app.command()
def register(
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    model: Annotated[Path | None, typer.Option(help="Model file; default: WORK's best.")] = None,
    name: Annotated[str | None, typer.Option(help="Registered name; default: the dataset.")] = None,
    alias: Annotated[
        str | None, typer.Option(help="Let this alias point to it, such as champion.")
    ] = None,
) -> None:
    """Register a trained model in MLflow; nothing else ever does."""
    request = _request(None, work, config, overrides, verbose=False)
    from pipeline.runner.runs import run_register

    raise typer.Exit(run_register(request, model, name, alias))


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", help="bundle (MONAI), pt2 (torch), onnx or mlflow.")],
    work: Work = None,
    model: Annotated[Path | None, typer.Option(help="Model file; default: WORK's best.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder; default: export/ beside the model.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a model for other tools; prints the folder."""
    request = _request(None, work, None, None, verbose=False)
    from pipeline.runner.export import run_export

    raise typer.Exit(run_export(request, model, to, out, force=force))


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="Such as Task04_Hippocampus.")],
    to: Annotated[Path, typer.Option(help="Gets a folder of that name.")] = Path("data"),
    url: Annotated[str | None, typer.Option(help="Another place that has the archive.")] = None,
) -> None:
    """Fetch one of the ten data sets of the Medical Segmentation Decathlon; prints its folder."""
    _configure(verbose=False)
    from pipeline.runner.data import run_data

    raise typer.Exit(run_data(name, to, url))


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files."""
    _exit(lambda commands: commands.print_schema())


def _settings(*pairs: tuple[str, str | None]) -> list[str]:
    # Quoted, so that YAML keeps "0" and "all" as the text the models expect.
    return [f'{key}="{value}"' for key, value in pairs if value is not None]


def _cluster(backend: str | None, scheduler: str | None) -> list[tuple[str, str | None]]:
    return [("parallel.backend", backend), ("parallel.scheduler", scheduler)]


def _switches(*pairs: tuple[str, bool]) -> list[str]:
    return [f"{key}=true" for key, is_chosen in pairs if is_chosen]


def _configure(*, verbose: bool) -> None:
    from pipeline.core.log import configure_logging

    configure_logging(verbose=verbose)


def _request(
    data: Path | None,
    work: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    *,
    verbose: bool,
) -> "Request":
    _configure(verbose=verbose)
    from pipeline.runner.request import make_request

    return make_request(data, work, config, overrides or [])


def _exit(command: "Callable[..., int]") -> None:
    from pipeline.runner import commands

    raise typer.Exit(command(commands))


def main() -> None:
    """Entry point: every expected error becomes a message and an exit status."""
    try:
        status = app(standalone_mode=False)
    except VoxlineError as error:
        sys.stderr.write(f"{error}\n")
        status = error.exit_status
    except OSError as error:
        sys.stderr.write(
            f"OSError: {error.strerror or error}\n  where: {error.filename or 'unknown file'}\n"
            "  fix:   check that the folder exists, may be written to and that the disk has space\n"
        )
        status = EXIT_DATA_ERRORS
    except typer.Abort:
        status = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        sys.stderr.write("stopped; finished work is kept\n")
        status = EXIT_INTERRUPTED
    except _CLICK_ERRORS as error:
        sys.stderr.write(f"{error.format_message()}\n  fix:   see 'voxline --help'\n")
        status = EXIT_USAGE
    except Exception:  # noqa: BLE001  # Python's own status 1 would read as "audit warnings"
        traceback.print_exc()
        sys.stderr.write("this is a defect of Voxline, please report it; finished work is kept\n")
        status = EXIT_DATA_ERRORS
    sys.exit(status if isinstance(status, int) else EXIT_DONE)
