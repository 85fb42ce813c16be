"""One tool scoring one pair of label maps; started by metrics.py, prints JSON.

    python benchmarks/metric_engines.py TOOL FOLDER N_CLASSES

Imports only what the tool needs: the peers' interpreter has no Voxline. Memory is the peak of the
process above what it held once the tool was imported and both maps were loaded.
"""

import importlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SPACING_MM = (1.5, 1.5, 1.5)
# No distance on this grid equals it, where rounding would decide.
TOLERANCE_MM = 2.3
# Two float32 one-hot maps of a group of classes, and about as much again inside MONAI.
MONAI_LIMIT_BYTES = 3e9
ONE_HOT_S = "one_hot_s"
Scores = dict[str, list[float]]
Maps = tuple[Any, Any, int]


def voxline_overlap() -> Callable[[Maps], Scores]:
    """All overlap metrics of Voxline: Dice, IoU, precision, recall, volumes, confusion."""
    overlap = importlib.import_module("pipeline.metrics.overlap")

    def score(maps: Maps) -> Scores:
        prediction, reference, n_classes = maps
        confusion = overlap.confusion_matrix(
            prediction=prediction, reference=reference, n_classes=n_classes
        )
        found = overlap.overlap_scores(confusion, _names(n_classes), voxel_ml=0.001)
        return {"dice": [_number(s.dice.value) for s in found]}

    return score


def voxline_surface() -> Callable[[Maps], Scores]:
    """HD95, ASSD and surface Dice of Voxline."""
    surface = importlib.import_module("pipeline.metrics.surface")
    # The table of surface elements is made once per process.
    importlib.import_module("pipeline.metrics.surfels").surfel_areas_mm2(SPACING_MM)

    def score(maps: Maps) -> Scores:
        prediction, reference, n_classes = maps
        names = _names(n_classes)
        found = surface.surface_scores(
            prediction=prediction,
            reference=reference,
            class_names=names,
            spacing_mm=SPACING_MM,
            tolerances_mm=dict.fromkeys(names, TOLERANCE_MM),
        )
        return {
            "hd95": [_number(s.hd95_mm.value) for s in found],
            "nsd": [_number(s.nsd.value) for s in found],
        }

    return score


def monai_overlap() -> Callable[[Maps], Scores]:
    """MONAI's DiceMetric on one-hot maps; making them is counted, as users have to."""
    torch, metrics = _torch(), importlib.import_module("monai.metrics")

    def score(maps: Maps) -> Scores:
        dice: list[float] = []
        one_hot_s: list[float] = []
        for predicted, referred in _one_hot_groups(torch, maps, one_hot_s):
            metric = metrics.DiceMetric(include_background=True, reduction="none")
            metric(predicted, referred)
            dice += metric.aggregate()[0].tolist()
        return {"dice": dice, ONE_HOT_S: [sum(one_hot_s)]}

    return score


def monai_surface() -> Callable[[Maps], Scores]:
    """MONAI's HD95 and surface Dice with subvoxels, on one-hot maps."""
    torch, metrics = _torch(), importlib.import_module("monai.metrics")

    def score(maps: Maps) -> Scores:
        hd95: list[float] = []
        nsd: list[float] = []
        one_hot_s: list[float] = []
        for predicted, referred in _one_hot_groups(torch, maps, one_hot_s):
            hd95 += metrics.compute_hausdorff_distance(
                predicted, referred, include_background=True, percentile=95, spacing=SPACING_MM
            )[0].tolist()
            nsd += metrics.compute_surface_dice(
                predicted,
                referred,
                [TOLERANCE_MM] * predicted.shape[1],
                include_background=True,
                spacing=SPACING_MM,
                use_subvoxels=True,
            )[0].tolist()
        return {"hd95": hd95, "nsd": nsd, ONE_HOT_S: [sum(one_hot_s)]}

    return score


def nnunet_overlap() -> Callable[[Maps], Scores]:
    """nnU-Net's own counting, class by class, as its `compute_metrics` calls it."""
    evaluation = importlib.import_module("nnunetv2.evaluation.evaluate_predictions")

    def score(maps: Maps) -> Scores:
        prediction, reference, n_classes = maps
        dice: list[float] = []
        for index in range(1, n_classes + 1):
            masks = [evaluation.region_or_label_to_mask(m, index) for m in (reference, prediction)]
            tp, fp, fn, _ = evaluation.compute_tp_fp_fn_tn(*masks)
            dice.append(float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else float("nan"))
        return {"dice": dice}

    return score


