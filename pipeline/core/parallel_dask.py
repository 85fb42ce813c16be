"""Per-case work on the workers of a running dask cluster that shares a file system with us."""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.errors import DataError, UsageError
from pipeline.core.parallel_work import Done, Guarded, case_name

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 10
_PACKAGE = "voxline"


def run_on_cluster(
    work: Guarded[Item, Result], items: Sequence[Item], scheduler: str, shared_dir: Path | None
) -> Iterator[tuple[int, Done[Result]]]:
    """Do every case on one of the workers of a cluster.

    The scheduler gives the cases of a worker that died to another one. A case that it gives up is
    tried once more when all others are done, and fails if it ends its workers again.

    Args:
        work: Picklable.
        items: Cases.
        scheduler: Address, such as "tcp://10.0.0.1:8786".
        shared_dir: Folder that the workers must see as we do; None if nothing is to be checked.

    Yields:
        Position and result of each case, as they finish.

    Raises:
        UsageError: If dask is not installed, the scheduler does not answer or goes away, it or
            a worker lacks this version of Voxline, or a worker the folder.
    """
    with _client(scheduler) as client:
        if shared_dir is not None:
            _check_workers(client, shared_dir)
        blamed: list[int] = []
        for index, done in _finished_on(client, work, dict(enumerate(items)), scheduler):
            if done is None:
                blamed.append(index)
            else:
                yield index, done
        # A worker takes those down with it that wait for it: alone, each shows what it does.
        for index in blamed:
            for _, done in _finished_on(client, work, {index: items[index]}, scheduler):
                yield index, done or Done(None, _lost(case_name(items[index])), 0.0)


def _finished_on(
    client: Any, work: Guarded[Item, Result], items: Mapping[int, Item], scheduler: str
) -> Iterator[tuple[int, Done[Result] | None]]:
    """Results of all items as they come, None for an item that the scheduler has given up."""
    from distributed import KilledWorker, as_completed

    # Keys of our own: equal cases of two runs must not be taken for one task.
    run = uuid.uuid4().hex
    positions = {f"voxline-{run}-{index}": index for index in items}
    futures = client.map(work, list(items.values()), key=list(positions), pure=False)
    # With results: one is fetched the moment it exists, so that it cannot die with its worker.
    completed = as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
    for future, result in completed:
        if future.status == "finished":
            yield positions[future.key], result
        elif future.status != "error":
            raise UsageError(
                "the connection to the dask scheduler was lost",
                where=scheduler,
                fix="run again when the cluster is back; finished cases are kept",
            )
        elif isinstance(result[1], KilledWorker):
            yield positions[future.key], None
        else:
            raise result[1]
        # Results of ten thousand cases need not wait in the workers' memory.
        future.release()


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "working on a dask cluster needs the extra 'dask'",
            where="parallel.backend",
            fix="pip install 'voxline[dask]'",
        ) from None
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no dask scheduler answers: {error}",
            where=scheduler,
            fix="start one with 'dask scheduler', or correct --scheduler",
        ) from None
    try:
        yield client
    finally:
        client.close()


def _check_workers(client: Any, shared_dir: Path) -> None:
    """Ask scheduler and workers now what would otherwise fail once per case."""
    # First: who lacks Voxline cannot read any other question of ours.
    _check_programs(client)
    token = shared_dir / f".{uuid.uuid4().hex}.shared"
    token.touch()
    try:
        answers: dict[str, bool] = client.run(_sees, str(token))
    finally:
        token.unlink()
    if not answers:
        logger.info("the cluster has no workers yet; waiting for the first one")
    if not all(answers.values()):
        raise UsageError(
            "a worker of the cluster does not see the work folder",
            where=str(shared_dir),
            fix="put data and work folder on a file system that all machines share, under the "
            "same path",
        )


def _check_programs(client: Any) -> None:
    answers = client.get_versions(packages=[_PACKAGE])
    parts = [("the scheduler", answers["scheduler"])]
    parts += [("a worker of the cluster", answer) for answer in answers["workers"].values()]
    for who, answer in parts:
        # None where it is not installed.
        found = (answer or {}).get("packages", {}).get(_PACKAGE)
        if found != version(_PACKAGE):
            what = "has no Voxline" if found is None else f"runs Voxline {found}"
            raise UsageError(
                f"{who} {what}, this is {version(_PACKAGE)}",
                where="parallel.scheduler",
                fix="start scheduler and workers from the same environment as this one",
            )


def _lost(name: str) -> DataError:
    return DataError(
        "every worker that took this case died, most likely because memory ran out",
        where=name,
        fix="give the workers more memory (--memory-limit) or fewer threads",
    )


def _sees(file: str) -> bool:
    """Runs on each worker."""
    return Path(file).is_file()
