"""Twenty-odd pairs made by hand: what Voxline says, and MONAI, nnU-Net and SimpleITK.

    python benchmarks/hand_made_pairs.py [FILE.md]

MONAI and SimpleITK are called; nnU-Net's column is the formula of `compute_metrics` of nnunetv2
2.8.1 (which reads voxels only: it never sees an affine), so that it needs no installation.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray

from pipeline.core.errors import VoxlineError
from pipeline.core.task import LabelClass, Task
from pipeline.core.volume import Volume
from pipeline.evaluate.score import score_case, score_unpredicted
from pipeline.metrics.measure import Measures
from pipeline.metrics.scores import CaseScores

TASK = Task(channels=(), classes=(LabelClass(name="organ", index=1, source_values=(1,)),))
TOLERANCE_MM = 2.0
MEASURES = Measures(tolerances_mm={"organ": TOLERANCE_MM}, lesion_classes=("organ",))
SHAPE = (40, 36, 32)
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference.

    Args:
        name: What is special about it.
        prediction: As it would lie in a file, shape (i, j, k); None if the file is missing.
        reference: Shape (i, j, k).
        spacing_mm: Of both.
        offset_mm: How far the prediction's origin lies from the reference's.
    """

    name: str
    prediction: NDArray[np.generic] | None
    reference: NDArray[np.generic]
    spacing_mm: Spacing = (1.0, 1.0, 1.0)
    offset_mm: float = 0.0


def pairs() -> Iterator[Pair]:
    """All pairs of the table."""
    ball, empty = _ball((20, 18, 16), 9), _boxes()
    yield Pair("the same ball", ball, ball)
    yield Pair("both empty", empty, empty)
    yield Pair("reference empty, prediction not", ball, empty)
    yield Pair("prediction empty, reference not", empty, ball)
    yield Pair("ball shifted by 2 mm", _ball((22, 18, 16), 9), ball)
    yield Pair("ball within a ball", _ball((20, 18, 16), 6), ball)
    yield Pair("no overlap at all", _boxes(((30, 34),) * 2 + ((2, 6),)), _boxes(((2, 6),) * 3))
    yield from _small_pairs()
    yield from _edge_pairs()
    yield from _thick_pairs()
    yield from _lesion_pairs()
    yield from _file_pairs(ball)


def _small_pairs() -> Iterator[Pair]:
    voxel = _boxes(((10, 11),) * 3)
    yield Pair("one voxel, found", voxel, voxel)
    yield Pair("one voxel, next to it", _boxes(((11, 12), (10, 11), (10, 11))), voxel)
    small = _boxes(((10, 13), (10, 13), (10, 11)))
    far = small | _boxes(((38, 39), (34, 35), (30, 31)))
    yield Pair("lesion of 9 voxels and one far false voxel", far, small)


def _edge_pairs() -> Iterator[Pair]:
    cut = _boxes(((0, 12), (0, 12), (0, 12)))
    yield Pair("cube cut by the image border, one voxel less", cut & _boxes(((0, 11),) * 3), cut)
    full = _boxes(tuple((0, n) for n in SHAPE))
    yield Pair("the whole image", full, full)
    yield Pair("the whole image predicted for a ball", full, _ball((20, 18, 16), 9))
    yield Pair("one-voxel sheet moved by one", _boxes(_sheet(11)), _boxes(_sheet(10)))


def _thick_pairs() -> Iterator[Pair]:
    spacing_mm = (1.0, 1.0, 5.0)
    ball = _ball((20, 18, 16), 12, spacing_mm)
    moved = _ball((20, 18, 17), 12, spacing_mm)
    yield Pair("5 mm slices, ball moved by one slice", moved, ball, spacing_mm)
    yield Pair("5 mm slices, one slice of four missing", _thin(ball), ball, spacing_mm)


def _lesion_pairs() -> Iterator[Pair]:
    first, second, third = (((a, a + 4),) * 3 for a in (3, 12, 22))
    yield Pair("two lesions, one found", _boxes(first), _boxes(first, second))
    yield Pair(
        "two lesions found and a false one", _boxes(first, second, third), _boxes(first, second)
    )


def _file_pairs(ball: NDArray[np.uint8]) -> Iterator[Pair]:
    yield Pair("shape mismatch: one slice less", ball[:, :, :-1], ball)
    yield Pair("same shape, origin 3 mm off", ball, ball, offset_mm=3.0)
    yield Pair("labels 0 and 255", ball * np.uint8(255), ball)
    yield Pair("probabilities instead of labels", ball * np.float32(0.9), ball)
    broken = ball.astype(np.float32)
    broken[0, 0, 0] = np.nan
    yield Pair("NaN in the prediction", broken, ball)
    yield Pair("prediction file missing", None, ball)


def ours(pair: Pair) -> CaseScores | VoxlineError:
    """Scores of Voxline, or its refusal."""
    affine = np.diag([*pair.spacing_mm, 1.0])
    reference = Volume(pair.reference, affine)
    if pair.prediction is None:
        return score_unpredicted(reference, TASK, case_id=pair.name, measures=MEASURES)
    moved = affine.copy()
    moved[0, 3] += pair.offset_mm
    prediction = Volume(pair.prediction, moved)
    try:
        return score_case(prediction, reference, TASK, case_id=pair.name, measures=MEASURES)
    except VoxlineError as error:
        return error


