"""Per-case work in worker processes of this machine that may die without taking others along.

The processes are those of loky, joblib's own pool. joblib's front door is not used because it
ends all work, and forgets which cases are finished, as soon as one process is killed.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

from joblib.externals.loky import FIRST_COMPLETED, cpu_count, get_reusable_executor, wait
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pipeline.core.errors import DataError
from pipeline.core.parallel_work import Done, Guarded, case_name

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Cases handed to each process at a time: the next one is there when one is finished, and few are
# done again when a process dies.
_CASES_AHEAD = 2
# Libraries that start threads of their own in every process read one of these.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_in_processes(
    work: Guarded[Item, Result], items: Sequence[Item], n_workers: int
) -> Iterator[tuple[int, Done[Result]]]:
    """Do every case in one of several processes.

    When a process dies (most often killed because memory ran out), the cases without a result
    start again in half as many processes. A case that is alone with its process and still loses
    it has failed.

    Args:
        work: Picklable.
        items: Cases.
        n_workers: Processes, at least 1.

    Yields:
        Position and result of each case, as they finish.
    """
    waiting = dict(enumerate(items))
    while waiting:
        for index, done in _finished_in_pool(work, waiting, n_workers):
            del waiting[index]
            yield index, done
        if not waiting:
            return
        if n_workers == 1:
            # One process takes the cases in their order: it died with the first one left.
            index = next(iter(waiting))
            yield index, Done(None, _lost(case_name(waiting.pop(index))), 0.0)
        else:
            n_workers //= 2
            logger.warning(
                "a worker process was killed, perhaps because memory ran out; "
                "%d cases start again in %d processes",
                len(waiting),
                n_workers,
            )


def _finished_in_pool(
    work: Guarded[Item, Result], waiting: Mapping[int, Item], n_workers: int
) -> Iterator[tuple[int, Done[Result]]]:
    """Results until all are there or a process has died."""
    pool = get_reusable_executor(max_workers=n_workers, env=_environment(n_workers))
    is_complete = False
    try:
        yield from _finished(pool, work, waiting, n_workers)
        is_complete = True
    except TerminatedWorkerError:
        pass  # the caller sees which cases are left
    finally:
        # Also when the caller is interrupted: nobody waits for the rest.
        if not is_complete:
            pool.shutdown(wait=False, kill_workers=True)


def _finished(
    pool: Executor, work: Guarded[Item, Result], waiting: Mapping[int, Item], n_workers: int
) -> Iterator[tuple[int, Done[Result]]]:
    left = iter(list(waiting.items()))
    running: dict[Future[Done[Result]], int] = {}
    while True:
        for index, item in islice(left, n_workers * _CASES_AHEAD - len(running)):
            running[pool.submit(work, item)] = index
        if not running:
            return
        # A lost case ends this, so results that are there go first.
        for future in sorted(wait(running, return_when=FIRST_COMPLETED).done, key=_is_lost):
            yield running.pop(future), future.result()


def _is_lost(future: Future[Done[Result]]) -> bool:
    return isinstance(future.exception(), TerminatedWorkerError)


def _environment(n_workers: int) -> dict[str, str]:
    """Share the cores between the processes, unless the user has set the number of threads."""
    n_threads = str(max(1, cpu_count() // n_workers))
    return {name: os.environ.get(name, n_threads) for name in _THREAD_VARIABLES}


def _lost(name: str) -> DataError:
    return DataError(
        "the process that worked on this case was killed, most likely because memory ran out",
        where=name,
        fix="free memory or use a machine with more; 'dmesg' says if the system ended the process",
    )
