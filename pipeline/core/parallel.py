"""The one way per-case work runs: every case is tried, failures are named, progress is shown."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import joblib

from pipeline.core.errors import VoxlineError
from pipeline.core.log import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one case: a result or an error, never both."""

    item: Item
    result: Result | None
    error: VoxlineError | None


@dataclass(frozen=True)
class _Guarded(Generic[Item, Result]):
    """Picklable wrapper that turns expected errors into outcomes."""

    function: Callable[[Item], Result]

    def __call__(self, item: Item) -> Outcome[Item, Result]:
        try:
            return Outcome(item, self.function(item), None)
        except VoxlineError as error:
            return Outcome(item, None, error)


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    description: str,
    n_jobs: int = 1,
) -> list[Outcome[Item, Result]]:
    """Apply a function to every case; one that fails does not stop the others.

    Args:
        function: Work on one case; must be picklable if n_jobs > 1.
        items: Cases.
        description: Shown beside the progress bar.
        n_jobs: Worker processes; 1 runs here, 0 uses every core.

    Returns:
        Outcomes in the order of the items.
    """
    work = _Guarded(function)
    outcomes: list[Outcome[Item, Result]] = []
    with progress_bar(description, len(items)) as bar:
        if n_jobs == 1 or len(items) < 2:
            for item in items:
                outcomes.append(work(item))
                bar.advance()
            return outcomes
        pool = joblib.Parallel(n_jobs=n_jobs or available_cores(), return_as="generator")
        for outcome in pool(joblib.delayed(work)(item) for item in items):
            outcomes.append(outcome)
            bar.advance()
    return outcomes


def available_cores() -> int:
    """Cores this process may use (respects affinity, unlike ``os.cpu_count``)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
