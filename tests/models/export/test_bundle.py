import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from export_builders import info_with, untrained
from phantoms import write_dataset

from pipeline.artifacts import CleanupRule
from pipeline.core.volume import Volume
from pipeline.infer.predict import predict_case
from pipeline.models.export.bundle import label_values, limits_of, metadata, write_bundle

# `python -m monai.bundle` where this project cannot be imported.
RUN = (
    "import runpy, sys; sys.modules['pipeline'] = None; "
    "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
)


def rule(kind):
    return CleanupRule(
        class_name="class_1", kind=kind, min_ml=1.0, dice_before=0.5, dice_after=0.6, n_cases=9
    )


def test_the_folder_holds_what_monai_label_looks_for(tmp_path):
    limits = write_bundle(untrained(info_with()), tmp_path)
    for name in ("configs/metadata.json", "configs/inference.json", "models/model.pt"):
        assert (tmp_path / name).is_file()
    config = json.loads((tmp_path / "configs" / "inference.json").read_text())
    assert {"network_def", "preprocessing", "inferer", "postprocessing"} <= config.keys()
    assert {"device", "bundle_root", "dataset_dir", "dataset", "evaluator"} <= config.keys()
    readme = (tmp_path / "docs" / "README.md").read_text()
    assert all(limit in readme for limit in limits)
    assert "- 2: class_2" in readme


def test_metadata_name_channels_and_the_values_that_are_written():
    described = metadata(info_with(source_values=((4,), (9, 10))))
    (image,) = described["network_data_format"]["inputs"].values()
    (prediction,) = described["network_data_format"]["outputs"].values()
    assert image["num_channels"] == 1
    assert image["spatial_shape"] == [16, 16, 16]
    assert prediction["num_channels"] == 3
    assert prediction["channel_def"] == {"0": "background", "4": "class_1", "9": "class_2"}
    assert {"version", "monai_version", "pytorch_version", "numpy_version"} <= described.keys()
    assert "scikit-image" not in described["required_packages_version"]


def test_what_a_bundle_leaves_out_is_said():
    rules = (rule("remove_islands"), rule("fill_holes"))
    text = " ".join(limits_of(info_with(cleanup=rules)))
    assert "small pieces of class_1" in text
    assert "Holes in class_1" in text
    needed = metadata(info_with(cleanup=rules))["required_packages_version"]
    assert "scikit-image" in needed
    assert label_values(info_with().task) == {0: "background", 1: "class_1", 2: "class_2"}


@pytest.mark.slow
def test_monai_runs_the_bundle_on_a_folder_without_this_project(tmp_path):
    for package in ("fire", "ignite"):
        pytest.importorskip(package)
    images = write_dataset(tmp_path / "data", 2, shape=(16, 16, 16)) / "imagesTr"
    info = info_with(spacing_mm=(1.5, 1.5, 2.0))
    model = untrained(info)
    bundle = tmp_path / "phantom_segmentation"
    bundle.mkdir()
    write_bundle(model, bundle)
    configs = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
    places = ["--dataset_dir", str(images), "--output_dir", str(tmp_path / "out")]
    for words in (["verify_net_in_out", "network_def", *configs], ["run", *configs, *places]):
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words],
            cwd=bundle,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for file in sorted(images.glob("*.nii.gz")):
        image = nib.load(file)
        found = nib.load(tmp_path / "out" / file.name)
        expected = predict_case(model, Volume(np.asarray(image.dataobj)[None], image.affine))
        assert found.get_data_dtype() == np.uint8
        assert np.allclose(found.affine, image.affine)
        assert np.mean(np.asarray(found.dataobj) == expected.array) >= 0.999
