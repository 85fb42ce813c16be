"""The work on one case in three steps, so that neighbors can be read and written meanwhile."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, UInt

from pipeline.artifacts import PredictionRecord, QualityFlag, SourceStamp
from pipeline.core.errors import VoxlineError
from pipeline.core.volume import Volume
from pipeline.infer.config import InferConfig
from pipeline.infer.opened import OpenModel
from pipeline.infer.predict import case_memory, on_native_grid, prepare_image
from pipeline.infer.probabilities import ProbabilityBuffer
from pipeline.infer.quality import count_classes, quality_flags
from pipeline.infer.records import (
    PREDICTIONS,
    PROBABILITIES,
    Earlier,
    ImageKey,
    case_stamps,
    file_hash,
    grid_hash,
    keep_edited,
    keep_of_other_image,
    write_record,
)
from pipeline.io.channels import Image, load_image
from pipeline.io.discover import CaseFiles
from pipeline.io.nifti import write_nifti
from pipeline.io.store import array_hash
from pipeline.models.device import is_out_of_memory
from pipeline.models.memory import ComputePath, free_memory
from pipeline.models.segment import Segmentation, segment_prepared
from pipeline.transforms.clean import clean_labels

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
MM3_PER_ML = 1000.0
# A case is prepared while another one is computed only if it would fit so many times.
_ROOM_FACTOR = 2


@dataclass(frozen=True)
class ReadCase:
    """An image read from disk.

    Args:
        case: Its files.
        sources: Its files as they were before they were read.
        image: The image.
        key: Its content and place.
        prepared: Network input; None where memory does not allow two cases at a time.
        elapsed_s: Time it took.
    """

    case: CaseFiles
    sources: tuple[SourceStamp, ...]
    image: Image
    key: ImageKey
    prepared: Float32[np.ndarray, "channel i j k"] | None
    elapsed_s: float

    @property
    def case_id(self) -> str:
        """Name of the case."""
        return self.case.case_id


@dataclass(frozen=True)
class SegmentedCase:
    """A case after the network.

    Args:
        read: What it was made from, without the network input.
        segmentation: Class indices.
        probabilities: If they are to be kept.
        elapsed_s: Time since the first step, without waiting.
    """

    read: ReadCase
    segmentation: Segmentation
    probabilities: ProbabilityBuffer | None
    elapsed_s: float

    @property
    def case_id(self) -> str:
        """Name of the case."""
        return self.read.case_id


@dataclass(frozen=True)
class CaseWork:
    """All that the work on any case needs.

    Args:
        opened: The model.
        config: The settings.
        root: Dataset folder.
        out_dir: Where predictions go.
        earlier: What need not be done again.
    """

    opened: OpenModel
    config: InferConfig
    root: Path
    out_dir: Path
    earlier: Earlier

    def run(self, case: CaseFiles) -> PredictionRecord:
        """All three steps, one after the other."""
        return self.save(self.segment(self.read(case)))

    def read(self, case: CaseFiles) -> "ReadCase | PredictionRecord":
        """Read an image, and prepare it where memory allows.

        Args:
            case: Its files.

        Returns:
            The image; or a record, if it was predicted before or cannot be read.
        """
        return self._tried(partial(self._read, case), case.case_id)

    def segment(self, read: "ReadCase | PredictionRecord") -> "SegmentedCase | PredictionRecord":
        """Apply the network.

        Args:
            read: From `read`; a record is passed on.

        Returns:
            The class of every voxel; or a record, if that failed.
        """
        if isinstance(read, PredictionRecord):
            return read
        return self._tried(partial(self._segment, read), read.case_id)

    def save(self, segmented: "SegmentedCase | PredictionRecord") -> PredictionRecord:
        """Clean up, judge and write a prediction, and keep its record.

        Args:
            segmented: From `segment`; a record is kept as it is.

        Returns:
            The record of the case.
        """
        if isinstance(segmented, SegmentedCase):
            segmented = self._tried(partial(self._save, segmented), segmented.case_id)
        record = segmented
        self._drop_left_over(record)
        write_record(self.out_dir, record)
        return record

    def _drop_left_over(self, record: PredictionRecord) -> None:
        """What an earlier run left under this name must not pass for this prediction's."""
        name, predictions = f"{record.case_id}.nii.gz", self.out_dir / PREDICTIONS
        if record.file is None:
            (predictions / name).unlink(missing_ok=True)
        if record.dicom_seg_file is None:
            (predictions / f"{record.case_id}.seg.dcm").unlink(missing_ok=True)
        if record.probabilities_file is None:
            (self.out_dir / PROBABILITIES / name).unlink(missing_ok=True)

    def _tried(self, step: Callable[[], Made], case_id: str) -> Made | PredictionRecord:
        """The result of a step, or the record of a failure that only this case is to blame for."""
        try:
            return step()
        except VoxlineError as error:
            where = f" ({error.where})" if error.where else ""
            return self._failed(case_id, error.what + where, error.fix)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return self._failed(case_id, f"not enough memory for this case: {error}")

    def _failed(self, case_id: str, message: str, fix: str = "") -> PredictionRecord:
        return PredictionRecord(
            case_id=case_id,
            status="failed",
            message=message,
            fix=fix or "use --device cpu, or a machine with more memory",
            model_digest=self.opened.digest,
            settings=self.earlier.settings,
        )

    def _read(self, case: CaseFiles) -> ReadCase | PredictionRecord:
        started_s = time.monotonic()
        edited = keep_edited(self.out_dir, case.case_id)
        if edited is not None:
            logger.warning(
                "%s: its prediction was changed after it was made; it is kept in %s",
                case.case_id,
                edited,
            )
        # Taken first: a file that is replaced meanwhile will be predicted again.
        sources = case_stamps(case, self.root)
        image = load_image(case.images, root=self.root)
        key = (array_hash(image.volume.array), grid_hash(image.facts))
        other = keep_of_other_image(self.out_dir, case.case_id, key)
        if other is not None:
            logger.warning(
                "%s: another image had this name before; its prediction is kept in %s",
                case.case_id,
                other,
            )
        known = self.earlier.of_image(case, key, sources)
        if known is not None:
            return known
        device = self.opened.predictor.device
        path: ComputePath = "cuda" if device.type == "cuda" else "cpu"
        n_bytes = case_memory(self.opened.predictor, image.volume).ram_bytes(path)
        prepared = None
        if _ROOM_FACTOR * n_bytes < free_memory(device).ram:
            prepared = prepare_image(self.opened.predictor, image.volume)
        return ReadCase(case, sources, image, key, prepared, time.monotonic() - started_s)

    def _segment(self, read: ReadCase) -> SegmentedCase:
        started_s = time.monotonic()
        predictor, volume = self.opened.predictor, read.image.volume
        prepared = read.prepared
        if prepared is None:
            prepared = prepare_image(predictor, volume)
        buffer = None
        if self.config.save_probabilities:
            folder = self.out_dir / PROBABILITIES
            buffer = ProbabilityBuffer(folder, predictor.decoding.n_outputs, volume.shape)
        sink = buffer.put if buffer is not None else None
        segmentation = segment_prepared(predictor, prepared, volume.shape, sink=sink)
        elapsed_s = read.elapsed_s + time.monotonic() - started_s
        return SegmentedCase(read, segmentation, buffer, elapsed_s)

    def _save(self, segmented: SegmentedCase) -> PredictionRecord:
        started_s = time.monotonic()
        read, info = segmented.read, self.opened.info
        image, name = read.image, f"{read.case_id}.nii.gz"
        spacing_mm = image.volume.geometry.spacing_mm
        label = segmented.segmentation.labels
        if self.config.cleanup == "auto":
            label = clean_labels(label, info.cleanup, info.task, spacing_mm)
        native = on_native_grid(Volume(label, image.volume.affine), image.native, info.task)
        file = self.out_dir / PREDICTIONS / name
        write_nifti(file, native, like=image.facts)
        if segmented.probabilities is not None:
            segmented.probabilities.write(
                self.out_dir / PROBABILITIES / name, like=file, native=image.native
            )
        seg_name, message = self._write_dicom_seg(read, native)
        counts = count_classes(label, len(info.task.classes))
        voxel_ml = math.prod(spacing_mm) / MM3_PER_ML
        return PredictionRecord(
            case_id=read.case_id,
            status="done",
            file=name,
            seconds=round(segmented.elapsed_s + time.monotonic() - started_s, 3),
            n_class_voxels=tuple(int(n) for n in counts),
            volumes_ml=tuple(float(n) * voxel_ml for n in counts),
            seen_in_training=read.key[0] in info.training_images,
            sources=read.sources,
            message=message,
            content_hash=read.key[0],
            grid_hash=read.key[1],
            file_hash=file_hash(file),
            quality=self._flags(segmented, label),
            computed_on=segmented.segmentation.computed_on,
            probabilities_file=name if segmented.probabilities is not None else None,
            dicom_seg_file=seg_name,
            model_digest=self.opened.digest,
            settings=self.earlier.settings,
        )

    def _flags(
        self, segmented: SegmentedCase, label: UInt[np.ndarray, "i j k"]
    ) -> tuple[QualityFlag, ...]:
        predictor, image = self.opened.predictor, segmented.read.image
        # Along an axis that training did not mirror, networks disagree with themselves anyway.
        is_trained = set(predictor.mirror_axes) <= set(predictor.plan.mirror_axes)
        disagreement = segmented.segmentation.flip_disagreement if is_trained else None
        return quality_flags(
            image.volume,
            label,
            self.opened.info,
            native=image.native,
            flip_disagreement=disagreement,
        )

    def _write_dicom_seg(self, read: ReadCase, native: Volume) -> tuple[str | None, str]:
        """Name of the DICOM-SEG, or why there is none; the prediction counts without it."""
        if self.config.dicom_seg == "off" or read.image.facts.format != "dicom":
            return None, ""
        # pydicom is an extra.
        from pipeline.io.dicom.write_seg import write_dicom_seg

        info, name = self.opened.info, f"{read.case_id}.seg.dcm"
        try:
            write_dicom_seg(
                self.out_dir / PREDICTIONS / name,
                native,
                source_folder=read.case.images[0],
                class_names=info.task.class_names,
                values=[c.source_values[0] for c in info.task.classes],
                model_name=f"{info.dataset_name} {self.opened.digest}",
            )
        except VoxlineError as error:
            return None, f"no DICOM-SEG: {error.what} ({error.fix})"
        return name, ""
