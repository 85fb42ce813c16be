"""The command line. Imports nothing heavy: ``voxline --help`` answers at once."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_options import (
    Backend,
    Config,
    Data,
    Device,
    Ensemble,
    Layout,
    Models,
    Overrides,
    Part,
    Pseudonymize,
    Scheduler,
    Verbose,
    Work,
    cluster_settings,
    configure,
    request_from,
    run_command,
    settings,
    switches,
)
from pipeline.cli_train import train
from pipeline.core.errors import (
    EXIT_DATA_ERRORS,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    VoxlineError,
)

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
    extra = settings(
        ("ingest.layout", layout), ("parallel.part", part), *cluster_settings(backend, scheduler)
    )
    extra += switches(("ingest.pseudonymize", pseudonymize))
    request = request_from(data, work, config, [*(overrides or []), *extra], verbose=verbose)
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
    extra = settings(("ingest.layout", layout), *cluster_settings(backend, scheduler))
    extra += switches(("ingest.pseudonymize", pseudonymize))
    request = request_from(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    if fix is None and labels is None:
        run_command(lambda commands: commands.run_audit(request))
    from pipeline.runner import audits

    if labels is not None:
        raise typer.Exit(audits.run_label_audit(request, labels, ref))
    if fix is not None:
        raise typer.Exit(audits.run_fix(request, fix, fix_unsafe or []))


app.command()(train)


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
    extra = settings(("ingest.layout", layout), ("infer.device", device), ("parallel.part", part))
    extra += settings(*cluster_settings(backend, scheduler))
    extra += switches(("infer.ensemble", ensemble), ("ingest.pseudonymize", pseudonymize))
    extra += switches(("infer.save_probabilities", save_probabilities))
    request = request_from(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    run_command(lambda commands: commands.run_infer(request, model or []))


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
    extra = settings(("ingest.layout", layout), ("infer.device", device))
    extra += settings(*cluster_settings(backend, scheduler))
    extra += switches(("infer.ensemble", ensemble), ("ingest.pseudonymize", pseudonymize))
    request = request_from(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    if pred is not None or ref is not None:
        run_command(lambda commands: commands.run_score(request, pred, ref))
    run_command(lambda commands: commands.run_evaluate(request, model or []))


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
    extra = settings(("evaluate.policy", policy))
    request = request_from(None, work, config, [*(overrides or []), *extra], verbose=verbose)
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
    request = request_from(None, work, config, overrides, verbose=False)
    run_command(lambda commands: commands.run_ui(request, port, open_browser=open_browser))


@app.command()
def runs(
    work: Annotated[Path | None, typer.Option(help="Work folder or a folder of them.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV for other programs.")] = False,
) -> None:
    """List the recorded runs: data, loss, budget, Dice, time, memory."""
    request = request_from(None, work, config, overrides, verbose=False)
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
    request = request_from(None, work, config, overrides, verbose=False)
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
    request = request_from(None, work, None, None, verbose=False)
    from pipeline.runner.export import run_export

    raise typer.Exit(run_export(request, model, to, out, force=force))


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="Such as Task04_Hippocampus.")],
    to: Annotated[Path, typer.Option(help="Gets a folder of that name.")] = Path("data"),
    url: Annotated[str | None, typer.Option(help="Another place that has the archive.")] = None,
) -> None:
    """Fetch one of the ten data sets of the Medical Segmentation Decathlon; prints its folder."""
    configure(verbose=False)
    from pipeline.runner.data import run_data

    raise typer.Exit(run_data(name, to, url))


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files."""
    run_command(lambda commands: commands.print_schema())


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
