"""What nnU-Net's verifier and MONAI's DataAnalyzer say about datasets; runs in their Python.

Started by faults.py and audit_hippocampus.py with the interpreter of an environment of its own:

    python3 -m venv PEERS
    PEERS/bin/pip install torch==2.13.0 nnunetv2==2.8.1 monai==1.6.1

    PEERS/bin/python benchmarks/peers.py {nnunet-sitk|nnunet-nibabel|analyzer} FOLDER...

Every folder is a dataset in nnU-Net's layout. One JSON line per folder goes to stdout: verdict
(error, warning, silent), seconds, and the last words.
"""

import argparse
import contextlib
import importlib
import io
import json
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

READERS = {"nnunet-sitk": "SimpleITKIO", "nnunet-nibabel": "NibabelIO"}
_LAST_WORDS = 160


def main() -> None:
    """Look at every folder with one tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", choices=[*READERS, "analyzer"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pool", action="store_true", help="let nnU-Net start its processes")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of DataAnalyzer")
    given = parser.parse_args()
    if given.tool == "analyzer":
        look = _analyzer(given.workers)
    else:
        look = _verifier(given.tool, is_pool=given.pool)
    for folder in given.folders:
        start_s = time.perf_counter()
        result = look(folder)
        result["seconds"] = time.perf_counter() - start_s
        print(json.dumps({"folder": str(folder), **result}), flush=True)


def _verifier(tool: str, *, is_pool: bool) -> Callable[[Path], dict[str, Any]]:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, str(Path.cwd()))
    # By name: the package is only there in the peers' Python.
    module: Any = importlib.import_module("nnunetv2.experiment_planning.verify_dataset_integrity")

    if not is_pool:
        # The same functions in one process: starting a pool takes longer than the small datasets.
        module.multiprocessing = _OneProcess

    def look(folder: Path) -> dict[str, Any]:
        file = folder / "dataset.json"
        content = json.loads(file.read_text())
        content["overwrite_image_reader_writer"] = READERS[tool]
        file.write_text(json.dumps(content))
        n_processes = multiprocessing.cpu_count()
        return _listen(lambda: module.verify_dataset_integrity(str(folder), n_processes))

    return look


class _OneProcess:
    """Stands for `multiprocessing` and for a pool of one process."""

    @classmethod
    def get_context(cls, _: str) -> type["_OneProcess"]:
        return cls

    @classmethod
    @contextlib.contextmanager
    def Pool(cls, _: int) -> Any:  # noqa: N802  # the name nnU-Net calls
        yield cls

    @staticmethod
    def starmap(function: Callable[..., Any], items: Iterable[Sequence[Any]]) -> list[Any]:
        return [function(*item) for item in items]


def _analyzer(n_workers: int) -> Callable[[Path], dict[str, Any]]:
    module: Any = importlib.import_module("monai.apps.auto3dseg.data_analyzer")

    def analyze(folder: Path) -> None:
        cases = _pairs(folder)
        analyzer = module.DataAnalyzer(
            {"training": cases}, str(folder), output_path="", device="cpu", worker=n_workers
        )
        n_found = analyzer.get_all_case_stats()["stats_summary"]["n_cases"]
        if n_found < len(cases):
            print(f"{len(cases) - n_found} of {len(cases)} cases dropped")

    return lambda folder: _listen(lambda: analyze(folder))


def _pairs(folder: Path) -> list[dict[str, Any]]:
    """Labels with their images, by name."""
    pairs = []
    for label in sorted((folder / "labelsTr").iterdir()):
        stem = label.name.split(".")[0]
        images = sorted((folder / "imagesTr").glob(f"{stem}_*"))
        if images:
            names = [str(image.relative_to(folder)) for image in images]
            image = names if len(names) > 1 else names[0]
            pairs.append({"image": image, "label": str(label.relative_to(folder))})
    return pairs


def _listen(look: Callable[[], object]) -> dict[str, Any]:
    """Run something; say whether it failed, warned or was silent."""
    spoken = io.StringIO()
    handler = logging.StreamHandler(spoken)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    error = ""
    with (
        contextlib.redirect_stdout(spoken),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(record=True),
    ):
        try:
            look()
        except BaseException as problem:  # noqa: BLE001  # whatever stops the tool is its verdict
            error = f"{type(problem).__name__}: {problem}"
    logging.getLogger().removeHandler(handler)
    text = spoken.getvalue()
    says = [line for line in text.splitlines() if "warning" in line.lower() or "dropped" in line]
    verdict = "error" if error else ("warning" if says else "silent")
    words = error or (says[-1] if says else "")
    return {"verdict": verdict, "words": " ".join(words.split())[:_LAST_WORDS]}


if __name__ == "__main__":
    main()
