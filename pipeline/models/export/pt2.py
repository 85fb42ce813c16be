"""The network as a `torch.export` program: runs without the code of MONAI or of this project."""

from pathlib import Path

import torch

from pipeline.models.checkpoint import Model
from pipeline.models.export.card import CARD_NAME, write_card
from pipeline.models.export.windows import check_outputs, example_windows

PT2_NAME = "model.pt2"


def write_pt2(model: Model, folder: Path) -> float:
    """Export the network for any number of windows of the size of a training patch.

    Args:
        model: From `load_model`, on the CPU.
        folder: Gets model.pt2 and voxline.json; exists. The same text is inside the file too.

    Returns:
        Largest difference between an output of the network and of the file, read back and run.

    Raises:
        CheckpointError: If the file does not give what the network gives.
    """
    card = write_card(model, folder, "pt2")
    file = folder / PT2_NAME
    # Two windows: a single one would be taken for the only number there is.
    example = torch.zeros_like(example_windows(model.info, 2))
    program = torch.export.export(
        model.network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    torch.export.save(program, file, extra_files={CARD_NAME: card.model_dump_json()})
    return check_outputs(model, torch.export.load(file).module(), where=str(file))
