"""Write a dataset of CT-sized phantoms, for audit_hippocampus.py where volumes are large.

.venv/bin/python benchmarks/large_dataset.py FOLDER [--cases 8] [--classes 41]
"""

import argparse
import json
from pathlib import Path

import nibabel as nib
from audit_case import AFFINE, phantom


def main() -> None:
    """Write images, labels and dataset.json in Decathlon layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--classes", type=int, default=41)
    given = parser.parse_args()
    for kind in ("imagesTr", "labelsTr"):
        (given.folder / kind).mkdir(parents=True)
    names = [f"phantom_{n:03d}.nii.gz" for n in range(given.cases)]
    for seed, name in enumerate(names):
        for kind, array in zip(
            ("imagesTr", "labelsTr"), phantom(given.classes, seed=seed), strict=True
        ):
            nib.save(nib.Nifti1Image(array, AFFINE), given.folder / kind / name)
    description = {
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(n): f"organ {n}" for n in range(1, given.classes + 1)},
        "numTraining": given.cases,
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        "test": [],
    }
    (given.folder / "dataset.json").write_text(json.dumps(description))


if __name__ == "__main__":
    main()
