"""Voxel grids in patient space. The axis convention of the whole project is written here.

Voxel axes are ``i j k`` (zero-based, voxel centres). World axes are ``x y z`` in mm, RAS+: x runs
to the patient's right, y to anterior, z to superior. ``world = affine @ (i, j, k, 1)`` with a
float64 4x4 affine. Arrays are indexed ``[i, j, k]`` in numpy, ``[channel, i, j, k]`` in torch.
After ingest ``i j k`` run to R, A and S.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from pipeline.core.errors import GeometryError

Affine = Float[np.ndarray, "4 4"]
Shape3 = tuple[int, int, int]
Spacing = tuple[float, float, float]

AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Geometry:
    """A voxel grid without its voxels.

    Args:
        shape: Number of voxels along i, j, k.
        affine: Voxel index to world mm, 4x4.
    """

    shape: Shape3
    affine: Affine

    @property
    def spacing_mm(self) -> Spacing:
        """Distance of neighbouring voxel centres along i, j, k, in mm."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Direction each voxel axis runs to, such as "RAS"."""
        return orientation_of(self.affine)


@dataclass(frozen=True)
class Reorientation:
    """A lossless change of voxel axis order and direction.

    Args:
        axes: ``axes[a]`` is the source axis that becomes axis ``a``.
        flips: Whether axis ``a`` of the result runs against its source axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


def spacing_of(affine: Affine) -> Spacing:
    """Voxel spacing along i, j, k in mm: the column norms of the affine."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    return float(i), float(j), float(k)


def check_affine(affine: NDArray[np.floating]) -> None:
    """Refuse an affine that does not place voxels in space.

    Raises:
        GeometryError: If the affine is not finite, overflows, is singular or has a zero column.
    """
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise GeometryError("the affine holds values that are not finite", fix=_FIX_AFFINE)
    with np.errstate(all="ignore"):  # what overflows is refused below
        volume_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
        scale_mm3 = float(np.prod(np.linalg.norm(affine[:3, :3], axis=0)))
    if not np.isfinite(scale_mm3):
        raise GeometryError("the affine holds impossible voxel sizes", fix=_FIX_AFFINE)
    # Relative, so that microscopy spacings pass; 1e-6 is far below any real shear.
    if scale_mm3 <= 0 or volume_mm3 < 1e-6 * scale_mm3:
        raise GeometryError("the affine is singular: voxels do not span a volume", fix=_FIX_AFFINE)


_FIX_AFFINE = "export the file again from its source; the header does not say where voxels are"


def lps_to_ras(affine_lps: Affine) -> Affine:
    """Turn an affine that counts mm to L, P and S into one that counts to R, A and S.

    ITK, DICOM, NRRD and MetaImage count to LPS. This is the only place where the sign changes.

    Args:
        affine_lps: Voxel index to world mm, LPS+.

    Returns:
        Voxel index to world mm, RAS+.
    """
    return np.array([[-1.0], [-1.0], [1.0], [1.0]]) * affine_lps


def affine_from_directions(
    spacing_mm: Spacing,
    origin_lps_mm: tuple[float, float, float],
    direction_lps: Float[np.ndarray, "3 3"],
) -> Affine:
    """Build an affine from the spacing, origin and directions that ITK and DICOM speak of.

    Args:
        spacing_mm: Distance of neighbouring voxel centers along i, j, k.
        origin_lps_mm: Center of voxel (0, 0, 0), mm to L, P, S.
        direction_lps: Column `a` is the direction that voxel axis `a` runs to, in LPS; columns of
            unit length, not necessarily at right angles.

    Returns:
        Voxel index to world mm, RAS+.
    """
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = direction_lps * np.array(spacing_mm)
    affine_lps[:3, 3] = origin_lps_mm
    return lps_to_ras(affine_lps)


def oblique_degrees(affine: Affine) -> float:
    """Largest angle between a voxel axis and the patient axis nearest to it, in degrees."""
    directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    along, across = directions.max(axis=0), np.sort(directions, axis=0)[:2]
    # The arc tangent keeps small angles exact, where the arc cosine of almost 1 would round.
    angles = np.arctan2(np.linalg.norm(across, axis=0), along)
    return float(np.degrees(angles.max()))


