"""What the commands share: their options, and how a request is made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.runner.request import Request

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


def settings(*pairs: tuple[str, str | None]) -> list[str]:
    """Assignments for options that were given."""
    # Quoted, so that YAML keeps "0" and "all" as the text the models expect.
    return [f'{key}="{value}"' for key, value in pairs if value is not None]


def cluster_settings(backend: str | None, scheduler: str | None) -> list[tuple[str, str | None]]:
    """Settings of the backend that works on cases."""
    return [("parallel.backend", backend), ("parallel.scheduler", scheduler)]


def switches(*pairs: tuple[str, bool]) -> list[str]:
    """Assignments for switches that were set."""
    return [f"{key}=true" for key, is_chosen in pairs if is_chosen]


def configure(*, verbose: bool) -> None:
    """Set up the log."""
    from pipeline.core.log import configure_logging

    configure_logging(verbose=verbose)


def request_from(
    data: Path | None,
    work: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    *,
    verbose: bool,
) -> "Request":
    """Set up the log and validate the command line.

    Raises:
        ConfigError: If the configuration is not understood.
        UsageError: If the dataset folder does not exist.
    """
    configure(verbose=verbose)
    from pipeline.runner.request import make_request

    return make_request(data, work, config, overrides or [])


def run_command(command: "Callable[..., int]") -> None:
    """Call a function of `runner.commands`, and leave with its status."""
    from pipeline.runner import commands

    raise typer.Exit(command(commands))
