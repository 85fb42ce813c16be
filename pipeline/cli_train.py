"""The command that trains."""

from typing import Annotated

import typer

from pipeline.cli_options import (
    Config,
    Data,
    Device,
    Layout,
    Overrides,
    Pseudonymize,
    Verbose,
    Work,
    request_from,
    run_command,
    settings,
    switches,
)


def train(  # noqa: PLR0913, PLR0917  # one option per argument
    data: Data = None,
    work: Work = None,
    config: Config = None,
    overrides: Overrides = None,
    layout: Layout = None,
    fold: Annotated[
        str | None,
        typer.Option(help="Validation fold 0..4; all: none. One after the other: cv, or 0,2,4."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train the fold with so many seeds; show the spread.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(help="Grid: train.loss.kind=dice,dice_ce;train.seed=0,1, or a YAML file."),
    ] = None,
    device: Device = None,
    *,
    preflight_only: Annotated[
        bool, typer.Option("--preflight-only", help="Check what reaches the loss, train nothing.")
    ] = False,
    lr_find: Annotated[
        bool, typer.Option("--lr-find", help="Test learning rates and suggest one, train nothing.")
    ] = False,
    pseudonymize: Pseudonymize = False,
    verbose: Verbose = False,
) -> None:
    """Train a model; with --data, ingest and audit run first where needed."""
    from pipeline.runner.ranks import run_in_ranks
    from pipeline.runner.request import Many, split_folds

    several, one = split_folds(fold)
    extra = settings(("ingest.layout", layout), ("train.fold", one), ("train.device", device))
    extra += switches(("ingest.pseudonymize", pseudonymize))
    request = request_from(data, work, config, [*(overrides or []), *extra], verbose=verbose)
    many = Many(several, seeds, sweep)
    run_command(
        lambda commands: run_in_ranks(
            lambda: (commands.run_lr_find if lr_find else commands.run_train)(
                request, many, preflight_only=preflight_only
            )
        )
    )
