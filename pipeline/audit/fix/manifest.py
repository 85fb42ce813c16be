"""`fixes.json`: what was changed in the corrected copy, what was not, and why."""

from pydantic import Field

from pipeline.artifacts import Artifact
from pipeline.core.config import StrictModel


class FixedFile(StrictModel):
    """One file of the copy that differs from its source."""

    file: str = Field(description="path in the copy, relative to its folder")
    source: str = Field(description="path in the source, relative to its folder")
    case_id: str
    done: tuple[str, ...] = Field(description="check id and what was done, in order")
    sha256_before: str
    sha256_after: str


class LeftFinding(StrictModel):
    """An error or warning that the copy still has."""

    check_id: str
    case_id: str | None
    reason: str


class FixManifest(Artifact):
    """What `voxline audit --fix` did."""

    source: str = Field(description="name of the source folder")
    unsafe: tuple[str, ...] = Field(description="unsafe repairs that were asked for")
    assumptions: tuple[str, ...] = Field(description="what they take for granted")
    n_files_copied: int = Field(description="files that are equal to their source")
    fixed: tuple[FixedFile, ...]
    left: tuple[LeftFinding, ...]
