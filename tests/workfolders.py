"""Work folders as ingest and audit leave them, for tests of later stages."""

from collections.abc import Callable, Mapping
from pathlib import Path

from phantoms import write_dataset

from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest
from pipeline.train.config import TrainConfig


def audited(
    folder: Path,
    n_cases: int = 6,
    *,
    task: Mapping[str, object] | None = None,
    change: Callable[[Path], None] | None = None,
    **dataset: object,
) -> Workspace:
    """Write a phantom dataset, ingest and audit it.

    Args:
        folder: Gets data/ and work/.
        n_cases: Number of cases.
        task: Section `task` of the configuration.
        change: Called with the dataset folder before it is ingested.
        dataset: Passed on to `phantoms.write_dataset`.

    Returns:
        The work folder, ready for training.
    """
    data = write_dataset(folder / "data", n_cases, 0, **dataset)  # type: ignore[arg-type]
    if change is not None:
        change(data)
    workspace = Workspace(folder / "work")
    config = TaskConfig.model_validate(task or {}, strict=False)
    ingest(IngestConfig(), config, data, workspace, NullTracker())
    audit(AuditConfig(max_pictures=0), workspace, NullTracker())
    return workspace


def sharing(pristine: Workspace, root: Path) -> Workspace:
    """A work folder of its own in which nothing is trained yet.

    Args:
        pristine: Shares what was ingested and audited.
        root: The folder, not there yet.

    Returns:
        The work folder.
    """
    (root / "train").mkdir(parents=True)
    for name in ("ingest", "audit"):
        (root / name).symlink_to(pristine.root / name)
    return Workspace(root)


def quick(**changes: object) -> TrainConfig:
    """A training of a few steps with a tiny network."""
    values: dict[str, object] = {
        "steps": 6,
        "n_validations": 2,
        "device": "cpu",
        "patch_size": [16, 16, 16],
        "network": {"base_features": 4, "max_features": 8},
    }
    return TrainConfig.model_validate({**values, **changes}, strict=False)