def monai(pair: Pair) -> str:
    """Dice / HD95 / surface Dice of MONAI, or the first line of its error."""
    if pair.prediction is None:
        return "not its task"
    # What users do: one channel per class, voxels of a label equal to its index.
    predicted, referred = (torch.from_numpy(_one_hot(m)) for m in (pair.prediction, pair.reference))
    spacing_mm = pair.spacing_mm

    def scores() -> str:
        dice = compute_dice(predicted, referred, include_background=False)
        hd95 = compute_hausdorff_distance(predicted, referred, percentile=95, spacing=spacing_mm)
        nsd = compute_surface_dice(
            predicted, referred, [TOLERANCE_MM], spacing=spacing_mm, use_subvoxels=True
        )
        return " / ".join(_shown(float(score[0, 0])) for score in (dice, hd95, nsd))

    return _attempt(scores)


def nnunet(pair: Pair) -> str:
    """Dice by nnU-Net's formula; NaN where it writes NaN."""
    if pair.prediction is None:
        return "not counted (API), refused (command)"
    prediction = pair.prediction

    def dice() -> str:
        reference, predicted = pair.reference == 1, prediction == 1
        tp, fp, fn = (
            int(np.sum(m))
            for m in (reference & predicted, ~reference & predicted, reference & ~predicted)
        )
        return _shown(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else "nan"

    return _attempt(dice)


def simpleitk(pair: Pair) -> str:
    """Dice / Hausdorff distance of SimpleITK, or its complaint."""
    if pair.prediction is None:
        return "not its task"
    images = []
    for array, offset_mm in ((pair.prediction, pair.offset_mm), (pair.reference, 0.0)):
        image = SimpleITK.GetImageFromArray(np.rint(np.nan_to_num(array)).astype(np.uint8).T)
        image.SetSpacing(pair.spacing_mm)
        image.SetOrigin((-offset_mm, 0.0, 0.0))
        images.append(image)
    return (
        f"{_attempt(lambda: _simpleitk_dice(images))} / {_attempt(lambda: _simpleitk_hd(images))}"
    )


def _simpleitk_dice(images: list[SimpleITK.Image]) -> str:
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    measure.Execute(*images)
    return _shown(measure.GetDiceCoefficient(1))


def _simpleitk_hd(images: list[SimpleITK.Image]) -> str:
    measure = SimpleITK.HausdorffDistanceImageFilter()
    measure.Execute(*images)
    return _shown(measure.GetHausdorffDistance())


def table() -> str:
    """The whole table as Markdown."""
    lines = [
        "| pair | Voxline: Dice / HD95 mm / surface Dice | lesions found, false | MONAI: the same "
        "| nnU-Net: Dice | SimpleITK: Dice / HD mm |",
        "|---|---|---|---|---|---|",
    ]
    for pair in pairs():
        mine, lesions = _our_cells(ours(pair))
        cells = (pair.name, mine, lesions, monai(pair), nnunet(pair), simpleitk(pair))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _our_cells(found: CaseScores | VoxlineError) -> tuple[str, str]:
    if isinstance(found, VoxlineError):
        return f"refused: {found.what}", ""
    overlap, surface = found.classes[0], found.surfaces[0]
    values = (overlap.dice.value, surface.hd95_mm.value, surface.nsd.value)
    shown = " / ".join("undefined" if v is None else _shown(v) for v in values)
    lesion = found.lesions[0]
    counts = f"{lesion.n_detected} of {lesion.n_reference}, {lesion.n_false_alarms}"
    return (shown if overlap.status == "ok" else f"{overlap.status}: {shown}"), counts


def _attempt(score: Callable[[], str]) -> str:
    try:
        return score()
    # The table shows whatever a peer does with such input, including every kind of error.
    except Exception as error:  # noqa: BLE001
        text = str(error).strip().splitlines()[-1] if str(error).strip() else ""
        return f"{type(error).__name__}: {text[:60]}"


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _one_hot(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.stack([array == 0, array == 1])[None].astype(np.float32)


def _ball(
    center: tuple[int, int, int], radius_mm: float, spacing_mm: Spacing = (1.0, 1.0, 1.0)
) -> NDArray[np.uint8]:
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    squares = [((g - c) * s) ** 2 for g, c, s in zip(grid, center, spacing_mm, strict=True)]
    return (squares[0] + squares[1] + squares[2] <= radius_mm**2).astype(np.uint8)


def _boxes(*boxes: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for box in boxes:
        mask[tuple(slice(*ends) for ends in box)] = 1
    return mask


def _sheet(place: int) -> tuple[tuple[int, int], ...]:
    return ((place, place + 1), (5, 30), (5, 27))


def _thin(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    thinner = mask.copy()
    thinner[:, :, 17] = 0
    return thinner


def main() -> None:
    """Print the table, and write it to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    arguments = parser.parse_args()
    # Peers warn about empty masks; what they then return is what the table is about.
    warnings.simplefilter("ignore")
    text = table()
    sys.stdout.write(text)
    if arguments.file:
        arguments.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
