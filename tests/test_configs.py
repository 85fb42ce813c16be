"""Every shipped configuration plans, builds its network and makes a step on phantoms."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from workfolders import audited

from pipeline.core.workspace import Workspace
from pipeline.experiment import Experiment, load_experiment
from pipeline.train.data import BatchSource
from pipeline.train.learner import Learner
from pipeline.train.prepare import prepare_cases
from pipeline.train.select import select_training

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))
# The smallest patch that all shipped networks take, and their smallest widths.
TINY = {"patch_size": (32, 32, 32), "batch_size": 2, "device": "cpu", "probe": False}
NARROW = {"swinunetr": {"base_features": 12}, "monai": {}}


def relabelled(values: list[int]):
    """Give the phantoms the label values a configuration names."""

    def change(folder: Path) -> None:
        table = np.array([0, *values], dtype=np.uint8)
        for file in (folder / "labelsTr").glob("*.nii.gz"):
            old = nib.load(file)
            new = nib.Nifti1Image(table[np.asarray(old.dataobj)], old.affine)
            nib.save(new, file)

    return change


def phantoms_for(experiment: Experiment, folder: Path) -> Workspace:
    """A work folder whose data have the classes and the channels of a configuration."""
    classes = experiment.task.classes or {"liver": 1, "kidney": 2}
    values = [v if isinstance(v, int) else v[0] for v in classes.values()]
    return audited(
        folder,
        3,
        task=experiment.task.model_dump(exclude_unset=True),
        change=relabelled(values),
        n_classes=len(values),
        n_channels=len(experiment.task.modality or ["mr"]),
    )


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_configuration_makes_a_step(file, tmp_path):
    experiment = load_experiment(file)
    workspace = phantoms_for(experiment, tmp_path)
    network = experiment.train.network
    if network.kind == "swinunetr":
        pytest.importorskip("einops", reason="MONAI's SwinUNETR needs the package einops")
    network = network.model_copy(update=NARROW.get(network.kind, {"base_features": 8}))
    config = experiment.train.model_copy(update={**TINY, "network": network})
    training = select_training(config, workspace)
    assert training.plan.network.kind == config.network.kind
    task = training.info.task
    if experiment.task.classes:
        assert set(task.class_names) == set(experiment.task.classes)
    cases = prepare_cases(training.train_records, training.plan.preprocessing, task, workspace)
    learner = Learner(training.plan, task, config, training.device)
    before = [p.detach().clone() for p in learner.network.parameters()]
    source = BatchSource(cases, training.plan, config, training.device)
    result = learner.step(source.batch(0), training.plan.learning_rate)
    assert result.is_finite
    after = learner.network.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
