"""`voxline train --lr-find`: a learning rate from a short test, as a run of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.core.errors import EXIT_DONE, EXIT_WARNINGS
from pipeline.runner.around import stage_run
from pipeline.runner.request import Request
from pipeline.tracking.session import find_target
from pipeline.tracking.state import begin, read_state

if TYPE_CHECKING:  # imports torch, which takes seconds
    from pipeline.train.lr_find import RangeResult

FOLDER = "lr_find"


def find_rate(request: Request) -> int:
    """Test learning rates on the training fold and print what to set.

    Args:
        request: What the user asked for; ingest and audit are up to date.

    Returns:
        Exit status; that of warnings if no rate can be suggested.
    """
    from pipeline.train.lr_find import find_learning_rate
    from pipeline.train.select import select_training

    workspace, config = request.workspace, request.experiment.train
    training = select_training(config, workspace)
    folder = workspace.stage_dir("train") / FOLDER
    name = f"lr-find-{config.loss.kind}-f{config.fold}-s{config.seed}-{workspace.root.name}"
    with (
        _parent_kept(request),
        stage_run(request, FOLDER, folder=folder, run_name=name, new_parent=True) as tracker,
    ):
        result = find_learning_rate(training, workspace, tracker)
    sys.stdout.write(describe_range(result) + f"Curve: {folder / 'curve.png'}\n")
    return EXIT_DONE if result.steepest is not None else EXIT_WARNINGS


def describe_range(result: "RangeResult") -> str:
    """The result in words, with the option to copy.

    Args:
        result: What the test found.

    Returns:
        Lines for the terminal.
    """
    if result.steepest is None or result.tenth_of_best is None:
        return (
            "No learning rate can be suggested: the loss did not fall at any of "
            f"{len(result.points)} rates. Look at the batches (voxline train --preflight-only).\n"
        )
    lines = [
        f"The loss falls fastest at a learning rate of {result.steepest:.2g}; "
        f"a tenth of the rate with the lowest loss is {result.tenth_of_best:.2g}.",
    ]
    if result.diverged_at is not None:
        lines.append(f"It diverges at {result.diverged_at:.2g}.")
    lines += [
        f"Use: --set train.optimizer.learning_rate={result.steepest:.2g}",
        "A hundred steps bear higher rates than a whole training does, with AdamW above all: take "
        "it as the upper end, and hold it against the planned rate (--sweep).",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _parent_kept(request: Request) -> Iterator[None]:
    """Let the stages that follow go on in the MLflow run that they were in before."""
    tracking = request.experiment.tracking
    folder = find_target(tracking, request.workspace).folder if tracking.enabled else None
    before = read_state(folder) if folder is not None else None
    try:
        yield
    finally:
        if folder is not None and before is not None:
            begin(
                folder,
                uri=before.uri,
                experiment=before.experiment,
                new_parent=False,
                parent=before.parent,
            )
