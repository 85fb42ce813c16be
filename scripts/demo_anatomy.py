"""The upper abdomen of the demo data set as implicit surfaces, painted from the outside in.

Template space: mm, x to the patient's right, y to anterior, z to superior, origin in front of the
spine between the kidneys. Intensities are HU of a contrast-enhanced CT in the portal-venous phase.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]

CLASS_NAMES = ("liver", "kidney", "tumor")
LIVER, KIDNEY, TUMOR = 1, 2, 3


@dataclass(frozen=True)
class Body:
    """What differs between patients, apart from the deformation.

    Args:
        half_width_mm: From the spine's plane to the side.
        half_depth_mm: From the middle to the back or the belly.
        fat_mm: Thickness of the fat under the skin.
        enhancement: Strength of the contrast medium, 1 on average.
        liver_scale: Size of the liver, 1 on average.
    """

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    enhancement: float
    liver_scale: float


@dataclass(frozen=True)
class Canvas:
    """The voxels of one case, being painted from the outside in.

    Args:
        points_mm: Template position of every voxel, shape (3, voxel).
        hu: Intensities, shape (voxel,); changed in place.
        label: Classes, shape (voxel,); changed in place.
        blur_mm: Width of the transition at a border, which makes partial volumes.
    """

    points_mm: Array
    hu: Array
    label: NDArray[np.uint8]
    blur_mm: float

    def paint(
        self,
        depth_mm: Array,
        hu: float,
        class_index: int | None = 0,
        voxels: NDArray[np.intp] | slice = slice(None),
    ) -> None:
        """Blend a tissue in where its depth below the surface is positive.

        Args:
            depth_mm: Signed distance to the surface, positive inside, shape (selected voxel,).
            hu: Value of the tissue.
            class_index: New class of the voxels inside; None keeps the class they have.
            voxels: Selected voxels.
        """
        share = np.clip(0.5 + depth_mm / self.blur_mm, 0, 1)
        self.hu[voxels] += share * (hu - self.hu[voxels])
        if class_index is not None:
            self.label[voxels] = np.where(depth_mm > 0, class_index, self.label[voxels])

    def blob(
        self,
        center: ArrayLike,
        radii: ArrayLike,
        hu: float,
        class_index: int | None = 0,
        limit_mm: Array | None = None,
    ) -> None:
        """Paint an ellipsoid (or an upright cylinder: last radius infinite) where it is."""
        near = self.near(center, radii)
        depth_mm = ellipsoid_depth(self.points_mm[:, near], center, radii)
        if limit_mm is not None:
            depth_mm = np.minimum(depth_mm, limit_mm[near])
        self.paint(depth_mm, hu, class_index, near)

    def tube(
        self,
        start: ArrayLike,
        end: ArrayLike,
        radius: float,
        hu: float,
        limit_mm: Array | None = None,
    ) -> None:
        """Paint a vessel-like rod with round ends; with a limit, classes stay as they are."""
        a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
        near = self.near((a + b) / 2, np.abs(b - a) / 2 + radius)
        offset = self.points_mm[:, near] - a[:, None]
        along = np.clip((b - a) @ offset / np.dot(b - a, b - a), 0, 1)
        depth_mm = radius - np.linalg.norm(offset - (b - a)[:, None] * along, axis=0)
        if limit_mm is not None:
            depth_mm = np.minimum(depth_mm, limit_mm[near])
        self.paint(depth_mm, hu, 0 if limit_mm is None else None, near)

    def near(self, center: ArrayLike, reach_mm: ArrayLike) -> NDArray[np.intp]:
        """Voxels in a box around a point, so that small things cost little."""
        box = np.ones(self.hu.shape, dtype=bool)
        middle, reach = np.broadcast_arrays(np.asarray(center, float), np.asarray(reach_mm, float))
        for axis in range(3):
            if math.isfinite(reach[axis]):
                box &= np.abs(self.points_mm[axis] - middle[axis]) < reach[axis] + self.blur_mm
        return np.flatnonzero(box)


def ellipsoid_depth(points_mm: Array, center: ArrayLike, radii: ArrayLike) -> Array:
    """Signed distance to an ellipsoid to first order, positive inside.

    Args:
        points_mm: Shape (3, voxel).
        center: In mm.
        radii: Half axes in mm; infinite ones make a cylinder.

    Returns:
        Depth in mm, shape (voxel,).
    """
    inverse = 1 / np.asarray(radii, dtype=np.float32)[:, None]
    scaled = (points_mm - np.asarray(center, dtype=np.float32)[:, None]) * inverse
    radius = np.linalg.norm(scaled, axis=0)
    slope = np.linalg.norm(scaled * inverse, axis=0)
    # In the very center there is no slope; the depth there is at least the shortest half axis.
    reach_mm = np.divide(radius, slope, out=np.full_like(radius, np.min(radii)), where=slope > 1e-6)
    return np.asarray(reach_mm * (1 - radius), dtype=np.float32)


def stripes_depth(position_mm: Array, period_mm: float, width_mm: float) -> Array:
    """Signed distance to equidistant slabs, positive inside."""
    return width_mm / 2 - np.abs((position_mm % period_mm) - period_mm / 2)


# --- anatomy --------------------------------------------------------------------------------------


def draw_patient(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Paint everything, outer and farther things first."""
    cavity_mm = draw_body(canvas, body)
    draw_gut(canvas, cavity_mm, rng)
    below_mm = draw_chest(canvas, cavity_mm, body)
    draw_back(canvas)
    limit_mm = np.minimum(cavity_mm - 1, below_mm - 3)
    draw_vessels(canvas, body)
    draw_spleen(canvas, limit_mm, body, rng)
    depth_mm = liver_depth(canvas, limit_mm, body, rng)
    draw_liver(canvas, depth_mm, body, rng)
    draw_kidneys(canvas, cavity_mm, body, rng)
    draw_tumors(canvas, depth_mm, body, rng)


