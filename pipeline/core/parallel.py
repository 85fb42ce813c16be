"""The one way per-case work runs: every case is tried, failures are named, progress is shown.

A stage says what to do with a case; where that happens (here, in worker processes, on a cluster)
is the configuration's to say and reaches `map_cases` through `case_runs`, set around the stage.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from pipeline.core.errors import VoxlineError
from pipeline.core.log import progress_bar
from pipeline.core.parallel_config import ParallelConfig
from pipeline.core.parallel_work import Done, Guarded, case_name

Item = TypeVar("Item")
Result = TypeVar("Result")

JOURNAL_NAME = "cases.jsonl"


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one case: a result or an error, never both."""

    item: Item
    result: Result | None
    error: VoxlineError | None


@dataclass(frozen=True)
class CaseRuns:
    """What surrounds the per-case work of one stage.

    Args:
        config: Section `parallel`.
        journal: File that gets one JSON line per case; None for none.
    """

    config: ParallelConfig
    journal: Path | None


# Set by the runner around a stage, as joblib.parallel_config does it: the alternative is a
# parameter of every stage, and of every function between a stage and its `map_cases`.
_RUNS: ContextVar[CaseRuns] = ContextVar("case_runs")


@contextmanager
def case_runs(config: ParallelConfig, journal: Path | None) -> Iterator[None]:
    """Let every `map_cases` in the block run as configured.

    Args:
        config: Section `parallel`.
        journal: File that gets one JSON line per case, appended; None for none.
    """
    token = _RUNS.set(CaseRuns(config, journal))
    try:
        yield
    finally:
        _RUNS.reset(token)


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    description: str,
    n_jobs: int = 1,
) -> list[Outcome[Item, Result]]:
    """Apply a function to every case; one that fails does not stop the others.

    The function must leave finished work under its final name in one step and find it there when
    it is called again: a case whose worker process died is done again by another one.

    Args:
        function: Work on one case; must be picklable if it may run elsewhere.
        items: Cases; `case_name` says how each is named in the journal.
        description: Shown beside the progress bar.
        n_jobs: Worker processes; 1 runs here, 0 uses every core. Section `parallel` goes first.

    Returns:
        Outcomes in the order of the items.

    Raises:
        UsageError: If the cluster cannot be used.
    """
    runs = _RUNS.get(CaseRuns(ParallelConfig(), None))
    done: dict[int, Done[Result]] = {}
    with progress_bar(description, len(items)) as bar, _opened(runs.journal) as journal:
        for index, one in _finished(Guarded(function), items, n_jobs, runs):
            done[index] = one
            if journal is not None:
                journal.write(_journal_line(description, case_name(items[index]), one))
                journal.flush()
            bar.advance()
    return [Outcome(item, done[i].result, done[i].error) for i, item in enumerate(items)]


def available_cores() -> int:
    """Cores this process may use (respects affinity, unlike ``os.cpu_count``)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finished(
    work: Guarded[Item, Result], items: Sequence[Item], n_jobs: int, runs: CaseRuns
) -> Iterator[tuple[int, Done[Result]]]:
    """Positions and results, as they come, from wherever the work is done."""
    config = runs.config
    n_workers = min(config.n_jobs or n_jobs or available_cores(), len(items))
    if config.scheduler is not None and items:
        # distributed is an extra, and takes a second to import.
        from pipeline.core.parallel_dask import run_on_cluster

        shared_dir = runs.journal.parent if runs.journal is not None else None
        yield from run_on_cluster(work, items, config.scheduler, shared_dir)
    elif n_workers > 1:
        from pipeline.core.parallel_local import run_in_processes

        yield from run_in_processes(work, items, n_workers)
    else:
        for index, item in enumerate(items):
            yield index, work(item)


@contextmanager
def _opened(journal: Path | None) -> Iterator[TextIO | None]:
    if journal is None:
        yield None
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as stream:
        yield stream


def _journal_line(description: str, name: str, done: Done[Result]) -> str:
    line = {
        "time_s": round(time.time(), 3),
        "work": description,
        "case": name,
        "seconds": round(done.elapsed_s, 4),
        "status": "done" if done.error is None else "failed",
        "message": "" if done.error is None else done.error.what,
    }
    return json.dumps(line) + "\n"
