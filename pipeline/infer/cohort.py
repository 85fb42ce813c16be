"""Many cases, one after the other: while one is computed, the next is read and the last written."""

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType

from pipeline.artifacts import PredictionRecord
from pipeline.core.errors import CheckpointError, DataError
from pipeline.core.parallel import map_cases
from pipeline.infer.case import CaseWork, ReadCase, SegmentedCase
from pipeline.infer.config import InferConfig
from pipeline.infer.opened import OpenModel, open_model
from pipeline.infer.records import Earlier, find_earlier
from pipeline.io.discover import CaseFiles


def run_in_turns(work: CaseWork, cases: Sequence[CaseFiles]) -> Iterator[PredictionRecord]:
    """Predict cases here: decode the next, compute this one, write the last, at the same time.

    At most one case waits on either side. A case that would not fit into memory beside another one
    has it for itself. The network runs in the calling thread: an interruption there ends the case
    it is at, what is being written is finished, and everything before is kept.

    Args:
        work: Says how.
        cases: To be predicted.

    Yields:
        One record per case, in their order.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        waiting = iter(cases)
        reading = _next(work, waiting, reader)
        writing: Future[PredictionRecord] | None = None
        while reading is not None:
            read = reading.result()
            is_alone = isinstance(read, ReadCase) and read.prepared is None
            if is_alone and writing is not None:
                yield writing.result()
                writing = None
            reading = None if is_alone else _next(work, waiting, reader)
            segmented: SegmentedCase | PredictionRecord = work.segment(read)
            # The image must not outlive its turn here while the next one is computed.
            del read
            written = writing.result() if writing is not None else None
            writing = writer.submit(work.save, segmented)
            del segmented
            if written is not None:
                yield written
            if is_alone:
                yield writing.result()
                writing = None
                reading = _next(work, waiting, reader)
        if writing is not None:
            yield writing.result()


def _next(
    work: CaseWork, waiting: Iterator[CaseFiles], reader: ThreadPoolExecutor
) -> "Future[ReadCase | PredictionRecord] | None":
    case = next(waiting, None)
    return None if case is None else reader.submit(work.read, case)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what is being written is finished first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_elsewhere(work: CaseWork, cases: Sequence[CaseFiles]) -> Iterator[PredictionRecord]:
    """Predict cases in worker processes or on a cluster, as the section `parallel` says.

    Every process loads the model once. All of them must see the same files.

    Args:
        work: Says how.
        cases: To be predicted.

    Yields:
        One record per case, in their order.
    """
    opened = work.opened
    remote = RemoteWork(opened.files, opened.digest, work.config, work.root, work.out_dir)
    for outcome in map_cases(remote, cases, description="predict"):
        error = outcome.error or DataError("the worker gave no result")
        yield outcome.result or PredictionRecord(
            case_id=outcome.item.case_id, status="failed", message=error.what, fix=error.fix
        )


@dataclass(frozen=True)
class RemoteWork:
    """The work on one case as it travels to another process.

    Args:
        files: Model files, at a place that the other process sees.
        digest: Hash of these models.
        config: The settings.
        root: Dataset folder.
        out_dir: Where predictions go.
    """

    files: tuple[Path, ...]
    digest: str
    config: InferConfig
    root: Path
    out_dir: Path

    def __call__(self, case: CaseFiles) -> PredictionRecord:
        """Predict a case with the model this process has loaded."""
        opened, earlier = _opened_here(self.files, self.digest, self.config, self.out_dir)
        return CaseWork(opened, self.config, self.root, self.out_dir, earlier).run(case)


# The workers of a cluster outlive a run: the digest tells them that a model was trained anew.
@lru_cache(maxsize=1)
def _opened_here(
    files: tuple[Path, ...], digest: str, config: InferConfig, out_dir: Path
) -> tuple[OpenModel, Earlier]:
    opened = open_model(files, config)
    if opened.digest != digest:
        raise CheckpointError(
            "a worker reads another model than the run was started with",
            where=str(files[0]),
            fix="let all machines see the same files, and do not train while predicting",
        )
    return opened, find_earlier(out_dir, opened, config)
