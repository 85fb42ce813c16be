"""What an evaluation starts from: given by a pipeline run, or found in two folders."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.core.task import LabelClass, Task
from pipeline.evaluate.pairs import bare_case_id
from pipeline.io.description import read_description
from pipeline.io.discover import CaseFiles, DatasetFolder, discover, list_volumes
from pipeline.io.labels import plain_labels
from pipeline.io.layouts.class_tables import with_class_table
from pipeline.io.layouts.reading import Reading
from pipeline.io.layouts.tree import (
    IMAGE_WORDS,
    folders_in,
    is_named,
    volumes_in,
    with_label_files,
)

_log = logging.getLogger(__name__)

# A folder of this name says nothing about the data set; the one above it does.
_ROLE_NAME = re.compile(r"^(labels?|masks?|segs?|segmentations?|annotations?|refs?|gt)", re.I)


@dataclass(frozen=True)
class EvaluationInput:
    """Predictions to score and what to score them against.

    Args:
        dataset_name: For reports.
        prediction_dir: Folder of label maps, with the values of the reference files.
        references: Case id to label file; every one is scored, with a prediction or without.
        task: Says which value is which class; None finds out from the references.
        images: Case id to image file, for pictures; may be empty.
        seen_in_training: Cases the model was trained on; reports warn of them.
        unannotated: Case id to the classes that nobody drew in it.
        absent_is_unannotated: Classes that nobody drew in every case whose reference lacks them.
    """

    dataset_name: str
    prediction_dir: Path
    references: Mapping[str, Path]
    task: Task | None = None
    images: Mapping[str, Path] = field(default_factory=dict)
    seen_in_training: tuple[str, ...] = ()
    unannotated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    absent_is_unannotated: tuple[str, ...] = ()


def input_from_folders(
    prediction_dir: Path, reference_dir: Path, *, out_root: Path, layout: str = "auto"
) -> EvaluationInput:
    """Find out what to score when only two folders are given.

    Args:
        prediction_dir: Folder of label maps that any tool wrote.
        reference_dir: Folder of label files, or a dataset folder of any layout.
        out_root: References that are no label maps (a file per class, segments, contours) are
            written to <dataset>/references in it, as label maps.
        layout: How a dataset folder is laid out.

    Returns:
        The references, and the images that belong to them if they are found; with the task where
        references name their structures.

    Raises:
        UsageError: If a folder does not exist or there are no labels in the second.
        DataError: If a dataset folder cannot be understood.
    """
    labels = {} if layout != "auto" else list_volumes(reference_dir)
    if labels:
        images = _images_beside(reference_dir, labels)
        cases = tuple(CaseFiles(case_id, (file,), file) for case_id, file in labels.items())
        folder = _labels_alone(cases, reference_dir)
        return _merged(folder, prediction_dir, out_root, images)
    folder = _dataset(reference_dir, layout)
    images = {case.case_id: case.images[0] for case in folder.cases if case.images}
    return _merged(folder, prediction_dir, out_root, images)


def _dataset(reference_dir: Path, layout: str) -> DatasetFolder:
    """The dataset around the references, or folders of masks without any images."""
    is_part = layout == "auto" and bool(_ROLE_NAME.match(reference_dir.name))
    siblings = folders_in(reference_dir.parent) if is_part and reference_dir.is_dir() else []
    # labels/case/liver.nii.gz and labels/case.dcm need the images they were drawn on.
    is_part = any(is_named(path.name, IMAGE_WORDS) for path in siblings)
    folder = discover(reference_dir.parent if is_part else reference_dir, layout=layout)
    if any(case.label for case in folder.cases):
        return folder
    sets = [path for path in folders_in(reference_dir) if volumes_in(path)]
    cases = tuple(with_label_files(CaseFiles(path.name, (), path)) for path in sets)
    return _labels_alone(cases if all(case.masks for case in cases) else (), reference_dir)


def _labels_alone(cases: tuple[CaseFiles, ...], place: Path) -> DatasetFolder:
    declared = read_description(place).class_values
    reading = with_class_table(Reading("labels", place, "", cases, class_values=declared))
    is_role = _ROLE_NAME.match(place.name) and place.parent.name
    return DatasetFolder(
        root=place,
        name=place.parent.name if is_role else place.name,
        layout=reading.layout,
        reason="labels alone",
        cases=reading.cases,
        problems=reading.problems,
        channel_names=(),
        modality_names=(),
        class_values=reading.class_values,
    )


def _merged(
    folder: DatasetFolder, prediction_dir: Path, out_root: Path, images: Mapping[str, Path]
) -> EvaluationInput:
    references = plain_labels(
        folder.cases, root=folder.root, folder=out_root / folder.name / "references"
    )
    if not references:
        raise UsageError(
            "there are no labels to score against",
            where=str(folder.root),
            fix="give the folder of the label files, such as labelsTr, or a dataset folder",
        )
    return EvaluationInput(
        folder.name,
        prediction_dir,
        references,
        task=_named_task(folder),
        images=images,
    )


def _named_task(folder: DatasetFolder) -> Task | None:
    """The classes of labels that name their structures; their values were given here, not there."""
    if folder.class_values is None or not any(case.label_values for case in folder.cases):
        return None
    values = sorted((numbers, name) for name, numbers in folder.class_values.items())
    _log.info(
        "values of the references: %s; the predictions must use the same (a dataset.json with "
        "'labels' beside the references sets others)",
        ", ".join(f"{name} {numbers[0]}" for numbers, name in values),
    )
    return Task(
        channels=(),
        classes=tuple(
            LabelClass(name=name, index=index, source_values=numbers)
            for index, (numbers, name) in enumerate(values, start=1)
        ),
        ignore_values=folder.ignore_values,
        regions=folder.regions,
    )


def _images_beside(label_dir: Path, labels: Mapping[str, Path]) -> dict[str, Path]:
    """Images of a sibling folder named alike: imagesTs for labelsTs. They only make pictures."""
    sibling = label_dir.with_name(re.sub("label", "image", label_dir.name, count=1))
    if sibling == label_dir or not sibling.is_dir():
        return {}
    by_bare_id = {bare_case_id(name): file for name, file in list_volumes(sibling).items()}
    found = {case_id: by_bare_id.get(bare_case_id(case_id)) for case_id in labels}
    return {case_id: file for case_id, file in found.items() if file is not None}