def simpleitk_overlap() -> Callable[[Maps], Scores]:
    """SimpleITK's LabelOverlapMeasures, which does all labels in one call."""
    sitk = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def score(maps: Maps) -> Scores:
        prediction, reference, n_classes = maps
        measure = sitk.LabelOverlapMeasuresImageFilter()
        measure.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(prediction))
        return {"dice": [measure.GetDiceCoefficient(n) for n in range(1, n_classes + 1)]}

    return score


def deepmind_surface() -> Callable[[Maps], Scores]:
    """HD95 and surface Dice of surface-distance; its HD95 weights by area, so it may differ."""
    tool = importlib.import_module("surface_distance")

    def score(maps: Maps) -> Scores:
        prediction, reference, n_classes = maps
        hd95: list[float] = []
        nsd: list[float] = []
        for index in range(1, n_classes + 1):
            found = tool.compute_surface_distances(
                reference == index, prediction == index, SPACING_MM
            )
            hd95.append(float(tool.compute_robust_hausdorff(found, 95)))
            nsd.append(float(tool.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)))
        return {"hd95": hd95, "nsd": nsd}

    return score


TOOLS = {
    "voxline-overlap": voxline_overlap,
    "voxline-surface": voxline_surface,
    "monai-overlap": monai_overlap,
    "monai-surface": monai_surface,
    "nnunet-overlap": nnunet_overlap,
    "simpleitk-overlap": simpleitk_overlap,
    "deepmind-surface": deepmind_surface,
}


def main() -> None:
    """Score once or, if that is quick, a few times; print the best time."""
    tool, folder, n_classes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    # Peers warn about empty masks and about their own deprecations.
    warnings.simplefilter("ignore")
    score = TOOLS[tool]()
    maps = np.load(folder / "prediction.npy"), np.load(folder / "reference.npy"), n_classes
    before_mb = _peak_mb()
    times_s: list[float] = []
    scores: Scores = {}
    # CPU time: the machine may be busy with other things.
    while len(times_s) < 5 and sum(times_s) < 10:
        start = time.process_time()
        scores = score(maps)
        times_s.append(time.process_time() - start)
    result = {
        "seconds": min(times_s),
        # At least a page: a peak that importing already reached hides what came after.
        "memory_mb": max(_peak_mb() - before_mb, 1.0),
        "remark": _remark(tool, maps, scores.pop(ONE_HOT_S, [0.0])[0]),
        "scores": scores,
    }
    print(json.dumps(result))


def _one_hot_groups(torch: Any, maps: Maps, spent_s: list[float]) -> Iterator[tuple[Any, Any]]:
    """One-hot maps of as many classes at a time as the memory allows; notes the time they take."""
    prediction, reference, n_classes = maps
    step = _group_size(maps)
    for first in range(1, n_classes + 1, step):
        indices = range(first, min(first + step, n_classes + 1))
        start = time.process_time()
        one_hots = _one_hot(torch, prediction, indices), _one_hot(torch, reference, indices)
        spent_s.append(time.process_time() - start)
        yield one_hots


def _one_hot(torch: Any, label_map: Any, indices: range) -> Any:
    volume = torch.from_numpy(label_map)
    one_hot = torch.empty((1, len(indices), *label_map.shape), dtype=torch.float32)
    for channel, index in enumerate(indices):
        one_hot[0, channel] = volume == index
    return one_hot


def _group_size(maps: Maps) -> int:
    bytes_per_class = 2 * 4 * maps[0].size
    return max(1, min(maps[2], int(MONAI_LIMIT_BYTES / bytes_per_class)))


def _remark(tool: str, maps: Maps, one_hot_s: float) -> str:
    if not tool.startswith("monai"):
        return ""
    whole_gb = 2 * 4 * maps[0].size * maps[2] / 1e9
    n_together = _group_size(maps)
    return (
        f"[{one_hot_s:.2f} s of it for one-hot maps; {n_together} classes at a time, "
        f"maps of all {maps[2]} would be {whole_gb:.1f} GB]"
    )


def _torch() -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


def _names(n_classes: int) -> tuple[str, ...]:
    return tuple(f"class {n}" for n in range(1, n_classes + 1))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
