"""The transforms of a bundle give what our own steps give; here they run as MONAI Label runs them:
pieces of the configuration, without the engine."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from export_builders import CT, info_with, untrained
from hypothesis import given
from hypothesis import strategies as st
from network_builders import PARAMETERS, patch_of, small_network
from phantoms import case, write_nifti

from pipeline.artifacts import CleanupRule, Normalization, Region
from pipeline.core.errors import UsageError
from pipeline.core.geometry import Geometry, spacing_of
from pipeline.core.volume import Volume, to_ras
from pipeline.infer.predict import predict_case
from pipeline.models.export.bundle_config import inference_config, network_config
from pipeline.models.networks import build_network, plain_weights
from pipeline.models.window import window_starts
from pipeline.transforms.preprocess import (
    interpolation_orders,
    prepared_shape,
    preprocess_image,
)

# Readers of other formats announce at every start which of their plug-ins are missing.
pytestmark = pytest.mark.filterwarnings("ignore:.*nvImageCodec")

ZSCORE = Normalization(kind="zscore")
NONZERO = Normalization(kind="zscore_nonzero")


def parser_of(info):
    from monai.bundle import ConfigParser

    return ConfigParser(json.loads(json.dumps(inference_config(info))))


def write_image(folder, spacing_mm, orientation, n_channels=1, shape=(24, 28, 20)):
    image, _, affine = case(3, shape, spacing_mm, orientation)
    image = np.where(image > 40, image, 0)
    channels = np.stack([image * (c + 1) + 20 * c * (image > 90) for c in range(n_channels)])
    stored = channels[0] if n_channels == 1 else np.moveaxis(channels, 0, -1)
    return write_nifti(folder / "case.nii.gz", stored.astype(np.float32), affine), channels, affine


def prepare(parser, file):
    from monai.transforms import SaveImaged

    steps = parser.get_parsed_content("preprocessing").transforms
    data = {"image": str(file)}
    for step in steps:
        data = step(data)
    # MONAI Label leaves the saving out and does it itself.
    finish = parser.get_parsed_content("postprocessing").transforms
    return data, [step for step in finish if not isinstance(step, SaveImaged)]


def segment(info, model, file):
    parser = parser_of(info)
    data, finish = prepare(parser, file)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(model.network.state_dict())
    with torch.inference_mode():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    for step in finish:
        data = step(data)
    return data["pred"]


GRIDS = {
    "same spacing": ((1.0, 1.0, 1.0), "RAS", (1.0, 1.0, 1.0)),
    "another orientation": ((1.0, 1.0, 1.0), "PIR", (1.0, 1.0, 1.0)),
    "finer": ((1.3, 1.2, 1.4), "LPS", (1.0, 1.0, 1.0)),
    "coarser": ((0.8, 0.8, 1.1), "RAS", (1.0, 1.0, 1.5)),
    "thick slices": ((1.0, 1.0, 4.0), "LPS", (0.8, 0.8, 3.0)),
    "thick slices of the training": ((1.0, 1.0, 1.2), "RAS", (0.8, 0.8, 3.0)),
    "every second slice": ((0.7, 0.7, 2.5), "RPI", (0.7, 0.7, 5.0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_labels_are_those_of_voxline(tmp_path, name):
    source_mm, orientation, target_mm = GRIDS[name]
    info = info_with(spacing_mm=target_mm)
    model = untrained(info)
    file, channels, affine = write_image(tmp_path, source_mm, orientation, shape=(16, 16, 16))
    expected = predict_case(model, Volume(channels, affine)).array
    found = segment(info, model, file)
    assert tuple(found.shape[1:]) == expected.shape
    assert np.allclose(found.affine.numpy(), affine)
    assert np.mean(found[0].numpy() == expected) >= 0.999
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize(
    "kinds",
    [(ZSCORE,), (NONZERO,), (CT,), (ZSCORE, ZSCORE), (NONZERO, NONZERO), (CT, ZSCORE)],
    ids=lambda kinds: "+".join(n.kind for n in kinds),
)
def test_the_network_sees_what_it_saw_in_training(tmp_path, kinds):
    info = info_with(normalizations=kinds, spacing_mm=(1.2, 1.2, 1.2))
    file, channels, affine = write_image(tmp_path, (1.0, 1.0, 1.5), "LPS", len(kinds))
    expected = preprocess_image(to_ras(Volume(channels, affine)), info.plan.preprocessing).array
    found, _ = prepare(parser_of(info), file)
    assert tuple(found["image"].shape) == expected.shape
    assert np.abs(found["image"].numpy() - expected).max() < 1e-4


def test_values_of_the_training_files_are_written(tmp_path):
    info = info_with(source_values=((7, 8), (300,)))
    model = untrained(info)
    file, _, _ = write_image(tmp_path, (1.0, 1.0, 1.0), "RAS")
    found = segment(info, model, file)
    assert set(np.unique(found.numpy())) <= {0, 7, 300}
    saved = inference_config(info)["postprocessing"]["transforms"][-1]
    assert saved["output_dtype"] == "uint16"


def test_the_largest_piece_is_kept(tmp_path):
    pytest.importorskip("skimage")
    rule = CleanupRule(
        class_name="class_1", kind="keep_largest", dice_before=0.5, dice_after=0.6, n_cases=9
    )
    info = info_with(cleanup=(rule,))
    _, finish = prepare(parser_of(info), write_image(tmp_path, (1.0, 1.0, 1.0), "RAS")[0])
    (keep,) = [step for step in finish if "Largest" in type(step).__name__]
    label = torch.zeros(1, 8, 8, 8)
    label[0, 1:4, 1:4, 1:4], label[0, 4, 4, 4], label[0, 7, 7, 7] = 1, 1, 1
    label[0, 6:, 0, 0] = 2
    kept = keep({"pred": label})["pred"]
    # The voxel that touches by a corner only belongs to the piece: 26 neighbors.
    assert kept[0, 4, 4, 4] == 1
    assert kept[0, 7, 7, 7] == 0
    assert (kept == 2).sum() == 2


@given(n=st.integers(1, 400), w=st.integers(8, 128))
def test_windows_of_monai_start_near_ours(n, w):
    from monai.inferers.utils import _get_scan_interval

    overlap = functions_for((1.0, 1.0, 1.0))["overlap"](n, w)
    (step,) = _get_scan_interval([max(n, w)], [w], 1, [overlap])
    ours = window_starts(n, w, 0.5)
    theirs = sorted({min(i * step, max(n, w) - w) for i in range(len(ours))})
    assert theirs[-1] == ours[-1]
    assert len(theirs) <= len(ours)
    assert all(min(abs(a - b) for b in theirs) < len(ours) for a in ours)


SPACINGS = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@given(spacing_mm=SPACINGS, target_mm=SPACINGS, n=st.tuples(*[st.integers(1, 90)] * 3))
def test_sizes_and_thick_slices_follow_our_rules(spacing_mm, target_mm, n):
    functions = functions_for(target_mm)
    source = Geometry(n, np.diag([*spacing_mm, 1.0]))
    grid = ImageLike(n, spacing_mm)
    assert tuple(functions["size"](grid, -1)) == prepared_shape(source, target_mm)
    axis = functions["slice_axis"](list(spacing_of(source.affine)))
    orders = interpolation_orders(source.spacing_mm, target_mm, 3)
    assert (axis >= 0) == (0 in orders)
    assert axis < 0 or orders[axis] == 0


class ImageLike:
    """What the sizes are computed from: shape and spacing of a MONAI image."""

    def __init__(self, shape, spacing_mm):
        self.shape = (1, *shape)
        self.pixdim = torch.tensor(spacing_mm, dtype=torch.float64)


@cache
def functions_for(target_mm):
    parser = parser_of(info_with(spacing_mm=target_mm))
    names = ("size", "slice_axis", "overlap")
    return {name: parser.get_parsed_content(name) for name in names}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_network_is_ours(name):
    from monai.bundle import ConfigParser

    if name == "swinunetr":
        pytest.importorskip("einops")
    plan = small_network(name)
    ours = build_network(plan).eval()
    config = json.loads(json.dumps(network_config(plan)))
    network = ConfigParser({"net": config}).get_parsed_content("net")
    network.load_state_dict(plain_weights(ours.state_dict()))
    windows = torch.randn(1, 1, *patch_of(name))
    with torch.inference_mode():
        assert torch.equal(network.eval()(windows), ours(windows))


@pytest.mark.parametrize("value", ["$__import__('os')", "@device", {"_target_": "os.system"}])
def test_arguments_that_a_bundle_would_run_are_refused(value):
    plan = small_network("unet", args={"norm": value})
    with pytest.raises(UsageError, match="'norm' of the network means something else"):
        network_config(plan)


def test_files_of_one_channel_each_are_grouped(tmp_path):
    for name in ("a_0000", "a_0001", "b"):
        (tmp_path / f"{name}.nii.gz").touch()
    parser = parser_of(info_with(normalizations=(ZSCORE, ZSCORE)))
    parser["dataset_dir"] = str(tmp_path)
    cases = parser.get_parsed_content("dataset#data")
    assert cases == [
        {"image": [str(tmp_path / "a_0000.nii.gz"), str(tmp_path / "a_0001.nii.gz")]},
        {"image": str(tmp_path / "b.nii.gz")},
    ]


def test_regions_are_refused_with_another_way():
    region = Region(name="whole", classes=("class_1",), paints="class_1")
    info = info_with()
    task = info.task.model_copy(update={"regions": (region,)})
    with pytest.raises(UsageError, match="overlapping regions") as caught:
        inference_config(info.model_copy(update={"task": task}))
    assert "mlflow" in caught.value.fix


def test_a_mixture_that_monai_cannot_express_is_refused():
    with pytest.raises(UsageError, match="cannot be expressed"):
        inference_config(info_with(normalizations=(CT, NONZERO)))


def test_nothing_of_this_project_is_named():
    text = json.dumps(inference_config(info_with(normalizations=(CT, ZSCORE))))
    assert "pipeline" not in text
    assert "voxline" not in text
