"""The network as an ONNX file, for ONNX Runtime and whatever else reads it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import UsageError
from pipeline.models.checkpoint import Model
from pipeline.models.export.card import CARD_NAME, INPUT_NAME, OUTPUT_NAME, write_card
from pipeline.models.export.windows import check_outputs, example_windows

ONNX_NAME = "model.onnx"


def write_onnx(model: Model, folder: Path) -> float:
    """Export the network for any number of windows of the size of a training patch.

    Args:
        model: From `load_model`, on the CPU.
        folder: Gets model.onnx and voxline.json; exists. The same text is inside the file too.

    Returns:
        Largest difference between an output of the network and of ONNX Runtime.

    Raises:
        UsageError: If the packages for it are not installed.
        CheckpointError: If ONNX Runtime does not give what the network gives.
    """
    _check_installed()
    card = write_card(model, folder, "onnx")
    file = folder / ONNX_NAME
    example = torch.zeros_like(example_windows(model.info, 2))
    with _quiet_exporter():
        program = torch.onnx.export(
            model.network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    if program is None:
        raise UsageError("torch has not made an ONNX program", where=str(file))
    program.model.metadata_props[CARD_NAME] = card.model_dump_json()
    program.save(file, external_data=False)
    return check_outputs(model, _session(file), where=str(file))


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401  # only to see whether it is there
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the export to ONNX needs the package {error.name}",
            where="voxline export --to onnx",
            fix="install the extra: pip install 'voxline[export]'",
        ) from None


def _session(file: Path) -> Callable[[Tensor], Tensor]:
    """The file in ONNX Runtime on the CPU, taking and giving torch tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(windows: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: windows.numpy()})
        return torch.from_numpy(logits)

    return run


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep torch's notes on its own deprecations and on absent torchvision from the terminal."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        exporter.setLevel(level)
