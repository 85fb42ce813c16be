"""`voxline export`: a trained model in the format of another tool."""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pipeline.core.errors import EXIT_DONE, UsageError, did_you_mean
from pipeline.core.text import some_of
from pipeline.runner.request import Request, with_model

if TYPE_CHECKING:  # imports torch, which takes seconds
    from pipeline.models.checkpoint import Model
    from pipeline.models.export.card import ExportKind

logger = logging.getLogger(__name__)


def run_export(
    request: Request, model: Path | None, kind: str, out: Path | None, *, force: bool
) -> int:
    """Export the model of a work folder, or a model file.

    Args:
        request: What the user asked for.
        model: Model file, if named.
        kind: "bundle", "pt2", "onnx" or "mlflow".
        out: New folder; by default beside the model.
        force: Replace what an earlier export left there.

    Returns:
        Exit status.

    Raises:
        UsageError: If the kind is unknown, the folder exists, or the format cannot hold the model.
        CheckpointError: If the model file is not one.
    """
    _, model_file = with_model(request, model)
    from pipeline.infer.predict import load_model
    from pipeline.models.export.card import ExportKind

    kinds = {str(name): name for name in get_args(ExportKind)}
    if kind not in kinds:
        raise UsageError(f"unknown format '{kind}'", where="--to", fix=did_you_mean(kind, kinds))
    loaded = load_model(model_file)
    default = model_file.parent / "export" / f"{loaded.info.dataset_name}_segmentation_{kind}"
    folder = (out or default).resolve()
    with _new_folder(folder, force=force) as new:
        _write(loaded, model_file, kinds[kind], new)
    if kind == "bundle" and "segmentation" not in folder.name:
        logger.warning(
            "MONAI Label guesses the task from the name of the folder: let it contain "
            "'segmentation'"
        )
    sys.stdout.write(f"{folder}\n")
    return EXIT_DONE


def _write(model: "Model", model_file: Path, kind: "ExportKind", folder: Path) -> None:
    # Each format imports its own packages.
    match kind:
        case "bundle":
            from pipeline.models.export.bundle import write_bundle

            for limit in write_bundle(model, folder):
                logger.info("the bundle differs: %s", limit)
        case "pt2":
            from pipeline.models.export.pt2 import write_pt2

            _say_difference(write_pt2(model, folder))
        case "onnx":
            from pipeline.models.export.onnx import write_onnx

            _say_difference(write_onnx(model, folder))
        case "mlflow":
            from pipeline.models.export.card import write_card
            from pipeline.tracking.package import save_mlflow_model

            card_file = model_file.with_name("model_card.json")
            save_mlflow_model(
                folder,
                model_file,
                n_channels=len(model.info.task.channels),
                card_file=card_file if card_file.is_file() else None,
            )
            write_card(model, folder, "mlflow")


def _say_difference(difference: float) -> None:
    logger.info("read back and run: outputs differ from the network by at most %.1e", difference)


@contextmanager
def _new_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """A folder that takes its name only when it is complete; what was there goes only then.

    Args:
        folder: Final name.
        force: Whether an earlier export may be replaced; anything else never is.

    Yields:
        The empty folder to fill.

    Raises:
        UsageError: If something is there that may not be replaced.
    """
    _check_free(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        if folder.exists():
            _check_nothing_else(folder, new)
            folder.rename(old)
        new.rename(folder)


def _check_nothing_else(folder: Path, new: Path) -> None:
    """Images and predictions may lie beside what is replaced: a bundle looks for them there.

    Raises:
        UsageError: If something would be lost that the new export does not bring.
    """
    written = {file.name for file in new.iterdir()}
    others = sorted(file.name for file in folder.iterdir() if file.name not in written)
    if others:
        raise UsageError(
            f"the folder also holds {some_of(others, 3)}, which this export does not write",
            where=str(folder),
            fix="move that away or delete it, or give another --out",
        )


def _check_free(folder: Path, *, force: bool) -> None:
    from pipeline.models.export.card import CARD_NAME

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise UsageError(
            "there is something at the place of the export",
            where=str(folder),
            fix="give another --out, or --force to replace an earlier export",
        )
    if not (folder / CARD_NAME).is_file():
        raise UsageError(
            f"what is there was not written by 'voxline export' (it has no {CARD_NAME})",
            where=str(folder),
            fix="give another --out; --force replaces earlier exports only",
        )
