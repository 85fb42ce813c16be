"""`report.html` of the infer stage: what to look at first, volumes, and pictures of cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt

from pipeline.artifacts import ModelInfo, PredictionRecord, Predictions, Task
from pipeline.core.errors import VoxlineError
from pipeline.core.volume import to_ras
from pipeline.infer.quality import quality_line
from pipeline.infer.records import PREDICTIONS
from pipeline.io.channels import load_image
from pipeline.io.discover import CaseFiles, DatasetFolder
from pipeline.io.load import load_volume
from pipeline.reporting.page import format_number, render_page
from pipeline.reporting.pictures import (
    as_small_data_uri,
    busiest_point,
    class_color,
    overlay_figure,
)
from pipeline.reporting.strips import StripChart, Values, strip_chart
from pipeline.reporting.viewer import Overlay, ViewerCase, library_text, license_text, viewer_case

logger = logging.getLogger(__name__)

# Cases drawn; every one costs about half a second and 40 kB.
MAX_PICTURES = 24
# The page stays below 25 MB with this, its pictures and its tables.
MAX_VOLUMES = 8
MAX_VOLUME_BYTES = 10_000_000
# More columns are no table any more; the volumes are in predictions.json as well.
MAX_CLASS_COLUMNS = 12
ALL_WELL, NOT_COMPARED = "nothing unusual", "not compared with training cases"


@dataclass(frozen=True)
class CasePicture:
    """One case as a picture.

    Args:
        case_id: The case.
        line: What is unusual about it.
        is_flagged: Whether anything is.
        uri: Three cuts with the prediction, as a data address.
        volume: The case for the interactive viewer; None if the page has no room for it.
    """

    case_id: str
    line: str
    is_flagged: bool
    uri: str
    volume: ViewerCase | None


def render_predictions(
    predictions: Predictions, info: ModelInfo, folder: DatasetFolder, out_dir: Path
) -> str:
    """Render the page.

    Args:
        predictions: Of all cases.
        info: Of the model.
        folder: Images, to draw some of them.
        out_dir: Where the predictions are.

    Returns:
        A self-contained HTML page.
    """
    done = [r for r in predictions.cases if r.status == "done"]
    # Those that need a look come first, then as many others as fit.
    ordered = sorted(done, key=lambda record: not record.quality)
    pictures = _pictures(ordered[:MAX_PICTURES], info.task, folder, out_dir)
    volumes = [picture.volume for picture in pictures if picture.volume is not None]
    return render_page(
        "infer.html.j2",
        {
            "title": f"Predictions for {predictions.dataset_name}",
            "subtitle": _subtitle(predictions, info),
            "verdict": _verdict(predictions, info),
            "cards": _cards(predictions, info),
            "failed": [r for r in predictions.cases if r.status == "failed"],
            "flagged": [r for r in done if r.quality],
            "has_ranges": info.training_ranges is not None,
            "seen": [r.case_id for r in done if r.seen_in_training],
            "cases": _table(done, info),
            "volume_strips": _strips(done, info.task),
            "pictures": pictures,
            "n_done": len(done),
            "cleanup": predictions.cleanup,
            "volumes": volumes,
            "library": library_text() if volumes else "",
            "license": license_text() if volumes else "",
        },
    )


def class_indices_of(label: Integer[np.ndarray, "i j k"], task: Task) -> UInt[np.ndarray, "i j k"]:
    """Values of a prediction file back to class indices.

    Args:
        label: Values as `to_source_values` gives them.
        task: Classes.

    Returns:
        Class index per voxel; 0 for other values.
    """
    values = [c.source_values[0] for c in task.classes]
    table = np.zeros(max(*values, int(label.max(initial=0)), 0) + 1, dtype=np.uint16)
    for label_class, value in zip(task.classes, values, strict=True):
        table[value] = label_class.index
    return table[label]


def _pictures(
    records: Sequence[PredictionRecord], task: Task, folder: DatasetFolder, out_dir: Path
) -> list[CasePicture]:
    """Draw cases; one that cannot be drawn is left out and named in the log."""
    files = {case.case_id: case for case in folder.cases}
    pictures: list[CasePicture] = []
    n_bytes_left, n_left = MAX_VOLUME_BYTES, MAX_VOLUMES
    for record in records:
        try:
            picture = _picture(
                record, files[record.case_id], task, out_dir, folder.root, has_volume=n_left > 0
            )
        except (VoxlineError, MemoryError) as error:
            logger.warning("no picture of case %s: %s", record.case_id, error)
            continue
        volume = picture.volume
        if volume is not None and volume.n_bytes > n_bytes_left:
            volume = None
        if volume is not None:
            n_left, n_bytes_left = n_left - 1, n_bytes_left - volume.n_bytes
        pictures.append(
            CasePicture(picture.case_id, picture.line, picture.is_flagged, picture.uri, volume)
        )
    return pictures


def _picture(
    record: PredictionRecord,
    case: CaseFiles,
    task: Task,
    out_dir: Path,
    root: Path,
    *,
    has_volume: bool,
) -> CasePicture:
    file = out_dir / PREDICTIONS / str(record.file)
    image = load_image(case.images, root=root)
    _, stored = load_volume(file, root=out_dir, role="label")
    indices = class_indices_of(to_ras(stored).array, task)
    shown = image.volume.array[0]
    spacing_mm = image.volume.geometry.spacing_mm
    png = overlay_figure(
        shown,
        label=indices,
        reference=None,
        spacing_mm=spacing_mm,
        class_names=task.class_names,
    )
    line = quality_line(record.quality)
    volume = None
    if has_volume:
        colors = tuple(class_color(c.index) for c in task.classes)
        overlay = Overlay("prediction", indices, task.class_names, colors)
        volume = viewer_case(
            record.case_id,
            shown,
            [overlay],
            spacing_mm=spacing_mm,
            point=busiest_point([indices]),
            note=line,
        )
    return CasePicture(record.case_id, line, bool(record.quality), as_small_data_uri(png), volume)


def _subtitle(predictions: Predictions, info: ModelInfo) -> str:
    n_models = max(1, len(predictions.model_files))
    model = f"{n_models} models" if n_models > 1 else f"a model (fold {info.fold})"
    n = info.training_ranges.n_cases if info.training_ranges else info.plan.n_train_cases
    return f"by {model} trained on {n} cases of {info.dataset_name}, {predictions.model_digest}"


def _verdict(predictions: Predictions, info: ModelInfo) -> dict[str, str]:
    n_failed = sum(r.status == "failed" for r in predictions.cases)
    n_flagged = sum(bool(r.quality) for r in predictions.cases)
    if n_failed:
        return {"kind": "bad", "text": f"{n_failed} of {len(predictions.cases)} not predicted"}
    if n_flagged:
        return {"kind": "warn", "text": f"{n_flagged} of {len(predictions.cases)} need a look"}
    if info.training_ranges is None:
        return {"kind": "info", "text": NOT_COMPARED}
    return {"kind": "good", "text": ALL_WELL}


def _cards(predictions: Predictions, info: ModelInfo) -> list[dict[str, str]]:
    done = [r for r in predictions.cases if r.status == "done"]
    n_flagged = sum(bool(r.quality) for r in done)
    is_unknown = info.training_ranges is None and not n_flagged
    cards = [
        {"label": "Predicted", "value": str(len(done))},
        {"label": "Need a look", "value": "not known" if is_unknown else str(n_flagged)},
        {"label": "Not predicted", "value": str(len(predictions.cases) - len(done))},
    ]
    seconds = [r.seconds for r in done if r.seconds is not None]
    if seconds:
        median = format_number(float(np.median(seconds)), 2)
        cards.append({"label": "Seconds per case", "value": median, "note": "median"})
    return cards


def _table(done: Sequence[PredictionRecord], info: ModelInfo) -> dict[str, object]:
    names = info.task.class_names[:MAX_CLASS_COLUMNS]
    columns: list[dict[str, object]] = [{"name": "Case"}, {"name": "Check"}]
    columns += [{"name": f"{name}, ml", "is_number": True} for name in names]
    columns += [{"name": "Computed on"}, {"name": "s", "is_number": True, "help": "seconds"}]
    rows = [
        [
            record.case_id,
            _check_cell(record, info),
            *record.volumes_ml[:MAX_CLASS_COLUMNS],
            record.computed_on,
            record.seconds,
        ]
        for record in done
    ]
    return {"columns": columns, "rows": rows}


def _check_cell(record: PredictionRecord, info: ModelInfo) -> dict[str, str]:
    if not record.quality:
        text = NOT_COMPARED if info.training_ranges is None else ALL_WELL
        return {"text": text, "kind": "plain", "sort": "1"}
    kinds = ", ".join(dict.fromkeys(flag.kind for flag in record.quality))
    return {"text": kinds, "kind": "warn", "sort": "0"}


def _strips(done: Sequence[PredictionRecord], task: Task) -> StripChart:
    rows = [
        Values(c.name, class_color(c.index), tuple(r.volumes_ml[c.index - 1] for r in done))
        for c in task.classes
    ]
    return strip_chart(rows, "volume, ml", is_log=True)
