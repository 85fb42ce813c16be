"""What a served model does: segment one array, or all images of a folder."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt

from pipeline.core.errors import UsageError, VoxlineError
from pipeline.core.volume import Volume
from pipeline.infer.predict import predict_case
from pipeline.io.channels import load_image
from pipeline.io.discover import CaseFiles, choice_for, discover
from pipeline.io.nifti import write_nifti
from pipeline.models.checkpoint import Model
from pipeline.transforms.restore import to_native

ServedRow = dict[str, str]


def segment_array(model: Model, image: Any, affine: Any) -> UInt[np.ndarray, "i j k"]:
    """Segment one image given as numbers, such as nested lists from JSON.

    Args:
        model: From `load_model`.
        image: Intensities as in the training files, (i, j, k) or (channel, i, j, k), in any
            orientation.
        affine: Voxel index to world mm, RAS+, 4 x 4; a spacing is never assumed.

    Returns:
        Label values on the same voxels, shape (i, j, k).

    Raises:
        UsageError: If image or affine are not arrays of numbers of those shapes.
        DataError: If the model takes other channels, or a voxel is not finite.
    """
    voxels = _numbers("image", image, "float32")
    matrix = _numbers("affine", affine, "float64")
    if voxels.ndim not in (3, 4) or matrix.shape != (4, 4):
        raise UsageError(
            f"the image has shape {voxels.shape} and the affine {matrix.shape}",
            fix="give an image (i, j, k) or (channel, i, j, k) and its 4 x 4 affine in mm, RAS+",
        )
    channels = voxels if voxels.ndim == 4 else voxels[np.newaxis]
    return predict_case(model, Volume(channels, matrix)).array


def segment_folder(model: Model, folder: Path, output: Path) -> tuple[ServedRow, ...]:
    """Segment every image of a folder; one that fails is named and does not stop the others.

    Args:
        model: From `load_model`.
        folder: Images in any layout that `voxline infer` reads.
        output: New or empty folder; gets <case_id>.nii.gz.

    Returns:
        Per case its case_id, status "done" or "failed", file and message.

    Raises:
        UsageError: If there is no such folder, or the output folder holds something.
    """
    if not folder.is_dir():
        raise UsageError(
            "there is no such image folder",
            where=str(folder),
            fix="name a folder on the machine where the model runs",
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            "the output folder is not empty", where=str(output), fix="name a new folder"
        )
    found = discover(folder.resolve(), choice=choice_for(model.info.task))
    return tuple(_segment_case(model, case, found.root, output) for case in found.cases)


def _segment_case(model: Model, case: CaseFiles, root: Path, output: Path) -> ServedRow:
    file = output / f"{case.case_id}.nii.gz"
    row = {"case_id": case.case_id, "status": "done", "file": str(file), "message": ""}
    try:
        image = load_image(case.images, root=root)
        label = predict_case(model, image.volume)
        write_nifti(file, to_native(label, image.native), like=image.facts)
    except VoxlineError as error:
        return {**row, "status": "failed", "file": "", "message": f"{error.what} ({error.fix})"}
    return row


def _numbers(name: str, values: Any, dtype: str) -> Float[np.ndarray, "..."]:
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError):
        raise UsageError(
            f"the {name} is not an array of numbers",
            fix='give {"image": ..., "affine": ...} with nested lists or arrays of equal lengths',
        ) from None
