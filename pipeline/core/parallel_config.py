"""Where per-case work runs, and which share of it: section `parallel`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from pipeline.core.config import StrictModel
from pipeline.core.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of several shares of a list of cases, as the tasks of a job array do them.

    Args:
        number: Which share, from 1.
        n_parts: How many there are.
    """

    number: int
    n_parts: int

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every n-th item from the part's own first one: neighbors, often alike, are spread.

        Args:
            items: All cases, also those that are finished already, in an order that is the same
                in every part; only then is every case in exactly one part.

        Returns:
            The cases of this part.
        """
        return list(items[self.number - 1 :: self.n_parts])

    @property
    def name(self) -> str:
        """Name for folders: "2-of-8"."""
        return f"{self.number}-of-{self.n_parts}"


class ParallelConfig(StrictModel):
    """Section `parallel`."""

    backend: Literal["local", "dask"] = Field(
        default="local",
        description="local: processes on this machine; dask: workers of a cluster that is running",
    )
    scheduler: str | None = Field(
        default=None,
        pattern=r"^[a-z]+://\S+$",
        description="address of the dask scheduler, such as tcp://10.0.0.1:8786",
    )
    part: str | None = Field(
        default=None,
        description='which share of the cases this run does, such as "2/8"; the next run '
        "without it gathers all of them",
    )
    n_jobs: int | None = Field(
        default=None,
        ge=1,
        description="worker processes of every stage; unset: each stage decides by its data",
    )

    @model_validator(mode="after")
    def _scheduler_belongs_to_dask(self) -> "ParallelConfig":
        if self.backend == "dask" and self.scheduler is None:
            raise ValueError("dask needs the address of its scheduler: --scheduler tcp://HOST:8786")
        if self.backend == "local" and self.scheduler is not None:
            raise ValueError("a scheduler belongs to the dask backend: add --backend dask")
        return self

    @model_validator(mode="after")
    def _part_can_be_read(self) -> "ParallelConfig":
        if self.part is not None:
            parse_part(self.part)
        return self


def parse_part(text: str) -> Part:
    """Read a part such as "2/8".

    Args:
        text: Number of the part, from 1, and number of parts.

    Returns:
        The part.

    Raises:
        UsageError: If it is no such pair.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"'{text}' is no part of the cases",
            where="--part",
            fix="write number/parts, counted from 1: 1/8, 2/8, ..., 8/8",
        )
    return Part(int(match[1]), int(match[2]))