def draw_body(canvas: Canvas, body: Body) -> Array:
    """Couch, skin, fat, muscle wall and ribs.

    Returns:
        Depth below the inner side of the wall in mm, shape (voxel,).
    """
    x, y, z = canvas.points_mm
    power = 2.4
    u, v = np.abs(x) / body.half_width_mm, np.abs(y) / body.half_depth_mm
    relative = (u**power + v**power) ** (1 / power) + 1e-6
    depth_mm = np.hypot(x, y) * (1 / relative - 1)
    couch_mm = 4.5 - np.abs(y + body.half_depth_mm + 9 - 0.0009 * x**2)
    canvas.paint(np.minimum(couch_mm, 118 - np.abs(x)), -180)
    canvas.paint(depth_mm, 10)
    canvas.paint(depth_mm - 2.5, -105)
    # Fat is thickest at the flanks and the back, thin over the ribs.
    fat_mm = body.fat_mm * (1 + 0.5 * np.clip(-y / body.half_depth_mm, -0.6, 0.6) - 0.004 * z)
    wall_mm = depth_mm - np.maximum(fat_mm, 4)
    cavity_mm = wall_mm - 10
    canvas.paint(wall_mm, 54)
    rib_mm = stripes_depth(z + 0.55 * y + 400, 27, 11)
    margin_mm = np.minimum(np.abs(x) - 26, z + 45 - 0.5 * np.maximum(y, 0) + 0.15 * np.abs(x))
    rib_mm = np.minimum(np.minimum(rib_mm, margin_mm), 3.6 - np.abs(wall_mm - 5))
    canvas.paint(rib_mm, 330)
    canvas.paint(cavity_mm, -100)
    return cavity_mm


def draw_back(canvas: Canvas) -> None:
    """Back muscles, psoas and spine."""
    x, y, z = canvas.points_mm
    upright = math.inf
    for side in (-1, 1):
        canvas.blob((30 * side, -76, 0), (27, 17, upright), 56)
        canvas.blob((62 * side, -66, -60), (20, 11, 70), 54)
        canvas.blob((33 * side, -46, -60), (15, 17, 75), 58)
        canvas.tube((14 * side, -66, 0), (34 * side, -64, 2), 4.5, 300)
    canvas.blob((0, -42, 0), (24, 18, upright), 340)
    canvas.blob((0, -42, 0), (20, 14.5, upright), 185)
    disc_mm = stripes_depth(z + 400, 33, 8)
    canvas.paint(
        np.minimum(disc_mm, ellipsoid_depth(canvas.points_mm, (0, -42, 0), (24, 18, upright))), 92
    )
    arch_mm = ellipsoid_depth(canvas.points_mm, (0, -67, 0), (16, 13, upright))
    canvas.paint(np.minimum(arch_mm, stripes_depth(z + 385, 33, 24)), 320)
    spine_mm = np.minimum(5 - np.abs(x), 12 - np.abs(y + 86))
    canvas.paint(np.minimum(spine_mm, stripes_depth(z + 390, 33, 20)), 310)
    canvas.blob((0, -67, 0), (9, 8, upright), 32)


