"""The planted faults of the tests through our audit, nnU-Net's verifier and MONAI's DataAnalyzer.

PYTHONPATH=tests .venv/bin/python benchmarks/faults.py --peers-python PEERS/bin/python

How to make PEERS stands in peers.py. Without it only our audit runs. Faults with a star are the 24
that were first tried on nnU-Net and MONAI alone. An info of ours does not count as a verdict.
"""

import argparse
import contextlib
import io
import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_builders import Fault, Harmless, all_found, run_audit, write_base
from planted import anatomy, codes, cohorts, files, grids
from planted.harmless import HARMLESS

PEERS = Path(__file__).with_name("peers.py")
TOOLS = ("nnunet-sitk", "nnunet-nibabel", "analyzer")
COLUMNS = ("ours", "nnU-Net, SimpleITK", "nnU-Net, nibabel", "DataAnalyzer")
FAULTS = (*files.FAULTS, *grids.FAULTS, *codes.FAULTS, *anatomy.FAULTS, *cohorts.FAULTS)
FIRST_24 = frozenset(
    {
        *("0, 127 and 254", "unknown class", "float label with noise", "interpolated label"),
        *("another image in the label folder", "label autoscaled", "empty label"),
        *("class missing in one case", "label two slices short", "label 15 mm away"),
        *("label header mirrored", "label without position", "label slices 2.5 instead of 2 mm"),
        *("label voxels pushed by 4", "label voxels mirrored", "NaN inside", "infinity inside"),
        *("constant image", "truncated image", "truncated label", "wrong CRC"),
        *("label with a fourth axis of one", "sheared affine", "image in the label folder"),
    }
)


@dataclass
class Line:
    """One fault or peculiarity, and what each tool says.

    Args:
        name: Of the fault.
        ours: Check ids with severities, the expected ones first.
        is_loud: Whether any of them is an error or a warning.
        peers: Tool to verdict.
    """

    name: str
    ours: str
    is_loud: bool
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)


def main() -> None:
    """Print both tables and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", type=Path, help="Python with nnunetv2 and monai")
    parser.add_argument("--only", help="faults whose name contains this")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bases = _Bases(root / "bases")
        faults = [fault for fault in FAULTS if not given.only or given.only in fault.name]
        harmless = [one for one in HARMLESS if not given.only or given.only in one.name]
        lines = [_run(one, bases, root / "faults") for one in faults]
        quiet = [_run(one, bases, root / "harmless") for one in harmless]
        if given.peers_python:
            for tool in TOOLS:
                _ask_peer(given.peers_python, tool, lines, root / "faults")
                _ask_peer(given.peers_python, tool, quiet, root / "harmless")
    _report("Planted faults", lines, is_fault=True)
    _report("Harmless peculiarities: every verdict is a false alarm", quiet, is_fault=False)


class _Bases:
    """Clean datasets, audited once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def copy(self, name: str, target: Path) -> tuple[Path, Path]:
        """Copy a dataset and its work folder; returns both."""
        source = self._root / name
        if not source.exists():
            write_base(name, source / "data")
            _silently(lambda: run_audit(source / "data", source / "work"))
        shutil.copytree(source, target)
        return target / "data", target / "work"


def _run(one: Fault | Harmless, bases: _Bases, root: Path) -> Line:
    """Plant a fault, audit it, and leave the dataset for the others in nnU-Net's layout."""
    folder = _folder(root, one.name)
    data, work = bases.copy(one.base, folder)
    one.inject(data)
    found = all_found(_silently(lambda: run_audit(data, work, one.settings(data))))
    expected = one.expected if isinstance(one, Fault) else set()
    missing = expected - found
    others = {pair for pair in found - expected if pair[1] != "info"}
    words = [f"{check_id} {severity}" for check_id, severity in sorted(expected - missing)]
    words += [f"MISSED {check_id}" for check_id, _ in sorted(missing)]
    words += [f"({check_id})" for check_id in sorted({i for i, _ in others})]
    shutil.rmtree(work)
    _as_nnunet(data)
    return Line(one.name, ", ".join(words), any(s != "info" for _, s in found))


def _folder(root: Path, name: str) -> Path:
    return root / "".join(c if c.isalnum() else "_" for c in name)


def _silently(do: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return do()


def _as_nnunet(data: Path) -> None:
    """Rename images and write dataset.json as nnU-Net wants them; change nothing else."""
    file = data / "dataset.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    if "channel_names" in content:
        return
    for image in (data / "imagesTr").iterdir():
        stem, _, suffix = image.name.partition(".")
        image.rename(image.with_name(f"{stem}_0000.{suffix}"))
    labels = content.get("labels", {"0": "background", "1": "organ"})
    described = {
        "channel_names": content.get("modality", {"0": "T1"}),
        "labels": {name: int(value) for value, name in labels.items()},
        "numTraining": len(content.get("training", [])) or len(list((data / "labelsTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    file.write_text(json.dumps(described))


def _ask_peer(python: Path, tool: str, lines: Sequence[Line], root: Path) -> None:
    """Let one tool look at every dataset; where it ends its process, start it again behind."""
    by_folder = {str(_folder(root, line.name) / "data"): line for line in lines}
    todo = list(by_folder)
    while todo:
        for folder, answer in _answers(python, tool, todo):
            by_folder[folder].peers[tool] = answer
        left = [folder for folder in todo if tool not in by_folder[folder].peers]
        if left:
            by_folder[left[0]].peers[tool] = {"verdict": "crash", "words": "process ended"}
        todo = left[1:]


def _answers(python: Path, tool: str, folders: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    command = [str(python), str(PEERS), tool, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for text in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            answer = json.loads(text)
            yield answer["folder"], answer


def _report(title: str, lines: Sequence[Line], *, is_fault: bool) -> None:
    tools = [tool for tool in TOOLS if any(tool in line.peers for line in lines)]
    columns = COLUMNS[: 1 + len(tools)]
    print(f"\n{title}\n\n| fault | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for line in lines:
        star = " *" if line.name in FIRST_24 else ""
        cells = [line.ours or "silent", *(line.peers[tool]["verdict"] for tool in tools)]
        print(f"| {line.name}{star} | {' | '.join(cells)} |")
    loud = [sum(line.is_loud for line in lines)]
    loud += [sum(line.peers[tool]["verdict"] != "silent" for line in lines) for tool in tools]
    what = "errors or warnings" if is_fault else "false alarms"
    counts = ", ".join(f"{name} {n}" for name, n in zip(columns, loud, strict=True))
    print(f"\n{what} of {len(lines)}: {counts}")
    first = [line for line in lines if line.name in FIRST_24]
    if is_fault and first:
        some = [sum(line.is_loud for line in first)]
        some += [sum(line.peers[tool]["verdict"] != "silent" for line in first) for tool in tools]
        counts = ", ".join(f"{name} {n}" for name, n in zip(columns, some, strict=True))
        print(f"of the first {len(first)} (*): {counts}")


if __name__ == "__main__":
    main()
