"""Where things lie in a work folder, and how files get there without ever being half-written."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

# In a fold's folder: which MLflow parent run its curves belong to.
TRACKING_PARENT = "tracking_parent.txt"
# In the name of the folder of a fold that was trained again with another seed.
SEED_MARK = "_seed_"


@dataclass(frozen=True)
class Workspace:
    """The folder of one experiment; each stage writes below its own name only.

    Args:
        root: The work folder, absolute.
        train_root: Where trainings go instead of train/, as for one combination of a sweep.
        seed: Set for a training that repeats a fold with another seed; it has its own folder.
    """

    root: Path
    train_root: Path | None = None
    seed: int | None = None

    def stage_dir(self, stage: str) -> Path:
        """Output folder of a stage."""
        if stage == "train" and self.train_root is not None:
            return self.train_root
        return self.root / stage

    @property
    def dataset_file(self) -> Path:
        """Manifest written by ingest."""
        return self.root / "ingest" / "dataset.json"

    @property
    def store_dir(self) -> Path:
        """Case store written by ingest."""
        return self.root / "ingest" / "store"

    @property
    def findings_file(self) -> Path:
        """Findings written by audit."""
        return self.root / "audit" / "findings.json"

    @property
    def fingerprint_file(self) -> Path:
        """Fingerprint written by audit."""
        return self.root / "audit" / "fingerprint.json"

    @property
    def splits_file(self) -> Path:
        """Folds written by audit."""
        return self.root / "audit" / "splits.json"

    def fold_dir(self, fold: str) -> Path:
        """Training output of one fold, "0" to "4" or "all"."""
        suffix = "" if self.seed is None else f"{SEED_MARK}{self.seed}"
        return self.stage_dir("train") / f"fold_{fold}{suffix}"

    @property
    def prepared_dir(self) -> Path:
        """Preprocessed volumes, by content and preprocessing, for all trainings; safe to delete."""
        return self.root / "train" / "prepared"

    def infer_dir(self, dataset_name: str) -> Path:
        """Predictions for one dataset."""
        return self.root / "infer" / dataset_name

    def evaluate_dir(self, dataset_name: str) -> Path:
        """Scores for one dataset."""
        return self.root / "evaluate" / dataset_name


def put_aside(folder: Path, shelf: Path) -> Path:
    """Move a folder out of the way under the next free number; nothing is ever overwritten.

    Args:
        folder: What is to be replaced.
        shelf: Folder for what was replaced before; created if needed.

    Returns:
        Where it lies now.
    """
    shelf.mkdir(parents=True, exist_ok=True)
    taken = [int(old.name.rpartition("-")[2]) for old in shelf.glob(f"{folder.name}-*")]
    target = shelf / f"{folder.name}-{1 + max(taken, default=0):03d}"
    folder.rename(target)
    return target


@contextmanager
def atomic_write(file: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file so that it is either complete or as it was before, whatever happens.

    Bytes go to a temporary file in the same folder, reach the disk, then take the name in one step.

    Args:
        file: Final path; its folder is created.
        durable: Wait until the disk has it, so that a power failure cannot undo the promise. False
            is for many small files that can be made again; killing the process is safe either way.

    Yields:
        A binary stream.
    """
    descriptor, temporary = _new_part(file)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, file)  # noqa: PTH105  # a Path for each small file takes its time
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _new_part(file: Path) -> tuple[int, str]:
    """Open a new file beside the final one, with the permissions that every new file gets.

    Not by `tempfile.mkstemp`: its files are private, and asking for the usual permissions changes
    them for the whole process for a moment, in which other threads write files too.
    """
    temporary = f"{file.parent}/.{file.name}.{uuid.uuid4().hex[:12]}.part"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, 0o666), temporary
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(temporary, flags, 0o666), temporary


def write_text(file: Path, text: str, *, durable: bool = True) -> None:
    """Write text atomically, UTF-8; see `atomic_write`."""
    with atomic_write(file, durable=durable) as stream:
        stream.write(text.encode("utf-8"))


def write_json(file: Path, model: BaseModel, *, durable: bool = True) -> None:
    """Write a pydantic model as indented JSON, atomically; see `atomic_write`."""
    write_text(file, model.model_dump_json(indent=1) + "\n", durable=durable)