def draw_chest(canvas: Canvas, cavity_mm: Array, body: Body) -> Array:
    """Lung bases and heart above the diaphragm.

    Returns:
        Depth below the diaphragm in mm, shape (voxel,).
    """
    x, y, z = canvas.points_mm
    right = 92 - 0.012 * ((x - 58) ** 2 + 0.9 * (y - 8) ** 2)
    left = 84 - 0.012 * ((x + 58) ** 2 + 0.9 * (y - 4) ** 2)
    # A soft maximum: the two domes meet without a crease.
    dome_mm = 6 * np.logaddexp(right / 6, left / 6)
    below_mm = (dome_mm - z) * 0.75
    lung_mm = np.minimum(-below_mm, cavity_mm + 3)
    canvas.paint(np.minimum(-below_mm + 4, cavity_mm + 3), 55)
    heart_fat_mm = ellipsoid_depth(canvas.points_mm, (-8, 30, 92), (62, 52, 48))
    spine_mm = ellipsoid_depth(canvas.points_mm, (0, -40, 0), (38, 32, math.inf))
    mediastinum_mm = np.maximum(heart_fat_mm, spine_mm)
    canvas.paint(lung_mm, -60)
    canvas.paint(np.minimum(lung_mm, 3 - mediastinum_mm), -845)
    canvas.blob((-10, 28, 96), (54, 44, 42), 95 + 45 * body.enhancement, limit_mm=lung_mm - 1)
    return below_mm


def draw_gut(canvas: Canvas, cavity_mm: Array, rng: np.random.Generator) -> None:
    """Small bowel, colon with gas and stool, stomach with an air-fluid level."""
    below_mm = cavity_mm - 2
    gas_offset = np.asarray((0, 4, 0))  # gas rises to the front of a patient on the back
    for _ in range(52):
        center = rng.uniform((-78, -20, -110), (78, 64, -6))
        radii = rng.uniform(12, 24, 3)
        content, wall = rng.choice((18.0, 35.0, 60.0)), rng.uniform(70, 110)
        canvas.blob(center, radii, wall, limit_mm=below_mm)
        canvas.blob(center, radii - 4.5, content, limit_mm=below_mm)
        if rng.random() < 0.25:
            canvas.blob(center + gas_offset, radii * (0.5, 0.35, 0.5), -820, limit_mm=below_mm)
    path = [(92.0, -22.0, float(z)) for z in range(-110, -15, 16)]
    path += [(float(x), 52.0, -18 - 0.002 * x**2) for x in range(80, -90, -18)]
    path += [(-94.0, -26.0, float(z)) for z in range(-110, 10, 16)]
    for point in path:
        middle = np.asarray(point) + rng.normal(0, 2.5, 3)
        canvas.blob(middle, (16, 15, 14), 62, limit_mm=below_mm)
        canvas.blob(middle, (12.5, 11.5, 11), rng.choice((-780.0, -30.0, 20.0)), limit_mm=below_mm)
    stomach = np.asarray((-52.0, 34.0, 34.0)) + rng.normal(0, 4, 3)
    radii = np.asarray((40.0, 33.0, 38.0)) * rng.uniform(0.85, 1.1)
    canvas.blob(stomach, radii, 72, limit_mm=below_mm)
    canvas.blob(stomach, radii - 5, 14, limit_mm=below_mm)
    level_mm = canvas.points_mm[1] - (stomach[1] + rng.uniform(5, 16))
    canvas.blob(stomach, radii - 5, -880, limit_mm=np.minimum(level_mm, below_mm))


def draw_vessels(canvas: Canvas, body: Body) -> None:
    """Aorta, vena cava, renal and mesenteric vessels, pancreas."""
    artery, vein = 60 + 105 * body.enhancement, 55 + 90 * body.enhancement
    pancreas = ((36, 12, -12), (4, 20, -2), (-38, 4, 12), (-74, -12, 26))
    for start, end in itertools.pairwise(pancreas):
        canvas.tube(start, end, 8.5, 92)
    canvas.tube((-4, 6, 10), (-80, -18, 34), 4.0, vein)
    canvas.tube((4, 16, -70), (6, 8, 10), 5, vein)
    canvas.blob((-9, -13, 0), (10.5, 10.5, math.inf), artery)
    canvas.blob((19, -15, 0), (13, 10, math.inf), vein)
    for side, height in ((1, -8), (-1, 2)):
        canvas.tube((0, -17, height + 2), (50 * side, -42, height), 4.5, vein)


def draw_kidneys(canvas: Canvas, cavity_mm: Array, body: Body, rng: np.random.Generator) -> None:
    """Both kidneys in their fat, the left one higher, with cortex, medulla and sinus."""
    cortex, medulla = 70 + 115 * body.enhancement, 65 + 80 * body.enhancement
    for side, height in ((1, -14.0), (-1, -2.0)):
        center = np.asarray((59.0 * side, -44.0, height)) + rng.normal(0, 3, 3)
        radii = np.asarray((25.0, 24.0, 49.0)) * rng.uniform(0.9, 1.12)
        canvas.blob(center, radii + 9, -98, limit_mm=cavity_mm)
        limit_mm = cavity_mm - 3
        canvas.blob(center, radii, cortex, KIDNEY, limit_mm)
        canvas.blob(center, radii - 8, medulla, None, limit_mm)
        hilum = center - np.asarray((17.0 * side, -7.0, 0.0))
        canvas.blob(hilum, (14, 9, 17), -70)
        canvas.tube(
            hilum - np.asarray((8.0 * side, -3.0, 0)),
            hilum + np.asarray((4.0 * side, -1, 0)),
            4,
            medulla,
        )


