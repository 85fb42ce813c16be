"""`voxline train --lr-find`: a learning rate from a short test, as a run of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.core.errors import EXIT_DONE, EXIT_WARNINGS
from pipeline.runner.around import stage_run
from pipeline.runner.request import Request
from pipeline.tracking.location import public_uri
from pipeline.tracking.session import find_target
from pipeline.tracking.state import begin, read_state

if TYPE_CHECKING:  # imports torch, which takes seconds
    from pipeline.train.lr_find import RangeResult

FOLDER = "lr_find"
# Factor between two rates that a test of a hundred noisy batches does not tell apart.
SAME_WITHIN = 3.0


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
    sys.stdout.write(
        describe_range(result, training.plan.learning_rate) + f"Curve: {folder / 'curve.png'}\n"
    )
    return EXIT_DONE if result.suggestion is not None else EXIT_WARNINGS


def describe_range(result: "RangeResult", planned: float) -> str:
    """The result in words, with the option to copy.

    Args:
        result: What the test found.
        planned: The learning rate that would be used without the test.

    Returns:
        Lines for the terminal.
    """
    if result.suggestion is None:
        return (
            "No learning rate can be suggested: the loss did not fall clearly at any of "
            f"{len(result.points)} rates. Look at the batches (voxline train --preflight-only).\n"
        )
    lines = [
        f"The loss falls from a learning rate of {result.falls_from:.2g} on, until "
        f"{result.falls_until:.2g}; the middle of it is {result.suggestion:.2g}."
    ]
    if result.diverged_at is not None:
        lines.append(f"It diverges at {result.diverged_at:.2g}.")
    factor = max(result.suggestion / planned, planned / result.suggestion)
    if factor <= SAME_WITHIN:
        lines.append(
            f"That is within a factor of {SAME_WITHIN:g} of the planned {planned:.2g}, closer than "
            "such a test can tell: nothing needs to be changed."
        )
    else:
        lines.append(
            f"Planned is {planned:.2g}. A test of so few steps says what trains at all, not what "
            "ends best; compare the two in short trainings:"
        )
        lines.append(
            f'  --sweep "train.optimizer.learning_rate={planned:.2g},{result.suggestion:.2g}"'
        )
    lines.append(f"To set it: --set train.optimizer.learning_rate={result.suggestion:.2g}")
    return "\n".join(lines) + "\n"


@contextmanager
def _parent_kept(request: Request) -> Iterator[None]:
    """Let the stages that follow go on in the MLflow run that they were in before."""
    tracking = request.experiment.tracking
    if not tracking.enabled:
        yield
        return
    target = find_target(tracking, request.workspace)
    uri = public_uri(target.uri)
    before = read_state(target.folder)
    try:
        yield
    finally:
        is_ours = before is not None and (before.uri, before.experiment) == (uri, target.experiment)
        # Without a run of before the next stage begins one: that of the test is not for trainings.
        begin(
            target.folder,
            uri=uri,
            experiment=target.experiment,
            new_parent=not is_ours,
            parent=before.parent if before is not None and is_ours else None,
        )
