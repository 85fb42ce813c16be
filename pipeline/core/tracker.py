"""What stages may say to experiment tracking, without knowing MLflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

Number = float | int


@runtime_checkable
class Tracker(Protocol):
    """Where a stage reports to. Calls never raise: tracking must not stop the work."""

    def log_params(self, params: Mapping[str, str | Number | bool]) -> None:
        """Record knobs that people compare between runs (on the parent run)."""

    def log_metrics(
        self,
        metrics: Mapping[str, Number | None],
        *,
        step: int | None = None,
        headline: bool = True,
    ) -> None:
        """Record numbers; None, NaN and infinities are left out.

        Args:
            metrics: Name to value; "/" groups names into sections of the UI.
            step: Position on the x axis of a curve.
            headline: On the parent run, where runs are compared; otherwise on the stage's run.
        """

    def log_file(self, file: Path, *, folder: str = "", headline: bool = False) -> None:
        """Record a file. Headline files lie at the artifact root of the parent run."""

    def log_table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | Number | None]]
    ) -> None:
        """Record a table, such as one row per case, on the parent run."""

    def log_picture(self, file: Path, *, key: str, step: int) -> None:
        """Record a PNG as one step of a picture series on the parent run."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Label the parent run."""

    def log_dataset(self, *, name: str, digest: str, context: str) -> None:
        """Record which data a stage used, by content digest."""

    def flush(self) -> None:
        """Send what is still waiting."""

    @property
    def run_id(self) -> str | None:
        """Id of the parent run, if there is one."""

    @property
    def parent_key(self) -> str | None:
        """Our own name of the parent run, known also while a server is away."""


class NullTracker:
    """Tracks nothing; stages produce the same files with it."""

    def log_params(self, params: Mapping[str, str | Number | bool]) -> None:
        """Do nothing."""

    def log_metrics(
        self,
        metrics: Mapping[str, Number | None],
        *,
        step: int | None = None,
        headline: bool = True,
    ) -> None:
        """Do nothing."""

    def log_file(self, file: Path, *, folder: str = "", headline: bool = False) -> None:
        """Do nothing."""

    def log_table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | Number | None]]
    ) -> None:
        """Do nothing."""

    def log_picture(self, file: Path, *, key: str, step: int) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_dataset(self, *, name: str, digest: str, context: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    @property
    def run_id(self) -> str | None:
        """No run."""
        return None

    @property
    def parent_key(self) -> str | None:
        """No run."""
        return None
