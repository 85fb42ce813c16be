"""What an evaluation starts from: given by a pipeline run, or found in two folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.core.task import Task
from pipeline.evaluate.pairs import bare_case_id
from pipeline.io.discover import discover, list_volumes

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


def input_from_folders(prediction_dir: Path, reference_dir: Path) -> EvaluationInput:
    """Find out what to score when only two folders are given.

    Args:
        prediction_dir: Folder of label maps that any tool wrote.
        reference_dir: Folder of label files, or a dataset folder that holds one.

    Returns:
        The references, and the images that belong to them if they are found.

    Raises:
        UsageError: If a folder does not exist or there are no labels in the second.
        DataError: If a dataset folder cannot be understood.
    """
    labels = list_volumes(reference_dir)
    if labels:
        name = reference_dir.name
        if _ROLE_NAME.match(name) and reference_dir.parent.name:
            name = reference_dir.parent.name
        images = _images_beside(reference_dir, labels)
        return EvaluationInput(name, prediction_dir, labels, images=images)
    folder = discover(reference_dir)
    references = {case.case_id: case.label for case in folder.cases if case.label is not None}
    if not references:
        raise UsageError(
            "there are no labels to score against",
            where=str(reference_dir),
            fix="give the folder of the label files, such as labelsTr",
        )
    return EvaluationInput(
        folder.name,
        prediction_dir,
        references,
        images={case.case_id: case.images[0] for case in folder.cases},
    )


def _images_beside(label_dir: Path, labels: Mapping[str, Path]) -> dict[str, Path]:
    """Images of a sibling folder named alike: imagesTs for labelsTs. They only make pictures."""
    sibling = label_dir.with_name(re.sub("label", "image", label_dir.name, count=1))
    if sibling == label_dir or not sibling.is_dir():
        return {}
    by_bare_id = {bare_case_id(name): file for name, file in list_volumes(sibling).items()}
    found = {case_id: by_bare_id.get(bare_case_id(case_id)) for case_id in labels}
    return {case_id: file for case_id, file in found.items() if file is not None}
