"""Small models for tests of everything that uses one."""

from pipeline.artifacts import (
    LabelClass,
    ModelInfo,
    NetworkPlan,
    Normalization,
    Plan,
    Preprocessing,
    Task,
)
from pipeline.core.task import Channel


def model_info(
    *, spacing_mm=(1.0, 1.0, 1.0), patch_size=(16, 16, 16), source_values=((1,), (2,)), n_channels=1
) -> ModelInfo:
    """A two-class model description with a tiny network."""
    classes = tuple(
        LabelClass(name=f"class_{i}", index=i, source_values=values)
        for i, values in enumerate(source_values, start=1)
    )
    channels = tuple(Channel(name=f"MR{i}", modality="mr") for i in range(n_channels))
    plan = Plan(
        preprocessing=Preprocessing(
            spacing_mm=spacing_mm,
            normalizations=(Normalization(kind="zscore"),) * n_channels,
        ),
        network=NetworkPlan(
            kind="dynunet",
            n_input_channels=n_channels,
            n_output_channels=len(classes) + 1,
            features=(4, 8, 8),
            kernels=((3, 3, 3),) * 3,
            strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        ),
        patch_size=patch_size,
        batch_size=2,
        mirror_axes=(),
        learning_rate=1e-3,
        n_train_cases=1,
        median_shape=patch_size,
        device="cpu",
        reasons=("for a test",),
    )
    return ModelInfo(
        task=Task(channels=channels, classes=classes),
        plan=plan,
        dataset_name="test",
        dataset_digest="0" * 8,
        fold="0",
        voxline_version="0",
    )
