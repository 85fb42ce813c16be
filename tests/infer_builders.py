"""Models and runs of the infer stage for its tests."""

from pathlib import Path

import torch
from models_builders import model_info
from phantoms import write_dataset
from torch import nn

from pipeline.artifacts import CleanupRule, ModelInfo, Predictions
from pipeline.core.parallel_config import Part
from pipeline.core.tracker import NullTracker
from pipeline.infer.case import CaseWork
from pipeline.infer.config import InferConfig
from pipeline.infer.opened import OpenModel, open_model
from pipeline.infer.predict import shared_info
from pipeline.infer.records import find_earlier
from pipeline.infer.stage import infer, infer_part
from pipeline.io.discover import discover
from pipeline.models.checkpoint import Model, save_model
from pipeline.models.ensemble import ensemble_predictor
from pipeline.models.networks import build_network

KEEP_LARGEST = CleanupRule(
    class_name="class_1", kind="keep_largest", dice_before=0.8, dice_after=0.9, n_cases=9
)


class Threshold(nn.Module):
    """Class 2 where the normalized image is above 1, class 1 where above 0, else background."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        background = torch.full_like(image, 0.5)
        return torch.cat([background, (image > 0).float(), 2 * (image > 1).float()], dim=1)


def threshold_model(**changes) -> Model:
    return Model(Threshold().eval(), model_info(**changes), "digest")


def opened_threshold(**changes) -> OpenModel:
    model = threshold_model(**changes)
    return OpenModel(
        (Path("best.pt"),), ensemble_predictor([model]), shared_info([model]), model.digest
    )


def small_info(**changes) -> ModelInfo:
    return model_info(spacing_mm=(2.0, 2.0, 2.5)).model_copy(update=changes)


def write_model(file: Path, seed: int = 0, **changes) -> Path:
    """A model file with random weights, the same for the same seed."""
    info = small_info(**changes)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    weights = build_network(info.plan.network).state_dict()
    torch.random.set_rng_state(state)
    save_model(file, weights, info)
    return file


def small_data(folder: Path, n_cases: int, seed: int = 0, **changes) -> Path:
    """A dataset that is predicted in no time."""
    return write_dataset(folder, n_cases, seed, **{"shape": (16, 18, 16), **changes})


def config_with(**changes) -> InferConfig:
    return InferConfig.model_validate({"device": "cpu", "report": False, **changes})


def run(files, data: Path, out_dir: Path, **changes) -> Predictions:
    """Predict a folder with model files."""
    config = config_with(**changes)
    opened = open_model([files] if isinstance(files, Path) else files, config)
    return infer(config, opened, discover(data, n_channels=1), out_dir, NullTracker())


def run_part(file: Path, data: Path, out_dir: Path, part: Part) -> int:
    config = config_with()
    opened = open_model([file], config)
    return infer_part(config, opened, discover(data, n_channels=1), out_dir, part)


def work_for(opened: OpenModel, data: Path, out_dir: Path, **changes) -> CaseWork:
    config = config_with(**changes)
    return CaseWork(opened, config, data, out_dir, find_earlier(out_dir, opened, config))


def stamps(out_dir: Path) -> dict[str, int]:
    """When each prediction was written."""
    files = sorted((out_dir / "predictions").glob("*.nii.gz"))
    return {file.name: file.stat().st_mtime_ns for file in files}
