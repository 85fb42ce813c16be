"""Fingerprints and tasks to plan for."""

import numpy as np

from pipeline.artifacts import QUANTILE_LEVELS, CaseFingerprint, ChannelStatistics, Task
from pipeline.core.task import Channel, LabelClass


def make_task(*names: str, modality: str = "mr", n_channels: int = 1) -> Task:
    """Foreground classes by name, numbered from 1."""
    channels = tuple(Channel(name=f"c{i}", modality=modality) for i in range(n_channels))
    classes = tuple(
        LabelClass(name=name, index=i, source_values=(i,)) for i, name in enumerate(names, start=1)
    )
    return Task(channels=channels, classes=classes)


def make_row(
    shape=(64, 64, 64), spacing_mm=(1.0, 1.0, 1.0), case_id="a", nonzero=1.0, values=None
) -> CaseFingerprint:
    """One case with one channel, of these intensities."""
    values = np.linspace(-1, 1, 1001) if values is None else np.asarray(values, dtype=float)
    statistics = ChannelStatistics(
        n_voxels=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles=tuple(float(q) for q in np.quantile(values, QUANTILE_LEVELS)),
    )
    return CaseFingerprint(
        case_id=case_id,
        shape=shape,
        spacing_mm=spacing_mm,
        foreground=(statistics,),
        nonzero_fraction=nonzero,
        n_class_voxels=(10,),
    )