def draw_spleen(canvas: Canvas, limit_mm: Array, body: Body, rng: np.random.Generator) -> None:
    """The spleen: as bright as the liver, on the other side."""
    center = np.asarray((-92.0, -30.0, 38.0)) + rng.normal(0, 4, 3)
    canvas.blob(
        center,
        np.asarray((27, 43, 41)) * rng.uniform(0.85, 1.15),
        60 + 58 * body.enhancement,
        limit_mm=limit_mm,
    )


def liver_depth(canvas: Canvas, limit_mm: Array, body: Body, rng: np.random.Generator) -> Array:
    """Signed distance to the liver, positive inside, shape (voxel,)."""
    scale = body.liver_scale
    right = np.asarray((66.0, 4.0, 30.0)) + rng.normal(0, 3, 3)
    left = np.asarray((4.0, 42.0, 46.0)) + rng.normal(0, 4, 3)
    right_mm = ellipsoid_depth(canvas.points_mm, right, np.asarray((62, 78, 64)) * scale)
    left_mm = ellipsoid_depth(canvas.points_mm, left, np.asarray((62, 32, 30)) * scale)
    blend = np.float32(7.0)
    union_mm = blend * np.logaddexp(right_mm / blend, left_mm / blend)
    # The porta and the vena cava press on the under side.
    x, y, z = canvas.points_mm
    under_mm = 0.62 * (z + 26) + 0.62 * (x - 34) - 0.1 * (y - 10) + 26
    return np.asarray(np.minimum(np.minimum(union_mm, under_mm), limit_mm), dtype=np.float32)


def draw_liver(canvas: Canvas, depth_mm: Array, body: Body, rng: np.random.Generator) -> None:
    """Liver with its veins, and the gallbladder in its bed."""
    liver, vein = 62 + 46 * body.enhancement, 66 + 96 * body.enhancement
    canvas.paint(depth_mm, liver, LIVER)
    inside_mm = depth_mm - 4
    porta = np.asarray((30.0, 10.0, 14.0))
    for target in ((78, -20, 10), (92, 30, 26), (70, 8, 62), (10, 42, 46)):
        end = np.asarray(target) + rng.normal(0, 6, 3)
        canvas.tube(porta, (porta + end) / 2, 5.5, vein, inside_mm)
        canvas.tube((porta + end) / 2, end, 4.0, vein, inside_mm)
    for target in ((95, 0, 50), (55, 40, 55), (20, 40, 56)):
        canvas.tube((22, -8, 70), np.asarray(target) + rng.normal(0, 6, 3), 4.5, vein, inside_mm)
    gallbladder = np.asarray((54.0, 44.0, -16.0)) + rng.normal(0, 4, 3)
    canvas.blob(gallbladder, np.asarray((13, 17, 21)) * rng.uniform(0.8, 1.1), 60)
    canvas.blob(gallbladder, np.asarray((11, 15, 19)) * rng.uniform(0.8, 1.0), 12)


def draw_tumors(canvas: Canvas, depth_mm: Array, body: Body, rng: np.random.Generator) -> None:
    """One lesion in the liver, in every third patient a second; darker than the liver around it."""
    radii_mm = [rng.uniform(12.5, 17.0)]
    if rng.random() < 1 / 3:
        radii_mm.append(rng.uniform(9.5, 11.0))
    liver = 62 + 46 * body.enhancement
    for radius_mm in radii_mm:
        room = (depth_mm > 0.85 * radius_mm) & (canvas.label == LIVER)
        candidates = np.flatnonzero(room)
        if candidates.size == 0:
            candidates = np.asarray(
                [int(np.argmax(np.where(canvas.label == LIVER, depth_mm, -99)))]
            )
        center = canvas.points_mm[:, rng.choice(candidates)]
        lump_mm = ellipsoid_depth(canvas.points_mm, center, radius_mm * rng.uniform(0.88, 1.14, 3))
        waves = rng.uniform(0, 2 * np.pi, 3)[:, None] + canvas.points_mm / 6.5
        lump_mm = lump_mm + 1.3 * np.sin(waves).sum(axis=0)
        lump_mm = np.minimum(lump_mm, depth_mm - 1)
        lump_mm[(canvas.label != LIVER) & (canvas.label != TUMOR)] = -99
        drop_hu = rng.uniform(42, 62)
        canvas.paint(lump_mm, liver - drop_hu, TUMOR)
        canvas.paint(lump_mm - 0.55 * radius_mm, liver - drop_hu - 14, None)
