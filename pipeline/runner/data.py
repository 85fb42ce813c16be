"""`voxline data`: the ten public data sets of the Medical Segmentation Decathlon."""

import json
import logging
import sys
from pathlib import Path

from pipeline.core.errors import EXIT_DONE, DataError, UsageError, did_you_mean
from pipeline.core.text import some_of
from pipeline.io.archive import Limits, unpack
from pipeline.io.download import Source, fetch

logger = logging.getLogger(__name__)

# Open data on AWS (registry.opendata.aws/msd), CC BY-SA 4.0; addresses and MD5 as MONAI 1.6.1 has
# them in `monai.apps.DecathlonDataset`.
_PLACE = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
MD5 = {
    "Task01_BrainTumour": "240a19d752f0d9e9101544901065d872",
    "Task02_Heart": "06ee59366e1e5124267b774dbd654057",
    "Task03_Liver": "a90ec6c4aa7f6a3d087205e23d4e6397",
    "Task04_Hippocampus": "9d24dba78a72977dbd1d2e110310f31b",
    "Task05_Prostate": "35138f08b1efaef89d7424d2bcc928db",
    "Task06_Lung": "8afd997733c7fc0432f71255ba4e52dc",
    "Task07_Pancreas": "4f7080cfca169fa8066d17ce6eb061e4",
    "Task08_HepaticVessel": "641d79e80ec66453921d997fbf12a29c",
    "Task09_Spleen": "410d4a301da4e5b2f6f86ec3ddba524e",
    "Task10_Colon": "bad7a188931dc2f6acf72b08eb6202d0",
}
# Archive and unpacked data lie side by side for a while, and are about equally large.
_ROOM_FACTOR = 2.05


def run_data(name: str, to: Path, url: str | None = None, *, md5: str | None = None) -> int:
    """Fetch and unpack a data set; prints its folder.

    Args:
        name: Such as "Task04_Hippocampus".
        to: Folder that gets a folder of that name.
        url: Another place of the same archive; file:// is taken as it lies there.
        md5: Checksum of an archive that differs from the public one.

    Returns:
        Exit status.

    Raises:
        UsageError: If there is no such data set, or too little room on the disk.
        DataError: If the archive cannot be fetched or is not what it should be.
    """
    if name not in MD5:
        raise UsageError(f"there is no data set '{name}'", fix=did_you_mean(name, MD5))
    target = to.absolute() / name
    if target.exists():
        _check_complete(target)
        logger.info("%s is there already and complete", target)
    else:
        _fetch_and_unpack(Source(url or f"{_PLACE}/{name}.tar", md5 or MD5[name]), target)
    sys.stdout.write(f"{target}\n")
    return EXIT_DONE


def _fetch_and_unpack(source: Source, target: Path) -> None:
    source = Source(source.url, source.md5, room_factor=_ROOM_FACTOR)
    logger.info("from %s", source.url)
    own = target.with_name(f"{target.name}.tar")
    archive = fetch(source, own)
    unpack(archive, target, Limits())
    if archive == own:
        own.unlink()
        logger.info("unpacked; the archive is deleted")


def _check_complete(target: Path) -> None:
    """Every training file that dataset.json lists must be there; test images may be taken away."""
    description = target / "dataset.json"
    try:
        content = json.loads(description.read_text(encoding="utf-8-sig"))
        pairs = [(item["image"], item["label"]) for item in content["training"]]
        names = [str(name) for pair in pairs for name in pair]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"dataset.json cannot be used: {type(error).__name__}"
        raise _incomplete(target, why) from None
    missing = [name for name in names if not (target / name).is_file()]
    if missing:
        why = f"{len(missing)} of {len(names)} files are missing: {some_of(missing, 3)}"
        raise _incomplete(target, why)


def _incomplete(target: Path, why: str) -> DataError:
    return DataError(
        f"the folder is not the whole data set: {why}",
        where=str(target),
        fix="move it away and run again, or name another folder with --to",
    )
