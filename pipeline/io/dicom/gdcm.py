"""Lossless JPEG, decoded by GDCM in a process of its own.

No Python package of the extra knows lossless JPEG (the usual compression of CT archives); SimpleITK
does through GDCM, which dies with a segmentation fault on some damaged streams [seen with mutated
files]. A child process takes the whole series at once, and the fault with it.

Run as a script with a folder, this file is that child: every frame `N.dcm` becomes `N.npy`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
# A 512x512 frame takes a few ms; what takes this long hangs.
_START_S, _FRAME_S = 120, 10
# All that decoding needs; nothing that could name a patient reaches the temporary files.
_DECODING_KEYWORDS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


def gdcm_frames(frames: Sequence[tuple[Any, bytes]]) -> Generator[NDArray[Any] | None, None, None]:
    """Decode compressed frames.

    Args:
        frames: Data set that describes a frame, and its bytes.

    Returns:
        For each frame its voxels (row, column) before any rescaling; None if it is damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n, (dataset, coded) in enumerate(frames):
            _write_single(dataset, coded, folder / f"{n}.dcm")
        _run_child(folder, len(frames))
        for n in range(len(frames)):
            file = folder / f"{n}.npy"
            yield np.load(file) if file.is_file() else None
            file.unlink(missing_ok=True)


def _run_child(folder: Path, n_frames: int) -> None:
    try:
        subprocess.run(  # noqa: S603 - our own interpreter, this file and a folder we made
            [sys.executable, __file__, str(folder)],
            check=False,  # frames that are not there afterwards tell what went wrong
            capture_output=True,
            timeout=_START_S + n_frames * _FRAME_S,
        )
    except subprocess.TimeoutExpired:
        return


def _write_single(dataset: Any, coded: bytes, file: Path) -> None:
    """Write a file of one frame without rescaling, which SimpleITK would apply."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    reduced = Dataset()
    for keyword in _DECODING_KEYWORDS:
        if keyword in dataset:
            reduced.add(dataset[keyword])
    reduced.SOPClassUID = SecondaryCaptureImageStorage
    reduced.SOPInstanceUID = generate_uid()
    reduced.PixelData = encapsulate([coded])
    reduced["PixelData"].is_undefined_length = True
    reduced.file_meta = FileMetaDataset()
    reduced.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    reduced.file_meta.MediaStorageSOPClassUID = reduced.SOPClassUID
    reduced.file_meta.MediaStorageSOPInstanceUID = reduced.SOPInstanceUID
    reduced.save_as(file, enforce_file_format=True)


def decode_folder(folder: Path) -> None:
    """Decode the frames of a folder one after the other (in the child process).

    Args:
        folder: Holds `0.dcm`, `1.dcm`, ...; gets `0.npy`, `1.npy`, ... for those that are sound.
    """
    import SimpleITK

    for n in range(len(list(folder.glob("*.dcm")))):
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(folder / f"{n}.dcm"))
        try:
            image = reader.Execute()
        except RuntimeError:
            continue
        np.save(folder / f"{n}.npy", SimpleITK.GetArrayFromImage(image)[0])
        (folder / f"{n}.dcm").unlink()


if __name__ == "__main__":
    decode_folder(Path(sys.argv[1]))
