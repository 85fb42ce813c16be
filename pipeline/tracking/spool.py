"""What is to be told to MLflow, kept on disk until it has been told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from pipeline.core.config import StrictModel
from pipeline.core.workspace import write_text

RunStatus: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


class Record(StrictModel):
    """One thing to tell.

    Runs are named by keys of our own, because a run may be spooled before MLflow gave it an id.
    """

    run: str
    time_ms: int


class StartRecord(Record):
    """The run exists and is running; replaying it finds the same run again.

    Without a name a run keeps the one it has; a new one is called by `first_name`.
    """

    op: Literal["start"] = "start"
    name: str | None
    first_name: str | None = None
    parent: str | None
    tags: dict[str, str]


class MetricRecord(Record):
    """A number at a step."""

    op: Literal["metric"] = "metric"
    key: str
    value: float
    step: int


class ParamRecord(Record):
    """A knob."""

    op: Literal["param"] = "param"
    key: str
    value: str


class TagRecord(Record):
    """A label; the last value wins."""

    op: Literal["tag"] = "tag"
    key: str
    value: str


class FileRecord(Record):
    """A file to upload as it is at the time of sending."""

    op: Literal["file"] = "file"
    file: Path
    folder: str


class PictureRecord(Record):
    """A picture of a series; the file is our own copy and is deleted once sent."""

    op: Literal["picture"] = "picture"
    file: Path
    key: str
    step: int


class DatasetRecord(Record):
    """Data that a run used."""

    op: Literal["dataset"] = "dataset"
    name: str
    digest: str
    context: str


class NestRecord(Record):
    """The run belongs below another one, as a fold does below its cross-validation."""

    op: Literal["nest"] = "nest"
    parent: str


class EndRecord(Record):
    """The run is over."""

    op: Literal["end"] = "end"
    status: RunStatus


AnyRecord = (
    StartRecord
    | MetricRecord
    | ParamRecord
    | TagRecord
    | FileRecord
    | PictureRecord
    | DatasetRecord
    | NestRecord
    | EndRecord
)
_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="op")])


@dataclass(frozen=True)
class Spooled:
    """A record and where the next one begins in its file, in bytes."""

    record: AnyRecord
    end: int


@dataclass(frozen=True)
class Spool:
    """A file of JSON lines; beside it lies how much of it has been sent.

    Args:
        file: The JSON lines; need not exist yet.
    """

    file: Path

    def append(self, records: Iterable[AnyRecord]) -> None:
        """Add records; they survive the end of the process.

        Raises:
            OSError: If the disk does not take them.
        """
        lines = b"".join(r.model_dump_json().encode() + b"\n" for r in records)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as stream:
            stream.write(lines)

    def all(self) -> Iterator[Spooled]:
        """Read every record, sent or not, from the first."""
        return self._read(0)

    def pending(self) -> Iterator[Spooled]:
        """Read the records that have not been sent."""
        return self._read(self.n_sent_bytes)

    @property
    def n_sent_bytes(self) -> int:
        """Where the first unsent record begins."""
        try:
            return int(self._sent_file.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def acknowledge(self, n_bytes: int) -> None:
        """Remember that everything before a byte has been sent."""
        write_text(self._sent_file, str(n_bytes), durable=False)  # sent twice does no harm

    def discard(self) -> None:
        """Delete the files of this spool, whose lock the caller holds."""
        for file in (self.file, self._sent_file, self._lock_file):
            file.unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """Lock that the writer holds while it lives; free means that the writer is gone."""
        return FileLock(self._lock_file)

    @property
    def _sent_file(self) -> Path:
        return self.file.with_suffix(".sent")

    @property
    def _lock_file(self) -> Path:
        return self.file.with_suffix(".lock")

    def _read(self, start: int) -> Iterator[Spooled]:
        if not self.file.exists():
            return
        with self.file.open("rb") as stream:
            stream.seek(start)
            position = start
            for line in stream:
                position += len(line)
                if not line.endswith(b"\n"):
                    return  # the writer was killed in the middle of it
                try:
                    record = _RECORD.validate_json(line)
                except ValidationError:
                    continue  # damaged, or written by another version
                yield Spooled(record, position)


def new_spool(folder: Path, time_ms: int, key: str) -> Spool:
    """Name the spool of one stage; names sort by age."""
    return Spool(folder / f"spool-{time_ms:013d}-{key}.jsonl")


def abandoned_spools(folder: Path) -> Iterator[Spool]:
    """Yield, oldest first and locked meanwhile, the spools whose writers are gone."""
    for file in sorted(folder.glob("spool-*.jsonl")):
        spool = Spool(file)
        lock = spool.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield spool
        finally:
            lock.release()
