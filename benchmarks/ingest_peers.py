"""Preprocessing as nnU-Net and MONAI do it, case by case on one core; runs in the peers' Python.

Started by ingest.py. Everything happens in this one process: nnU-Net's pools are replaced by
calls, so that the time to start processes counts for nobody. One JSON line with seconds goes to
stdout, and the arrays are left in OUT for comparison:

    PEERS/bin/python benchmarks/ingest_peers.py {nnunet|monai} DATASET OUT [--limit N]
"""

import argparse
import contextlib
import importlib
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

_NAME = "Dataset004_Benchmark"


def main() -> None:
    """Run one tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", choices=["nnunet", "monai"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=None)
    given = parser.parse_args()
    pairs = _pairs(given.dataset)[: given.limit]
    run = _nnunet if given.tool == "nnunet" else _monai
    with contextlib.redirect_stdout(sys.stderr):
        result = run(given.dataset, pairs, given.out)
    print(json.dumps({"tool": given.tool, "n_cases": len(pairs), **result}))


def _pairs(dataset: Path) -> list[tuple[Path, Path]]:
    content = json.loads((dataset / "dataset.json").read_text())
    return sorted((dataset / c["image"], dataset / c["label"]) for c in content["training"])


class _Answer:
    """A result that is there already."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def ready(self) -> bool:
        return True

    def get(self) -> Any:
        return self._value


class _OneProcess:
    """Stands for `multiprocessing` and for a pool, and works here and now."""

    _pool: Sequence[Any] = ()

    @classmethod
    def get_context(cls, _: str) -> type["_OneProcess"]:
        return cls

    @classmethod
    @contextlib.contextmanager
    def Pool(cls, _: int) -> Any:  # noqa: N802  # the name nnU-Net calls
        yield cls

    @staticmethod
    def starmap_async(function: Callable[..., Any], items: Sequence[Sequence[Any]]) -> _Answer:
        return _Answer([function(*item) for item in items])


def _nnunet(dataset: Path, pairs: Sequence[tuple[Path, Path]], out: Path) -> dict[str, Any]:
    for name in ("raw", "preprocessed", "results"):
        (out / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(out / name)
    _link_raw(dataset, pairs, out / "raw" / _NAME)
    import torch

    torch.set_num_threads(1)
    # By name: these packages are only there in the peers' Python.
    extractor: Any = importlib.import_module(
        "nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor"
    )
    preprocessor: Any = importlib.import_module(
        "nnunetv2.preprocessing.preprocessors.default_preprocessor"
    )
    api: Any = importlib.import_module("nnunetv2.experiment_planning.plan_and_preprocess_api")
    # The waiting loops of the pools would sleep a tenth of a second each time.
    for module in (extractor, preprocessor):
        module.multiprocessing, module.sleep = _OneProcess, lambda _: None
    steps = {
        "fingerprint": lambda: api.extract_fingerprint_dataset(4, num_processes=1, verbose=False),
        "plan": lambda: api.plan_experiment_dataset(4),
        "preprocess": lambda: api.preprocess_dataset(
            4, configurations=("3d_fullres",), num_processes=(1,), verbose=False
        ),
    }
    seconds = {name: _timed(step) for name, step in steps.items()}
    _export_nnunet(out / "preprocessed" / _NAME, out / "arrays")
    return {"seconds": seconds}


def _link_raw(dataset: Path, pairs: Sequence[tuple[Path, Path]], raw: Path) -> None:
    content = json.loads((dataset / "dataset.json").read_text())
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for image, label in pairs:
        stem = image.name.removesuffix(".nii.gz")
        (raw / "imagesTr" / f"{stem}_0000.nii.gz").symlink_to(image)
        (raw / "labelsTr" / f"{stem}.nii.gz").symlink_to(label)
    labels = {name: int(value) for value, name in content["labels"].items()}
    description = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": len(pairs),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))


def _export_nnunet(folder: Path, out: Path) -> None:
    import blosc2
    import numpy as np

    out.mkdir()
    for file in sorted(folder.glob("*_3d_fullres/*.pkl")):
        properties = pickle.loads(file.read_bytes())  # noqa: S301  # written a minute ago, here
        image = np.asarray(blosc2.open(str(file.with_suffix(".b2nd")), mode="r")[:])
        label = np.asarray(blosc2.open(f"{str(file)[:-4]}_seg.b2nd", mode="r")[:])
        np.savez(
            out / f"{file.stem}.npz",
            # Its arrays run (k, j, i).
            image=image[0].transpose(2, 1, 0),
            label=label[0].transpose(2, 1, 0),
            box=np.array(properties["bbox_used_for_cropping"])[::-1],
        )


def _monai(_: Path, pairs: Sequence[tuple[Path, Path]], out: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        Spacingd,
    )

    torch.set_num_threads(1)
    keys = ("image", "label")
    chain = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            NormalizeIntensityd("image"),
        ]
    )
    (out / "arrays").mkdir(parents=True)
    elapsed_s = 0.0
    cases = [{"image": str(image), "label": str(label)} for image, label in pairs]
    chain(cases[0])  # the first call imports what is imported late
    for case in cases:
        start_s = time.process_time()
        done: Any = chain(case)
        elapsed_s += time.process_time() - start_s
        stem = Path(case["image"]).name.removesuffix(".nii.gz")
        np.savez(
            out / "arrays" / f"{stem}.npz",
            image=done["image"].numpy()[0],
            label=done["label"].numpy()[0],
        )
    return {"seconds": {"chain": elapsed_s}}


def _timed(step: Callable[[], object]) -> float:
    start_s = time.process_time()
    step()
    return time.process_time() - start_s


if __name__ == "__main__":
    main()
