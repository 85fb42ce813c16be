"""Whole-volume validation on the source grid: the only Dice that is ever reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer
from torch import nn

from pipeline.artifacts import CaseRecord, Plan, StoredArray, Task
from pipeline.core.errors import DataError
from pipeline.core.geometry import Shape3, spacing_of
from pipeline.core.task import map_label_values
from pipeline.io.store import open_array
from pipeline.metrics.regions import unions_of, with_regions
from pipeline.metrics.scores import CaseScores, score_label_maps
from pipeline.models.predictor import Precision, PredictionOptions, make_predictor
from pipeline.models.segment import segment_prepared
from pipeline.reporting.pictures import busiest_point, overlay_figure
from pipeline.train.guard import ClassShares
from pipeline.train.prepare import PreparedCase


@dataclass(frozen=True)
class ValidationCase:
    """A case to validate on: prepared input, and the reference on the source grid."""

    record: CaseRecord
    prepared: PreparedCase


@dataclass(frozen=True)
class Validator:
    """Predicts whole cases and scores them.

    Args:
        plan: Window size.
        task: Classes.
        work_dir: Work folder with the case store.
        overlap: Window overlap.
        device: Where to compute.
        precision: What a GPU computes in.
    """

    plan: Plan
    task: Task
    work_dir: Path
    overlap: float
    device: torch.device
    precision: Precision = "auto"

    def predict(self, network: nn.Module, case: ValidationCase) -> Integer[np.ndarray, "i j k"]:
        """Class index per voxel of the source grid, RAS."""
        shape = _source_shape(case.record)
        # Mirroring would multiply the time of every validation.
        options = PredictionOptions(overlap=self.overlap, mirror="off", precision=self.precision)
        predictor = make_predictor([network], self.plan, self.task, options, self.device)
        return segment_prepared(predictor, case.prepared.image, shape).labels

    def reference(self, case: ValidationCase) -> Integer[np.ndarray, "i j k"]:
        """Reference class index per voxel of the source grid, RAS."""
        stored = _stored(case.record.label, case.record.case_id)
        return map_label_values(np.asarray(open_array(self.work_dir, stored)), self.task)

    def score(self, network: nn.Module, case: ValidationCase) -> CaseScores:
        """Predict and score one case."""
        return self.compare(case, prediction=self.predict(network, case))

    def compare(
        self, case: ValidationCase, *, prediction: Integer[np.ndarray, "i j k"]
    ) -> CaseScores:
        """Score a prediction that was made before; unions of classes that are outputs as well."""
        image = _stored(case.record.image, case.record.case_id)
        scores = score_label_maps(
            case.record.case_id,
            prediction=prediction,
            reference=self.reference(case),
            class_names=self.task.class_names,
            spacing_mm=spacing_of(np.array(image.affine)),
            ignore_index=self.task.ignore_index,
            not_annotated=case.record.unannotated,
        )
        return with_regions(scores, unions_of(self.task))

    def picture(self, network: nn.Module, case: ValidationCase) -> bytes:
        """PNG of the prediction, the reference dashed; a case is always cut at the same place."""
        image = _stored(case.record.image, case.record.case_id)
        reference = self.reference(case)
        if self.task.ignore_index is not None:
            reference = np.where(reference == self.task.ignore_index, 0, reference)
        return overlay_figure(
            np.asarray(open_array(self.work_dir, image)[0], dtype=np.float32),
            label=self.predict(network, case),
            reference=reference.astype(np.uint8),
            spacing_mm=spacing_of(np.array(image.affine)),
            class_names=self.task.class_names,
            point=busiest_point([reference]),
            is_point_marked=False,
            title=case.record.case_id,
        )


def pooled_dice(scores: Sequence[CaseScores], class_names: Sequence[str]) -> float:
    """Mean over classes of the Dice of all voxels of all cases together.

    Smoother over time than the mean over cases, hence what the best checkpoint is chosen by. A
    class without a voxel in any prediction or reference is left out.

    Args:
        scores: Scored cases.
        class_names: Foreground classes.

    Returns:
        Pooled Dice, 0 if nothing was there to score.
    """
    values = []
    for name in class_names:
        found = [s for case in scores if (s := case.of_class(name)) is not None]
        overlap = sum(s.n_true_positive for s in found)
        either = 2 * overlap + sum(s.n_false_positive + s.n_false_negative for s in found)
        if either:
            values.append(2 * overlap / either)
    return float(np.mean(values)) if values else 0.0


def predicted_shares(
    scores: Sequence[CaseScores], cases: Sequence[ValidationCase], class_names: Sequence[str]
) -> dict[str, ClassShares]:
    """How much of the validation images each class takes, predicted and in truth.

    Cases in which nobody drew a class are left out for it.

    Args:
        scores: Scored cases.
        cases: The same cases in the same order.
        class_names: Foreground classes.

    Returns:
        Shares of all voxels together, per class.
    """
    shares = {}
    for name in class_names:
        found = [s for case in scores if (s := case.of_class(name)) is not None]
        n_voxels = sum(
            math.prod(_source_shape(case.record))
            for case in cases
            if name not in case.record.unannotated
        )
        predicted = sum(s.n_true_positive + s.n_false_positive for s in found)
        reference = sum(s.n_true_positive + s.n_false_negative for s in found)
        shares[name] = ClassShares(predicted / max(1, n_voxels), reference / max(1, n_voxels))
    return shares


def _stored(array: StoredArray | None, case_id: str) -> StoredArray:
    if array is None:
        raise DataError("the case has no image or no label", where=f"case {case_id}")
    return array


def _source_shape(record: CaseRecord) -> Shape3:
    i, j, k = _stored(record.image, record.case_id).shape[-3:]
    return i, j, k
