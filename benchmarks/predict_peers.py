"""The same network in nnU-Net's predictor or in MONAI's chain, from image files to label files.

Started by predict.py, nnU-Net with the interpreter of an environment of its own (see there):

    PEERS/bin/python benchmarks/predict_peers.py {nnunet|monai} WORK OUT

WORK holds images/, weights.pt and spec.json; label maps go to OUT/labels.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

# At the top: imports count from the start of the program.
_STARTED_S = time.perf_counter()
# As many windows per call as we take: torch's small convolutions on a CPU are faster from two on.
_MONAI_BATCH = 2


def main() -> None:
    """Predict all images."""
    tool, work, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    spec = json.loads((work / "spec.json").read_text())
    (out / "labels").mkdir(parents=True)
    {"nnunet": _nnunet, "monai": _monai}[tool](spec, work, out)


def _imported(out: Path) -> None:
    elapsed_s = time.perf_counter() - _STARTED_S
    (out / "imports.json").write_text(json.dumps({"seconds": elapsed_s}))


def _network(spec: dict[str, Any]) -> Any:
    nets: Any = importlib.import_module("monai.networks.nets.dynunet")
    return nets.DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=spec["n_classes"],
        kernel_size=spec["kernels"],
        strides=spec["strides"],
        upsample_kernel_size=spec["strides"][1:],
        filters=spec["features"],
        norm_name=("instance", {"affine": True, "eps": 1e-5}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
    ).eval()


def _nnunet(spec: dict[str, Any], work: Path, out: Path) -> None:
    import torch

    # By name: the package is only there in the peers' Python.
    module: Any = importlib.import_module("nnunetv2.inference.predict_from_raw_data")
    plans_module: Any = importlib.import_module("nnunetv2.utilities.plans_handling.plans_handler")
    network = _network(spec)
    _imported(out)
    device = torch.device("cpu")
    predictor = module.nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=device,
        allow_tqdm=False,
    )
    manager = plans_module.PlansManager(_plans(spec))
    labels = {"background": 0, **{f"structure {i}": i for i in range(1, spec["n_classes"])}}
    description = {"channel_names": {"0": "image"}, "labels": labels, "file_ending": ".nii.gz"}
    weights = torch.load(work / "weights.pt", weights_only=True)
    predictor.manual_initialization(
        network,
        manager,
        manager.get_configuration("3d_fullres"),
        [weights],
        description,
        "nnUNetTrainer",
        None,
    )
    images = sorted((work / "images").iterdir())
    names = [str(out / "labels" / file.name.removesuffix(".nii.gz")) for file in images]
    predictor.predict_from_files(
        [[str(file)] for file in images],
        names,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


def _plans(spec: dict[str, Any]) -> dict[str, Any]:
    """As much of nnU-Net's plans as its predictor reads."""
    scheme = spec["normalization"]
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    of_labels = {**resampling, "is_seg": True, "order": 1}
    of_probabilities = {**resampling, "order": 1}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": spec["window"],
        "median_image_size_in_voxels": spec["window"],
        "spacing": spec["spacing_mm"],
        "normalization_schemes": [
            "CTNormalization" if scheme["kind"] == "ct" else "ZScoreNormalization"
        ],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": of_labels,
        "resampling_fn_probabilities_kwargs": of_probabilities,
        # Never built: the predictor is given its network.
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "batch_dice": False,
    }
    intensities = {
        "mean": scheme["mean"],
        "std": scheme["std"],
        "percentile_00_5": scheme["lower"],
        "percentile_99_5": scheme["upper"],
    }
    return {
        "dataset_name": "Dataset001_Benchmark",
        "plans_name": "nnUNetPlans",
        # Its reader gives arrays k, j, i; the network was trained on i, j, k.
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "image_reader_writer": "SimpleITKIO",
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"3d_fullres": configuration},
    }


def _monai(spec: dict[str, Any], work: Path, out: Path) -> None:
    """The chain of MONAI's bundles, without their softmax, which the largest class does not need.

    Images are worked on one after the other, as `monai.bundle run` does with its default loader.
    """
    import torch

    # By name, as these packages do not say what they export.
    data: Any = importlib.import_module("monai.data")
    inferers: Any = importlib.import_module("monai.inferers")
    transforms: Any = importlib.import_module("monai.transforms")
    network = _network(spec)
    before = transforms.Compose(_before(spec, transforms))
    after = transforms.Compose(_after(before, out / "labels", transforms))
    _imported(out)
    network.load_state_dict(torch.load(work / "weights.pt", weights_only=True))
    inferer = inferers.SlidingWindowInferer(
        spec["window"], sw_batch_size=_MONAI_BATCH, overlap=0.5, mode="gaussian"
    )
    for file in sorted((work / "images").iterdir()):
        item = before({"image": str(file)})
        with torch.inference_mode():
            logits = inferer(item["image"][None], network)
            item["pred"] = data.decollate_batch(logits)[0]
            del logits
            after(item)


def _before(spec: dict[str, Any], transforms: Any) -> list[Any]:
    scheme = spec["normalization"]
    # Clipping and scaling in one, so that the result is (HU - mean) / std.
    low, high = ((scheme[end] - scheme["mean"]) / scheme["std"] for end in ("lower", "upper"))
    normalize = (
        transforms.ScaleIntensityRanged(
            "image", scheme["lower"], scheme["upper"], low, high, clip=True
        )
        if scheme["kind"] == "ct"
        else transforms.NormalizeIntensityd("image")
    )
    orientation = {"axcodes": "RAS", "labels": (("L", "R"), ("P", "A"), ("I", "S"))}
    return [
        transforms.LoadImaged("image"),
        transforms.EnsureChannelFirstd("image"),
        transforms.Orientationd("image", **orientation),
        transforms.Spacingd("image", pixdim=spec["spacing_mm"], mode="bilinear"),
        normalize,
    ]


def _after(before: Any, folder: Path, transforms: Any) -> list[Any]:
    return [
        transforms.Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
        transforms.AsDiscreted("pred", argmax=True),
        transforms.SaveImaged(
            "pred",
            output_dir=folder,
            output_postfix="",
            separate_folder=False,
            resample=False,
            output_dtype="uint8",
            print_log=False,
        ),
    ]


if __name__ == "__main__":
    main()
