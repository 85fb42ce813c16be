"""Predictions of a final validation that is not finished: a stop must not cost hours of a CPU."""

import gzip
import hashlib
import logging
import shutil
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from torch import nn

from pipeline.core.workspace import atomic_write
from pipeline.train.disk import try_to_write

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"


class KeptPredictions:
    """The predictions of the first cases, by one model; gone once the validation is done.

    Args:
        folder: `validation` of the fold.
        network: What predicts; predictions of other weights do not count.
    """

    def __init__(self, folder: Path, network: nn.Module) -> None:
        self._folder = folder / UNFINISHED / _digest(network)

    def n_kept(self, n_cases: int) -> int:
        """How many cases, from the first one on, can be read."""
        for index in range(n_cases):
            if self.read(index) is None:
                return index
        return n_cases

    def read(self, index: int) -> Integer[np.ndarray, "i j k"] | None:
        """The prediction of one case; None if it is not there, or torn."""
        file = self._file(index)
        try:
            with gzip.open(file) as stream:
                prediction: Integer[np.ndarray, "i j k"] = np.load(stream, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            logger.warning("%s is damaged and predicted again: %s", file, error)
            return None
        return prediction

    def keep(self, index: int, prediction: Integer[np.ndarray, "i j k"]) -> None:
        """Write the prediction of one case; a full disk costs a warning."""
        file = self._file(index)
        try_to_write(partial(_write, file, prediction), file)

    def _file(self, index: int) -> Path:
        return self._folder / f"case_{index:05d}.npy.gz"


def drop_kept(folder: Path) -> None:
    """Remove them all, also those of other weights.

    Args:
        folder: `validation` of the fold.
    """
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _write(file: Path, prediction: Integer[np.ndarray, "i j k"]) -> None:
    with (
        atomic_write(file, durable=False) as stream,
        gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed,
    ):
        np.save(packed, prediction, allow_pickle=False)


def _digest(network: nn.Module) -> str:
    seen = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().float().numpy().tobytes())
    return seen.hexdigest()