def shear_degrees(affine: Affine) -> float:
    """Largest deviation of two voxel axes from a right angle, in degrees."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions
    largest = float(np.abs(cosines[np.triu_indices(3, 1)]).max())
    return float(np.degrees(np.arcsin(min(largest, 1.0))))


def orientation_of(affine: Affine) -> str:
    """Nearest anatomical direction of each voxel axis, such as "RAS" or "LPS"."""
    to_ras = reorientation_to_ras(affine)
    codes = ["", "", ""]
    for world_axis, (voxel_axis, flip) in enumerate(zip(to_ras.axes, to_ras.flips, strict=True)):
        codes[voxel_axis] = AXIS_CODES[world_axis][0 if flip else 1]
    return "".join(codes)


def reorientation_to_ras(affine: Affine) -> Reorientation:
    """Find the axis order and flips that bring a grid closest to RAS+.

    Oblique and sheared grids stay oblique and sheared: only whole axes move. Each voxel axis is
    given the world axis it is best aligned with, the strongest alignments first.

    Args:
        affine: Voxel index to world mm.

    Returns:
        The reorientation; apply it with `reorient_array` and `reorient_geometry`.
    """
    # A case asks for the same affine four times, and the cases of a scanner share theirs.
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        check_affine(matrix)
    return _reorientation_to_ras(matrix.tobytes())


@lru_cache(maxsize=1024)
def _reorientation_to_ras(affine_bytes: bytes) -> Reorientation:
    affine = np.frombuffer(affine_bytes).reshape(4, 4)
    check_affine(affine)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # The polar factor is the pure rotation closest to the directions: it keeps the choice stable
    # under shear, as nibabel does (nibabel.orientations.io_orientation).
    left, _, right = np.linalg.svd(directions)
    rotation = left @ right
    # Rounded: at exactly 45 degrees an image and its label, whose headers differ in the last digit
    # of 32-bit numbers, must not be turned differently.
    weights = np.round(np.abs(rotation), 5)
    axes = [-1, -1, -1]
    for _ in range(3):
        world_axis, voxel_axis = np.unravel_index(int(np.argmax(weights)), (3, 3))
        axes[int(world_axis)] = int(voxel_axis)
        weights[world_axis, :] = -1
        weights[:, voxel_axis] = -1
    flips = [bool(rotation[w, axes[w]] < 0) for w in range(3)]
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def inverse_reorientation(reorientation: Reorientation) -> Reorientation:
    """The reorientation that undoes another one."""
    axes, flips = [0, 0, 0], [False, False, False]
    for new_axis, (old_axis, flip) in enumerate(
        zip(reorientation.axes, reorientation.flips, strict=True)
    ):
        axes[old_axis] = new_axis
        flips[old_axis] = flip
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def reorient_array(
    array: Shaped[np.ndarray, "..."], reorientation: Reorientation
) -> Shaped[np.ndarray, "..."]:
    """Permute and flip the last three axes; returns a view, no voxel is copied.

    Args:
        array: Shape (..., i, j, k).
        reorientation: What to do.

    Returns:
        A view with the new axis order.
    """
    n_leading = array.ndim - 3
    order = (*range(n_leading), *(n_leading + axis for axis in reorientation.axes))
    i, j, k = (slice(None, None, -1 if flip else 1) for flip in reorientation.flips)
    return array.transpose(order)[..., i, j, k]


def reorient_geometry(geometry: Geometry, reorientation: Reorientation) -> Geometry:
    """Move the axes of a grid so that every voxel keeps its place in the world."""
    shape = [geometry.shape[axis] for axis in reorientation.axes]
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new_axis, (old_axis, flip) in enumerate(
        zip(reorientation.axes, reorientation.flips, strict=True)
    ):
        to_old[old_axis, new_axis] = -1 if flip else 1
        to_old[old_axis, 3] = shape[new_axis] - 1 if flip else 0
    return Geometry((shape[0], shape[1], shape[2]), geometry.affine @ to_old)


def corner_displacement_voxels(geometry: Geometry, other: Geometry) -> float:
    """Largest distance of matching grid corners, in voxels of the first grid's finest spacing.

    The two grids must have the same shape; a difference of origin, direction or spacing all show
    up here in one number a person can judge.

    Args:
        geometry: First grid.
        other: Second grid of the same shape.

    Returns:
        The displacement in voxels, 0 for equal grids.

    Raises:
        GeometryError: If the shapes differ.
    """
    return corner_distance_mm(geometry, other) / min(geometry.spacing_mm)


def corner_distance_mm(geometry: Geometry, other: Geometry) -> float:
    """Largest distance of matching grid corners, in mm; see `corner_displacement_voxels`.

    Raises:
        GeometryError: If the shapes differ.
    """
    if geometry.shape != other.shape:
        raise GeometryError(f"shapes differ: {geometry.shape} and {other.shape}")
    last = np.array(geometry.shape) - 1
    corners = np.array(np.meshgrid(*[[0, n] for n in last], indexing="ij")).reshape(3, 8)
    homogeneous = np.vstack([corners, np.ones(8)])
    difference_mm = ((geometry.affine - other.affine) @ homogeneous)[:3]
    return float(np.linalg.norm(difference_mm, axis=0).max())


def resized_geometry(geometry: Geometry, shape: Shape3) -> Geometry:
    """The grid with another number of voxels over the same extent.

    Voxel faces, not centres, stay in place at the borders (torch: ``align_corners=False``).

    Args:
        geometry: Grid to resize.
        shape: New number of voxels along i, j, k.

    Returns:
        The new grid; its spacing is ``extent / shape``.
    """
    scale = np.array(geometry.shape) / np.array(shape)
    affine = geometry.affine.copy()
    affine[:3, :3] = geometry.affine[:3, :3] * scale
    affine[:3, 3] = geometry.affine[:3, 3] + geometry.affine[:3, :3] @ ((scale - 1) / 2)
    return Geometry(shape, affine)
