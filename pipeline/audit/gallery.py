"""Pictures and viewer volumes for the report: findings where they are, cases as they look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Real
from scipy import ndimage

from pipeline.artifacts import CaseRecord, Finding, StoredArray, Task
from pipeline.core.geometry import Shape3, Spacing, spacing_of
from pipeline.io.store import open_array
from pipeline.reporting.pictures import (
    as_small_data_uri,
    busiest_point,
    class_color,
    overlay_figure,
)
from pipeline.reporting.viewer import Overlay, ViewerCase, viewer_case

# Undeclared values drawn in their own color; a label with more is shown without the rest.
_MAX_UNDECLARED = 6


@dataclass(frozen=True)
class Scene:
    """A case ready to be drawn.

    Args:
        image: First channel, shape (i, j, k), axes running to R, A, S.
        label: Class indices on the grid of the image.
        names: Name of class 1, 2, ...; undeclared values come last.
        spacing_mm: Voxel spacing of the image along i, j, k, in mm.
    """

    image: Real[np.ndarray, "i j k"]
    label: Integer[np.ndarray, "i j k"]
    names: tuple[str, ...]
    spacing_mm: Spacing

    def point_of(self, finding: Finding | None) -> Shape3:
        """Where a finding is; the cuts with most label if it has no place.

        Args:
            finding: A finding of this case, or None for the case as a whole.
        """
        place = None if finding is None else finding.evidence.get("voxel_ras")
        if isinstance(place, tuple) and len(place) == 3:
            return place[0], place[1], place[2]
        return busiest_point([self.label])


def open_scene(record: CaseRecord, task: Task, work_root: Path) -> Scene:
    """Read a case for its pictures.

    Args:
        record: The case; its image must be stored.
        task: Declared classes.
        work_root: Folder the stored paths are relative to.

    Returns:
        Image and label; the label lies where its own header puts it.

    Raises:
        ValueError: If the case has no stored image.
        DataError: If the case store is damaged.
    """
    stored = record.image
    if stored is None:
        raise ValueError(f"case {record.case_id} has no stored image")
    image = open_array(work_root, stored)[0]
    label, names = np.zeros(image.shape, dtype=np.uint16), task.class_names
    if record.label is not None:
        indices, names = _class_indices(open_array(work_root, record.label), task)
        label = place_on_grid(indices, record.label, stored)
    return Scene(image, label, names, spacing_of(np.array(stored.affine, dtype=np.float64)))


def picture_scene(scene: Scene, finding: Finding | None) -> str:
    """Three planes through a finding, or through the middle of the label.

    Args:
        scene: The case.
        finding: A finding of this case, or None.

    Returns:
        The picture as a data address.
    """
    has_place = finding is not None and "voxel_ras" in finding.evidence
    png = overlay_figure(
        scene.image,
        label=scene.label,
        reference=None,
        spacing_mm=scene.spacing_mm,
        class_names=scene.names,
        point=scene.point_of(finding) if has_place else None,
    )
    return as_small_data_uri(png)


def embed_scene(scene: Scene, finding: Finding | None, title: str) -> ViewerCase:
    """The case for the interactive viewer, opened at the finding.

    Args:
        scene: The case.
        finding: A finding of this case, or None.
        title: Shown in the list of cases.

    Returns:
        What the page embeds.
    """
    colors = tuple(class_color(index) for index in range(1, len(scene.names) + 1))
    overlay = Overlay("label", scene.label, scene.names, colors)
    return viewer_case(
        title,
        scene.image,
        [overlay],
        spacing_mm=scene.spacing_mm,
        point=scene.point_of(finding),
        note="" if finding is None else finding.message,
    )


def _class_indices(
    label: Real[np.ndarray, "i j k"], task: Task
) -> tuple[Integer[np.ndarray, "i j k"], tuple[str, ...]]:
    """Class indices of a label that may be faulty; undeclared values get indices of their own."""
    integers = np.rint(np.nan_to_num(label)) if label.dtype.kind == "f" else label
    found = [int(v) for v in np.unique(integers)]
    strange = [v for v in found if v not in task.declared_values][:_MAX_UNDECLARED]
    names = (*task.class_names, *(f"undeclared {value}" for value in strange))
    groups = [*(c.source_values for c in task.classes), *((value,) for value in strange)]
    index_of = {value: n for n, values in enumerate(groups, start=1) for value in values}
    # One look-up for all classes: with 100 of them a mask for each takes seconds.
    by_place = np.array([index_of.get(value, 0) for value in found], dtype=np.uint16)
    places = np.searchsorted(np.array(found), integers.ravel())
    return by_place[places].reshape(label.shape), names


def place_on_grid(
    label: Integer[np.ndarray, "i j k"], stored: StoredArray, target: StoredArray
) -> Integer[np.ndarray, "i2 j2 k2"]:
    """Show a label where its own header puts it on the grid of an image.

    A label whose header disagrees with the image must look shifted in a picture, not aligned.

    Args:
        label: Class indices, shape (i, j, k).
        stored: The record of the label, for its affine.
        target: The record of the image.

    Returns:
        Nearest label values at the voxels of the image; 0 outside the label.
    """
    label_affine = np.array(stored.affine, dtype=np.float64)
    image_affine = np.array(target.affine, dtype=np.float64)
    shape = target.shape[-3:]
    if label.shape == shape and np.allclose(label_affine, image_affine, atol=1e-3):
        return label
    to_label = np.linalg.inv(label_affine) @ image_affine
    return ndimage.affine_transform(
        label, to_label[:3, :3], to_label[:3, 3], output_shape=shape, order=0, mode="constant"
    )
