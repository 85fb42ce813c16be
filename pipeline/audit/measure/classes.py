"""Every class of a label map, measured together.

Whatever can be counted for all classes at once is: pieces, faces, holes. Only intensities and
cross-sections are looked up class by class, inside the bounding box of each.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, Real

from pipeline.audit.measure.components import (
    Holes,
    Pieces,
    find_holes,
    find_islands,
    find_pieces,
)
from pipeline.audit.measure.intensities import Intensities, measure_intensities
from pipeline.audit.measure.slices import find_gaps, share_of_repeats
from pipeline.audit.measure.surfaces import Surfaces, find_surfaces
from pipeline.audit.measures import ClassMeasures, Contact, Point, SliceGap
from pipeline.core.geometry import Affine, Shape3

LabelMap = Integer[np.ndarray, "i j k"]
Box = tuple[slice, slice, slice]

# Between lung tissue, about -850 HU, and air, -1000 HU.
_CT_AIR_HU = -900.0


@dataclass(frozen=True)
class _Scene:
    """A label map cropped to its foreground, and what was counted in it.

    Args:
        label: The crop: class indices with one voxel of margin where the grid has it.
        image: The same crop of channel 0, if there is one on this grid.
        offset: Voxel index of the crop's first voxel.
        shape: Shape of the whole grid.
        affine: Voxel index of the whole grid to world mm.
        air_below: Image values below this are air, None if unknown.
        pieces: Connected pieces of the crop.
        holes: Holes in the crop.
        surfaces: Faces in the crop.
    """

    label: LabelMap
    image: Real[np.ndarray, "i j k"] | None
    offset: Shape3
    shape: Shape3
    affine: Affine
    air_below: float | None
    pieces: Pieces
    holes: Holes
    surfaces: Surfaces


def measure_classes(
    label: LabelMap,
    n_classes: int,
    affine: Affine,
    *,
    image: Real[np.ndarray, "i j k"] | None,
    body_threshold: float | None,
    is_ct: bool,
) -> tuple[ClassMeasures, ...]:
    """Measure every class that a label map shows.

    Args:
        label: Class index per voxel, axes running to R, A, S: 0 background, -1 undeclared.
        n_classes: Largest class index.
        affine: Voxel index to world mm.
        image: Channel 0 on the same grid; None leaves intensities empty.
        body_threshold: Image value between air and body, in units of the image.
        is_ct: Whether the image is in HU; air is then what lies below -900 HU.

    Returns:
        One entry per class with at least one voxel, by rising index. `faces` and `contacts` count
        faces to other values, not those on the edge of the volume. `hole_share` counts background
        that the class alone encloses.
    """
    box = _foreground_box(label)
    if box is None:
        return ()
    crop = label[box]
    holes = find_holes(crop)
    scene = _Scene(
        label=crop,
        image=None if image is None else image[box],
        offset=(box[0].start, box[1].start, box[2].start),
        shape=(label.shape[0], label.shape[1], label.shape[2]),
        affine=affine,
        air_below=_CT_AIR_HU if is_ct else body_threshold,
        pieces=find_pieces(crop),
        holes=holes,
        surfaces=find_surfaces(crop, n_classes),
    )
    shown = np.unique(scene.pieces.class_index)
    return tuple(_measure_class(scene, int(index)) for index in shown[shown > 0])


def _foreground_box(label: LabelMap) -> Box | None:
    """Bounding box of all classes with a margin of one voxel, where the grid has it."""
    is_shown = [np.zeros(n, np.bool_) for n in label.shape]
    for place, plane in enumerate(label):
        is_class = plane > 0
        is_shown[0][place] = is_class.any()
        is_shown[1] |= is_class.any(axis=1)
        is_shown[2] |= is_class.any(axis=0)
    if not is_shown[0].any():
        return None
    places = [np.flatnonzero(shown) for shown in is_shown]
    i, j, k = (
        slice(max(int(p[0]) - 1, 0), min(int(p[-1]) + 2, n))
        for p, n in zip(places, label.shape, strict=True)
    )
    return i, j, k


def _measure_class(scene: _Scene, index: int) -> ClassMeasures:
    pieces = scene.pieces
    own = np.flatnonzero(pieces.class_index == index)
    own = own[np.argsort(-pieces.n_voxels[own], kind="stable")]
    sizes = pieces.n_voxels[own]
    n_voxels = int(sizes.sum())
    start, stop = pieces.start[own].min(axis=0), pieces.stop[own].max(axis=0)
    islands = find_islands(sizes)
    centroid = (pieces.centroid[own] * sizes[:, None]).sum(axis=0) / n_voxels + scene.offset
    faces = scene.surfaces.contacts(index)
    n_edge = int(scene.surfaces.n_edge[index + 1])
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    seen = _intensities(scene, index, box, n_voxels)
    return ClassMeasures(
        class_index=index,
        n_voxels=n_voxels,
        start=_moved(start, scene.offset),
        stop=_moved(stop, scene.offset),
        centroid_mm=_point(scene.affine[:3, :3] @ centroid + scene.affine[:3, 3]),
        centroid_fraction=_point((centroid + 0.5) / np.array(scene.shape)),
        n_components=len(own),
        largest_share=int(sizes[0]) / n_voxels,
        n_islands=len(islands),
        island_voxel=_voxel(scene, own[islands[0]]) if len(islands) else None,
        second_voxel=_voxel(scene, own[1]) if len(own) > 1 else None,
        hole_share=scene.holes.n_voxels.get(index, 0) / n_voxels,
        hole_voxel=_placed(scene.holes.voxel.get(index), scene.offset),
        border_share=int(scene.surfaces.n_border[index + 1]) / n_voxels,
        edge_share=n_edge / max(1, n_edge + int(faces.sum())),
        contacts=_contacts(faces.sum(axis=0)),
        gaps=_gaps(scene, index, box),
        repeated_share=share_of_repeats(
            scene.surfaces.present[2][index + 1], scene.surfaces.changes[index + 1]
        ),
        faces=(int(faces[0].sum()), int(faces[1].sum()), int(faces[2].sum())),
        quantiles=seen.quantiles,
        air_share=seen.air_share,
        air_voxel=_placed(seen.air_voxel, _moved(start, scene.offset)),
    )


def _intensities(scene: _Scene, index: int, box: tuple[slice, ...], n_voxels: int) -> Intensities:
    if scene.image is None:
        return Intensities()
    return measure_intensities(scene.image[box], scene.label[box], index, n_voxels, scene.air_below)


def _gaps(scene: _Scene, index: int, box: tuple[slice, ...]) -> tuple[SliceGap, ...]:
    present = tuple(
        shown[index + 1, part] for shown, part in zip(scene.surfaces.present, box, strict=True)
    )
    if all(shown.all() for shown in present):
        return ()
    return tuple(
        SliceGap(
            axis=gap.axis,
            first=gap.first + box[gap.axis].start + scene.offset[gap.axis],
            n_slices=gap.n_slices,
        )
        for gap in find_gaps(scene.label[box] == index, present)
    )


def _contacts(faces: Integer[np.ndarray, " value"]) -> tuple[Contact, ...]:
    values = np.flatnonzero(faces)
    values = values[np.argsort(-faces[values], kind="stable")]
    return tuple(Contact(class_index=int(v) - 1, n_faces=int(faces[v])) for v in values)


def _voxel(scene: _Scene, piece: np.integer) -> Shape3 | None:
    return _placed(scene.pieces.voxel_of(int(piece)), scene.offset)


def _placed(voxel: Shape3 | None, offset: Shape3) -> Shape3 | None:
    return None if voxel is None else _moved(np.array(voxel), offset)


def _moved(voxel: Integer[np.ndarray, "3"], offset: Shape3) -> Shape3:
    i, j, k = voxel
    return int(i) + offset[0], int(j) + offset[1], int(k) + offset[2]


def _point(values: np.ndarray) -> Point:
    x, y, z = values
    return float(x), float(y), float(z)
