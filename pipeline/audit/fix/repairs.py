"""What can be mended in a label file, one small function per fault.

Safe repairs cannot change what a person meant; the others choose between readings and run only
when they are named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cc3d
import numpy as np
from jaxtyping import Bool, Real
from scipy import ndimage

from pipeline.artifacts import FileFacts, Finding
from pipeline.core.geometry import Affine, Shape3, orientation_of
from pipeline.core.task import Task

LabelArray = Real[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"]

# A share of the largest piece below which a piece is an island, as in check S05.
_ISLAND_SHARE = 0.005
_ISLAND_VOXELS = 3
# A label with less of it inside the image grid was not drawn where its affine says.
_MIN_KEPT = 0.5


@dataclass(frozen=True)
class LabelFile:
    """A label on its way from the source to the copy.

    Args:
        array: Values as in the file, scaled, axes as stored.
        affine: Voxel to world mm (RAS+) that the file will have.
        like: Facts of the file whose placement (forms and codes) is written.
        image: Facts of the image of this case; None if it could not be read.
        task: What is to be segmented.
    """

    array: LabelArray
    affine: Affine
    like: FileFacts
    image: FileFacts | None
    task: Task


@dataclass(frozen=True)
class Repair:
    """The outcome of one repair.

    Args:
        label: The mended label; None if it cannot be mended this way.
        text: What was done, or why nothing could be done.
    """

    label: LabelFile | None
    text: str


Mend = Callable[[LabelFile, Finding], Repair]


def squeeze(label: LabelFile, finding: Finding) -> Repair:
    """F06: a fourth axis of length 1 was dropped when the file was read."""
    if label.like.shape == label.array.shape:
        return Repair(None, "the axis is short, not superfluous")
    return Repair(label, "dropped axes of length 1")


def remap_binary(label: LabelFile, finding: Finding) -> Repair:
    """E02: write the two values of a mask as background and as the only class."""
    if len(label.task.classes) != 1 or len(label.task.classes[0].source_values) != 1:
        return Repair(None, "several classes are declared: which one the mask shows is unknown")
    values = np.unique(label.array)
    if values.size != 2:
        return Repair(None, f"the mask has {values.size} values, not two")
    target = label.task.classes[0].source_values[0]
    off = label.task.background_values[0]
    mended = np.where(label.array == values[1], target, off).astype(np.int64)
    text = f"wrote {values[0]:g} as {off} and {values[1]:g} as {target}"
    return Repair(replace(label, array=mended), text)


def round_values(label: LabelFile, finding: Finding) -> Repair:
    """E03: round values that lie close to declared integers."""
    rounded = np.rint(label.array)
    distance = float(np.abs(label.array - rounded).max())
    undeclared = set(np.unique(rounded).tolist()) - set(label.task.declared_values)
    if distance >= 0.1:
        return Repair(None, f"values lie up to {distance:.2g} off an integer: export them again")
    if undeclared:
        return Repair(None, f"rounding gives undeclared values: {sorted(undeclared)[:5]}")
    text = f"rounded values that were up to {distance:.2g} off"
    return Repair(replace(label, array=rounded.astype(np.int64)), text)


def drop_undeclared(label: LabelFile, finding: Finding) -> Repair:
    """E01: turn values that no class declares into background."""
    is_stray = ~np.isin(label.array, sorted(label.task.declared_values))
    mended = np.where(is_stray, label.task.background_values[0], label.array)
    n_voxels = int(is_stray.sum())
    return Repair(replace(label, array=mended), f"wrote {n_voxels:,} voxels as background")


def unscale(label: LabelFile, finding: Finding) -> Repair:
    """F07: write the scaled values as plain integers, if they are close to declared ones."""
    rounded = np.rint(label.array)
    undeclared = set(np.unique(rounded).tolist()) - set(label.task.declared_values)
    distance = float(np.abs(label.array - rounded).max())
    if undeclared or distance >= 0.25:
        return Repair(None, "the scaled values are not the declared ones: write the label again")
    like = label.like.model_copy(update={"scl_slope": None, "scl_inter": None})
    return Repair(
        replace(label, array=rounded.astype(np.int64), like=like),
        "wrote the scaled values as integers without scaling",
    )


def remove_islands(label: LabelFile, finding: Finding) -> Repair:
    """S05: remove pieces of one class that are tiny beside its largest piece."""
    one = next((c for c in label.task.classes if c.name == finding.class_name), None)
    if one is None:
        return Repair(None, "the finding names no class")
    mask = np.isin(label.array, one.source_values)
    # cc3d fails on thin masks of bool and on views.
    solid = np.ascontiguousarray(mask, dtype=np.uint8)
    pieces, n_pieces = cc3d.connected_components(solid, connectivity=26, return_N=True)
    sizes = np.bincount(pieces.ravel(), minlength=n_pieces + 1)
    sizes[0] = 0
    limit = max(_ISLAND_VOXELS, _ISLAND_SHARE * float(sizes.max()))
    is_island = (sizes > 0) & (sizes <= limit) & (sizes < sizes.max())
    mended = np.where(is_island[pieces], label.task.background_values[0], label.array)
    return Repair(
        replace(label, array=mended),
        f"removed {int(is_island.sum())} islands of '{one.name}', {int(sizes[is_island].sum())} "
        "voxels",
    )


def copy_placement(label: LabelFile, finding: Finding) -> Repair:
    """G02, G05: give the label the placement of its image."""
    image = label.image
    if image is None or tuple(image.shape[:3]) != label.array.shape:
        return Repair(None, "image and label differ in shape: its placement cannot be copied")
    if image.format.startswith("nifti") and image.sform_code <= 0 and image.qform_code <= 0:
        return Repair(None, "the image has no position either: write the right one into its header")
    affine = np.array(image.affine, dtype=np.float64)
    # G05 means that the label has no axes of its own; else the array follows those it has.
    if finding.check_id != "G05" and orientation_of(affine) != orientation_of(label.affine):
        return Repair(None, "its axes run otherwise than those of the image: it would be mirrored")
    return Repair(replace(label, affine=affine, like=image), "copied the placement of the image")


def regrid(label: LabelFile, finding: Finding) -> Repair:
    """G01, G02: resample the label onto the grid of its image, nearest neighbor, by the affines."""
    image = label.image
    if image is None:
        return Repair(None, "there is no image to take the grid from")
    target = np.array(image.affine, dtype=np.float64)
    i, j, k = image.shape[:3]
    to_label = np.linalg.inv(label.affine) @ target
    share = _share_inside(label, np.linalg.inv(to_label), (i, j, k))
    if share < _MIN_KEPT:
        return Repair(None, f"{1 - share:.0%} of it lies outside the image: its affine is wrong")
    mended = ndimage.affine_transform(
        label.array,
        to_label[:3, :3],
        to_label[:3, 3],
        output_shape=(i, j, k),
        order=0,
        cval=label.task.background_values[0],
    )
    kept, before = int(np.count_nonzero(mended)), int(np.count_nonzero(label.array))
    text = f"resampled onto the image grid, nearest neighbor ({before:,} voxels became {kept:,})"
    return Repair(replace(label, array=mended, affine=target, like=image), text)


def _share_inside(label: LabelFile, to_image: Affine, shape: Shape3) -> float:
    """Share of the foreground whose voxel centers lie in the grid of the image; 1 if empty."""
    places = np.argwhere(label.array != label.task.background_values[0])
    if not len(places):
        return 1.0
    moved = places @ to_image[:3, :3].T + to_image[:3, 3]
    is_inside = (moved >= -0.5).all(axis=1) & (moved < np.array(shape) - 0.5).all(axis=1)
    return float(is_inside.mean())


SAFE: Mapping[str, Mend] = {
    "F06": squeeze,
    "E03": round_values,
    "E02": remap_binary,
    "G02": copy_placement,
}
UNSAFE: Mapping[str, Mend] = {
    "F07": unscale,
    "E01": drop_undeclared,
    "S05": remove_islands,
    "G05": copy_placement,
    "G02": regrid,
    "G01": regrid,
}
# Values first, then places. A label without a position (G05) gets one before anything is resampled
# by it: the one its reader guessed would lose the label.
ORDER = ("F06", "E03", "E02", "F07", "E01", "S05", "G05", "G02", "G01")
# What an unsafe repair takes for granted; shown in the help and in the manifest.
ASSUMPTIONS: Mapping[str, str] = {
    "F07": "the scaled values, not the stored ones, are the classes",
    "E01": "undeclared values mean background",
    "S05": "tiny separate pieces are slips of the brush",
    "G05": "the label was drawn on the image of its case",
    "G02": "both affines are right, and the label was drawn on another grid",
    "G01": "both affines are right, and the label was drawn on another grid",
}


def find_repair(finding: Finding, unsafe: frozenset[str]) -> Mend | None:
    """Choose the repair of a finding.

    Args:
        finding: What is wrong.
        unsafe: Checks whose unsafe repair was asked for.

    Returns:
        The repair; None if there is none, or only an unsafe one that was not named.
    """
    if finding.severity != "info" and finding.check_id in SAFE and _is_safe(finding):
        return SAFE[finding.check_id]
    if finding.check_id in unsafe:
        return UNSAFE.get(finding.check_id)
    return None


def _is_safe(finding: Finding) -> bool:
    # Half a voxel is what rounding in headers can do; beyond that one of the two is wrong.
    return finding.check_id != "G02" or finding.severity == "warning"
